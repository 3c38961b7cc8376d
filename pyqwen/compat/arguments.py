"""The constructor's arguments: what of them ``pyqwen.Model`` is opened with, and a word about the others."""

from __future__ import annotations

from operator import index
from reprlib import repr as brief
from typing import Any

from pyqwen.compat import llama_cpp as constants
from pyqwen.compat.llama_speculative import drafts_of
from pyqwen.compat.notices import warn_once

_KV_TYPES = {
    constants.GGML_TYPE_F32: "f32",
    constants.GGML_TYPE_F16: "f16",
    constants.GGML_TYPE_Q8_0: "q8_0",
    constants.GGML_TYPE_Q4_0: "q4_0",
    constants.GGML_TYPE_Q4_1: "q4_1",
    constants.GGML_TYPE_Q5_0: "q5_0",
    constants.GGML_TYPE_Q5_1: "q5_1",
    constants.GGML_TYPE_BF16: "bf16",
}

# What has no effect here, with the value that asks for nothing, and why.
_WITHOUT_EFFECT: dict[str, tuple[Any, str]] = {
    "n_gpu_layers": (0, "everything is computed by the processor"),
    "split_mode": (constants.LLAMA_SPLIT_MODE_LAYER, "there is no GPU to split for"),
    "main_gpu": (0, "everything is computed by the processor"),
    "tensor_split": (None, "there is no GPU to split for"),
    "use_mlock": (False, "weights are not locked in memory"),
    "kv_overrides": (None, "the values of the file are used"),
    "rope_scaling_type": (
        constants.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
        "the file's own is used",
    ),
    "attention_type": (constants.LLAMA_ATTENTION_TYPE_UNSPECIFIED, "the file's own is used"),
    "yarn_ext_factor": (-1.0, "the file's own is used"),
    "yarn_attn_factor": (1.0, "the file's own is used"),
    "yarn_beta_fast": (32.0, "the file's own is used"),
    "yarn_beta_slow": (1.0, "the file's own is used"),
    "yarn_orig_ctx": (0, "the file's own is used"),
    "last_n_tokens_size": (64, "repeat_penalty looks at the whole text"),
    "lora_base": (None, "adapters are applied to the model that is opened"),
    "numa": (False, "threads are not bound to NUMA nodes"),
    "spm_infill": (False, "the order that the model was taught is used"),
}

# Arguments that llama-cpp-python had once and still takes, with the value that is true here.
_FORMER = {"n_parts": -1, "f16_kv": True}
_UNKNOWN = object()


def model_options(given: dict[str, Any]) -> dict[str, Any]:
    """``Model``'s keywords for the constructor's arguments; warns once of each without effect."""
    for name, (nothing, why) in _WITHOUT_EFFECT.items():
        if given[name] is not None and given[name] != nothing:
            warn_once(name, f"has no effect: {why}")
    for name, value in given["others"].items():
        if value is not None and value != _FORMER.get(name, _UNKNOWN):
            warn_once(name, "is not known and has no effect")
    options: dict[str, Any] = {
        "threads": _threads(given["n_threads"], given["n_threads_batch"]),
        "kv_type": _kv_type(given["type_k"], given["type_v"]),
        "load": "mmap" if given["use_mmap"] else "copy",
        "draft": drafts_of(given["draft_model"]),
    }
    batch = given["n_batch"]
    if not isinstance(batch, int) or batch > 512 or batch < 1:  # smaller ones would only be slower
        options["batch"] = batch
    if given["lora_path"] is not None:
        options["adapters"] = {_ADAPTER: given["lora_path"]}
    return options


def context_of(n_ctx: Any, trained: int) -> tuple[int, int]:
    """The most tokens of a call, and those that the model is opened with, for one of ``trained`` tokens.

    Raises ``ValueError`` or ``TypeError`` for what is no number of tokens.
    """
    if isinstance(n_ctx, bool) or not hasattr(n_ctx, "__index__"):
        raise TypeError(f"n_ctx must be an integer, not {type(n_ctx).__name__}")
    wanted = index(n_ctx)
    if not 0 <= wanted < 2**32:
        raise ValueError("n_ctx must be from 0 (as many tokens as trained) to 2**32 - 1")
    if wanted > trained:
        warn_once(
            "n_ctx",
            f"{wanted:,} is more than the {trained:,} tokens that were trained; these count",
        )
    most = min(wanted or trained, trained)
    return most, min(most + ROOM_FOR_TOOLS, trained)


def warn_of_rope(base: Any, scale: Any, config: Any) -> None:
    """Warn if the rotation of positions that was asked for is not that of the file."""
    if base and base != config.rope_base:
        warn_once("rope_freq_base", f"has no effect: {config.rope_base:g}, the file's own, is used")
    if scale and scale != 1 / config.rope_scale_factor:
        own = 1 / config.rope_scale_factor
        warn_once("rope_freq_scale", f"has no effect: {own:g}, the file's own, is used")


def _threads(generating: Any, reading: Any) -> Any:
    if generating and reading and reading != generating:
        warn_once("n_threads_batch", "has no effect: n_threads counts for prompts, too")
    return generating or reading or None


def _kv_type(k: Any, v: Any) -> Any:
    if k is None and v is None:
        return None
    names = []
    for name, number in (("type_k", k), ("type_v", v)):
        number = constants.GGML_TYPE_F16 if number is None else number
        if not isinstance(number, int) or number not in _KV_TYPES:
            known = ", ".join(f"{i} ({text})" for i, text in _KV_TYPES.items())
            raise ValueError(f"{name} must be one of {known}, not {brief(number)}")
        names.append(_KV_TYPES[number])
    return names[0] if names[0] == names[1] else tuple(names)


def adapter_option(path: Any, scale: Any) -> dict[str, Any]:
    """The option of every call that applies the adapter of ``lora_path``."""
    return {} if path is None else {"adapter": {_ADAPTER: scale}}


ROOM_FOR_TOOLS = 1024
"""Tokens beyond ``n_ctx`` for descriptions of tools: pyqwen leads models to tools by examples, which
programs that chose ``n_ctx`` for llama-cpp-python do not reckon with."""
_ADAPTER = "lora_path"
"""The name under which the adapter of ``lora_path`` is known to the model."""
