"""Fields of requests that several APIs share, and what they mean as options of the library."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec

from pyqwen.results import Chunk, Completion, TokenLogprob
from pyqwen.serve.errors import ApiError

RawJson = dict[str, Any]


class Adapter(msgspec.Struct):
    """llama.cpp's choice of an adapter: its number in /lora-adapters, and the factor."""

    id: int
    scale: float


class Sampling(msgspec.Struct, kw_only=True):
    """Settings under OpenAI's and llama.cpp's names; None: the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float | bool] | list[tuple[int | str, float | bool]] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    top_n_sigma: float | None = None
    lora: list[Adapter] | None = None

    def options(self) -> dict[str, Any]:
        """As keywords of the library; a word of ``logit_bias`` is left as a text."""
        names = (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "typical_p",
            "presence_penalty",
            "frequency_penalty",
            "ignore_eos",
        )
        options = {name: getattr(self, name) for name in names}
        options["repetition_penalty"] = (
            self.repetition_penalty if self.repetition_penalty is not None else self.repeat_penalty
        )
        options["seed"] = self.seed if self.seed is None or self.seed >= 0 else None
        options["stop"] = stops(self.stop)
        options["logit_bias"] = _biases(self.logit_bias)
        for name, off in _OFF.items():
            value = getattr(self, name)
            options[name] = None if value in off else value
        if self.dry_multiplier in (None, 0):
            options["dry_base"] = options["dry_allowed_length"] = None
        if self.xtc_probability in (None, 0):
            options["xtc_threshold"] = None
        options["lora"] = self.lora
        return options


# Values with which a setting does nothing: clients that send everything send these.
_OFF: dict[str, tuple[float | None, ...]] = {
    "dry_multiplier": (None, 0),
    "dry_base": (None,),
    "dry_allowed_length": (None,),
    "xtc_probability": (None, 0),
    "xtc_threshold": (None,),
    "top_n_sigma": (None, 0, -1),
}


def stops(stop: str | list[str] | None) -> list[str] | None:
    """Stop strings as a list; empty ones, which some clients send, are none."""
    texts = [stop] if isinstance(stop, str) else stop or []
    if len(texts) > 64:
        raise ApiError(400, "there are more than 64 stop strings", param="stop")
    return [text for text in texts if text] or None


def _biases(
    bias: dict[str, float | bool] | list[tuple[int | str, float | bool]] | None,
) -> dict[int | str, float] | None:
    if not bias:
        return None
    pairs = list(bias.items()) if isinstance(bias, dict) else bias
    result: dict[int | str, float] = {}
    for token, value in pairs:
        key = int(token) if isinstance(token, str) and token.lstrip("-").isdigit() else token
        if value is True:
            raise ApiError(400, "a bias is a number, or false", param="logit_bias")
        result[key] = float("-inf") if value is False else float(value)
    return result


def biases_of_tokens(options: dict[str, Any], encode: Any) -> None:
    """llama.cpp lets a bias name a text: its tokens get it."""
    given = options.get("logit_bias")
    if given:
        options["logit_bias"] = {
            token: value
            for key, value in given.items()
            for token in ([key] if isinstance(key, int) else encode(key))
        }


def new_id(prefix: str) -> str:
    return prefix + secrets.token_hex(12)


def now() -> int:
    return int(time.time())


def version() -> str:
    from importlib.metadata import version as installed

    return installed("pyqwen")


def fingerprint() -> str:
    """What answers depend on besides the request; llama.cpp's begin with a b, too."""
    return f"b{version()}-pyqwen"


def timings(done: Completion) -> dict[str, Any]:
    """Under llama.cpp's names."""
    read = done.usage.prompt_tokens - done.usage.cached_tokens
    written = done.usage.completion_tokens
    prompt_ms = done.timings.prompt_seconds * 1e3
    predicted_ms = done.timings.decode_seconds * 1e3
    return {
        "cache_n": done.usage.cached_tokens,
        "prompt_n": read,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / read if read else 0.0,
        "prompt_per_second": done.timings.prompt_tokens_per_second,
        "predicted_n": written,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / written if written else 0.0,
        "predicted_per_second": done.timings.decode_tokens_per_second,
        "draft_n": done.timings.drafted,
        "draft_n_accepted": done.timings.accepted,
    }


def openai_usage(prompt: int, written: int, cached: int, thoughts: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def chat_logprobs(logprobs: list[TokenLogprob] | None) -> dict[str, Any] | None:
    """Log-probabilities as chat completions have them."""
    if logprobs is None:
        return None
    return {"content": [_logprob(one, with_top=True) for one in logprobs], "refusal": None}


def _logprob(one: TokenLogprob, *, with_top: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "token": one.text,
        "logprob": one.logprob,
        "bytes": list(one.bytes),
        "id": one.token_id,
    }
    if with_top:
        entry["top_logprobs"] = [_logprob(other, with_top=False) for other in one.top]
    return entry


llama_logprob = _logprob


def finish_reason(done: Completion | Chunk) -> str:
    """OpenAI's word for why an answer ended."""
    reason = str(done.finish_reason)
    return {"cancelled": "stop", "timeout": "length"}.get(reason, reason)
