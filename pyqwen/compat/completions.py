"""Texts that go on: ``Llama.create_completion``, whole or in chunks, in llama-cpp-python's shape."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pyqwen.compat.llama_cache import BaseLlamaCache, longest_token_prefix
from pyqwen.compat.llama_grammar import constraint_of
from pyqwen.compat.notices import warn_once
from pyqwen.compat.processors import Watch
from pyqwen.compat.sampling import sampling_options
from pyqwen.compat.state import LlamaState, State, check_room
from pyqwen.errors import UnsupportedModelError

if TYPE_CHECKING:
    from pyqwen.compat.llama_grammar import LlamaGrammar
    from pyqwen.compat.llama_types import (
        CompletionLogprobs,
        CreateCompletionResponse,
        CreateCompletionStreamResponse,
    )
    from pyqwen.engine.stream import Stream
    from pyqwen.results import Completion, TokenLogprob


class Completions(State):
    """A part of :class:`pyqwen.compat.Llama`."""

    cache: BaseLlamaCache | None
    spm_infill: bool

    def set_cache(self, cache: BaseLlamaCache | None) -> None:
        """Take a cache of states. The model's own prefix cache works with and without."""
        if cache is not None and not isinstance(cache, BaseLlamaCache):
            raise TypeError(f"cache must be a LlamaRAMCache or None, not {type(cache).__name__}")
        self.cache = cache

    def create_completion(
        self,
        prompt: str | list[int],
        suffix: str | None = None,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        logprobs: int | None = None,
        echo: bool = False,
        stop: str | list[str] | None = [],  # noqa: B006  as there; never changed
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: int | None = None,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        stopping_criteria: Any = None,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        logit_bias: dict[int, float] | None = None,
    ) -> CreateCompletionResponse | Iterator[CreateCompletionStreamResponse]:
        """Continue a text, or ids.

        ``max_tokens`` None or not above 0: as many as fit. ``suffix``: what follows the text to be written,
        for models that were taught to fill in. ``logprobs``: with so many likely tokens (at most 20) in the
        place of each; ``logits_all`` is not needed for it. ``echo``: the prompt stands before the answer
        (not in streams). ``model``: the name in what is returned.

        Raises ``ContextOverflowError``, a ``ValueError``, for a prompt that leaves no room.
        """
        options = sampling_options(
            temperature=temperature,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            top_k=top_k,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            repeat_penalty=repeat_penalty,
            tfs_z=tfs_z,
            mirostat_mode=mirostat_mode,
            stop=stop,
            logit_bias=logit_bias,
        )
        watch = Watch(logits_processor, stopping_criteria, self.n_vocab())
        more: dict[str, Any] = {
            "max_tokens": limit_of(max_tokens),
            "response_format": constraint_of(grammar),
            "logits_processor": watch.hook(),
            **self._adapter,
        }
        if logprobs is not None and logprobs is not False:
            more |= {"logprobs": True, "top_logprobs": 1 if logprobs is True else logprobs}
            more["prompt_logprobs"] = bool(echo) and not stream
        call = _Call(self, prompt, suffix, bool(echo) and not stream, model, watch)
        call.begin({**options, **more}, seed)
        return call.chunks() if stream else call.whole()

    __call__ = create_completion

    def _look_up(self, ids: list[int]) -> None:
        """Take the state of the cache that begins as the prompt does, if it has more in common."""
        if self.cache is None:
            return
        try:
            state: LlamaState = self.cache[ids]
        except KeyError:
            return
        held = longest_token_prefix(state.input_ids.tolist(), ids)
        if held > longest_token_prefix(self._tokens, ids):
            self.load_state(state)

    def _note(self, tokens: list[int]) -> None:
        """Keep what was read and written as the state now."""
        self._tokens = tokens
        if self.cache is not None:
            self.cache[tokens] = self._state_of(b"")


def limit_of(max_tokens: int | None) -> int | None:
    """``max_tokens`` as pyqwen has it."""
    return None if isinstance(max_tokens, int) and max_tokens <= 0 else max_tokens


def new_head(kind: str, model: str, prefix: str = "cmpl-") -> dict[str, Any]:
    """What every dict of one answer begins with."""
    return {
        "id": f"{prefix}{uuid.uuid4()}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def usage_of(done: Completion, written: int) -> dict[str, int]:
    """Tokens read and written."""
    read = done.usage.prompt_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


@dataclass
class _Call:
    """One completion."""

    llama: Completions
    prompt: Any
    suffix: Any
    echo: bool
    name: str | None
    watch: Watch

    def begin(self, options: dict[str, Any], seed: int | None) -> None:
        """Hand it to the engine; raises what is wrong with it."""
        llama = self.llama
        model = llama.pyqwen_model
        self.head = new_head(
            "text_completion", llama.model_path if self.name is None else self.name
        )
        self.ids = self._prompt_ids()
        check_room(len(self.ids), llama.n_ctx())
        room = llama.n_ctx() - len(self.ids)
        limit = options["max_tokens"]
        if limit is None or (isinstance(limit, int) and limit > room):
            options["max_tokens"] = room
        llama._look_up(self.ids)
        options["seed"] = llama._seeds.take(seed)
        self.appended = ""
        filling = self._filling(options) if self.suffix is not None else None
        self.fills = filling is not None
        self.running: Stream[Completion] = filling or model.stream(self.ids, **cast(Any, options))
        self.watch.attach(self.running)

    def _prompt_ids(self) -> list[int]:
        llama = self.llama
        if isinstance(self.prompt, str):
            ids = llama.tokenize(self.prompt.encode("utf-8", "surrogatepass"), special=True)
        else:
            ids = _ids(self.prompt)
        if not ids and llama.token_bos() >= 0:
            ids = [llama.token_bos()]
        if not ids:
            raise ValueError("the prompt is empty; the model needs at least one token")
        return ids

    def _filling(self, options: dict[str, Any]) -> Stream[Completion] | None:
        """What writes the text before the suffix; None if the model cannot, and the suffix is put behind."""
        if not isinstance(self.prompt, str) or not isinstance(self.suffix, str):
            raise TypeError("suffix needs a prompt and a suffix that are texts")
        try:
            return self.llama.pyqwen_model.stream_infill(
                self.prompt, self.suffix, **cast(Any, options)
            )
        except UnsupportedModelError:
            warn_once("suffix", "this model cannot fill in: the suffix is put behind the answer")
            self.appended = self.suffix
            return None

    def whole(self) -> CreateCompletionResponse:
        """Wait for the answer."""
        with self.running as stream:
            done = stream.result()
        count = self._count(done)
        text = done.text if count == len(done.token_ids) else self._decode(done.token_ids[:count])
        before = self._prompt_text() if self.echo else ""
        choice = {
            "text": before + text + self.appended,
            "index": 0,
            "logprobs": self._logprobs(done, count, before),
            "finish_reason": self._reason(done),
        }
        self._finish(done, count)
        return cast(
            "CreateCompletionResponse",
            {**self.head, "choices": [choice], "usage": usage_of(done, count)},
        )

    def chunks(self) -> Iterator[CreateCompletionStreamResponse]:
        """The answer in pieces, and a last one that says why it ended."""
        offset = len(self.prompt) if isinstance(self.prompt, str) else 0
        sent = ""
        tokens: list[int] = []
        with self.running as stream:
            for chunk in stream:
                text, ids = chunk.text, chunk.token_ids
                logprobs = list(chunk.logprobs) if chunk.logprobs is not None else None
                end = self.watch.written
                is_cut = end is not None and len(tokens) + len(ids) > end
                if is_cut:
                    ids = ids[: cast(int, end) - len(tokens)]
                    text = self._decode([*tokens, *ids])[len(sent) :]
                    logprobs = logprobs[: len(ids)] if logprobs is not None else None
                tokens += ids
                if text or logprobs:
                    entries = _legacy(logprobs, offset + len(sent)) if logprobs else None
                    yield self._chunk(text, entries)
                sent += text
                if is_cut:
                    break
        done = stream.completion
        yield self._chunk("", None, self._reason(done))
        self._finish(done, self._count(done))

    def _chunk(
        self, text: str, logprobs: CompletionLogprobs | None, reason: str | None = None
    ) -> CreateCompletionStreamResponse:
        choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": reason}
        return cast("CreateCompletionStreamResponse", {**self.head, "choices": [choice]})

    def _count(self, done: Completion) -> int:
        """How many tokens are the answer: those before a criterion ended it."""
        end, written = self.watch.written, len(done.token_ids)
        return written if end is None else min(written, end)

    def _reason(self, done: Completion) -> Literal["stop", "length"]:
        return "length" if done.finish_reason == "length" else "stop"

    def _finish(self, done: Completion, count: int) -> None:
        if not self.fills:
            self.llama._note([*self.ids, *done.token_ids[:count]])

    def _decode(self, tokens: Sequence[int]) -> str:
        return self.llama.pyqwen_tokenizer.decode(tokens)

    def _prompt_text(self) -> str:
        return self.prompt if isinstance(self.prompt, str) else self._decode(self.ids)

    def _logprobs(self, done: Completion, count: int, before: str) -> CompletionLogprobs | None:
        if done.logprobs is None:
            return None
        written = done.logprobs[:count]
        if not self.echo:
            return _legacy(written, len(self.prompt) if isinstance(self.prompt, str) else 0)
        read = list(done.prompt_logprobs or ())
        ids = self.ids
        if ids[0] == self.llama.token_bos():
            ids, read = ids[1:], read[1:]
        entries = _legacy([*(read or [None] * len(ids)), *written], 0, self._pieces(ids))
        if entries["tokens"]:  # of the first there is none
            entries["token_logprobs"][0] = entries["top_logprobs"][0] = None
        return entries

    def _pieces(self, ids: list[int]) -> list[str]:
        tokenizer = self.llama.pyqwen_tokenizer
        return [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]


def _ids(prompt: Any) -> list[int]:
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise TypeError(f"prompt must be a text or token ids, not {type(prompt).__name__}")
    return list(prompt)


def _legacy(
    entries: Sequence[TokenLogprob | None], offset: int, pieces: Sequence[str] = ()
) -> CompletionLogprobs:
    """Log-probabilities as the completions of OpenAI had them. ``pieces``: texts of the first tokens."""
    made: CompletionLogprobs = {
        "tokens": [],
        "text_offset": [],
        "token_logprobs": [],
        "top_logprobs": [],
    }
    for i, entry in enumerate(entries):
        text = entry.text if entry is not None else pieces[i]
        made["tokens"].append(text)
        made["text_offset"].append(offset)
        offset += len(text)
        made["token_logprobs"].append(None if entry is None else entry.logprob)
        tops = None
        if entry is not None:
            tops = {one.text: one.logprob for one in entry.top}
            tops[text] = entry.logprob
        made["top_logprobs"].append(tops)
    return made
