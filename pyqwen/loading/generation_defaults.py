"""The sampling settings a model recommends: what its file says, else its family's configuration.

Hugging Face models carry a ``generation_config.json``; GGUF files mostly lost it, or hold a part of
it in ``general.sampling.*`` keys. Knows nothing of requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyqwen.sampling import NEUTRAL, SamplingParams

_FILE_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""The keys that llama.cpp's converter writes, and what we call the setting."""

_SMOLLM2 = re.compile(r"smollm2(?P<kind>.*)", re.IGNORECASE)
_QWEN2 = re.compile(r"qwen[-_ ]?2(\.5)?(?![\d])(?P<kind>.*)", re.IGNORECASE)
_QWEN3 = re.compile(r"qwen[-_ ]?3(?![\d.])(?P<kind>.*)", re.IGNORECASE)
_OTHER_TUNES = ("distill", "math", "vl", "audio", "omni", "embedding", "reranker", "guard")

# The repetition penalty in generation_config.json of Qwen's instruct models, by (hidden size,
# layers). It differs by size: 1.1 keeps the small ones out of loops. Coder-7B has 1.1 as well.
_QWEN_PENALTIES = {
    (896, 24): 1.1,  # 0.5B
    (1536, 28): 1.1,  # 1.5B
    (2048, 36): 1.05,  # 3B
    (3584, 28): 1.05,  # 7B
    (5120, 48): 1.05,  # 14B
    (5120, 64): 1.05,  # 32B
    (8192, 80): 1.05,  # 72B
}
_CODER_7B = (3584, 28)

_THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
_NOT_THINKING = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """``params`` has every setting that matters filled in; ``origin`` says in words from where.

    ``without_thinking`` are the same for answers before which a model that thinks is told not to.
    ``origins`` maps the settings that are recommended to ``"file"`` or ``"family"``. ``ignored``
    has one line for each recommendation of the file that cannot be followed.
    """

    params: SamplingParams
    without_thinking: SamplingParams
    origin: str
    origins: Mapping[str, str]
    ignored: Sequence[str]


def read_defaults(
    metadata: Mapping[str, Any], *, hidden: int, layers: int, source: str = ""
) -> GenerationDefaults:
    """Return the defaults of a model from its file's metadata and its shape.

    A ``general.sampling.*`` key that holds what cannot be is left out, and ``ignored`` says so: it
    is a recommendation, and no reason to refuse a model.
    """
    family, origin = _family_settings(metadata, hidden, layers)
    given, ignored = _file_settings(metadata, source)
    params = NEUTRAL.replace(**{**family, **given})
    if given:
        keys = ", ".join(key for key, name in _FILE_KEYS.items() if name in given)
        rest = f"; the rest from {origin}" if family.keys() - given.keys() else ""
        origin = f"the file's {keys}{rest}"
    origins = dict.fromkeys(family, "family") | dict.fromkeys(given, "file")
    return GenerationDefaults(params, _without_thinking(params, family), origin, origins, ignored)


def _without_thinking(params: SamplingParams, family: Mapping[str, Any]) -> SamplingParams:
    """Qwen3's model cards recommend other settings then; those that the file sets otherwise stay."""
    if family != _THINKING:
        return params
    usual = {name for name, value in _THINKING.items() if getattr(params, name) == value}
    other: dict[str, Any] = {name: _NOT_THINKING[name] for name in usual}
    return params.replace(**other)


def _file_settings(metadata: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[str]]:
    """What the file recommends, and one line for each recommendation that cannot be followed."""
    given: dict[str, Any] = {}
    ignored = []
    for key, name in _FILE_KEYS.items():
        if key not in metadata:
            continue
        value = metadata[key]
        if name == "top_k" and isinstance(value, int) and value < 0:
            value = 0  # llama.cpp and Hugging Face take both for "off"
        try:
            SamplingParams(**{name: value})
        except (TypeError, ValueError) as error:
            ignored.append(f"{source}: the key {key} is ignored: {error}")
        else:
            given[name] = value
    return given, ignored


def is_coder(metadata: Mapping[str, Any]) -> bool:
    """Whether a model is one for code, such as Qwen2.5-Coder, by its name."""
    return "coder" in _name(metadata).lower()


def _name(metadata: Mapping[str, Any]) -> str:
    keys = ("general.name", "general.basename", "general.finetune")
    return " ".join(str(metadata.get(key, "")) for key in keys)


def _family_settings(
    metadata: Mapping[str, Any], hidden: int, layers: int
) -> tuple[dict[str, Any], str]:
    """What the publisher's generation_config.json says, for families that we know."""
    name = _name(metadata)
    families = {
        "qwen2": (_QWEN2, _qwen2_settings),
        "qwen3": (_QWEN3, _qwen3_settings),
        "llama": (_SMOLLM2, _smollm2_settings),
    }
    pattern, settings = families.get(str(metadata.get("general.architecture")), (None, None))
    match = pattern.search(name) if pattern is not None else None
    if settings is None or match is None or any(word in name.lower() for word in _OTHER_TUNES):
        return {}, "nothing (the model's own distribution, unchanged)"
    kind = match["kind"].lower()
    if "tokenizer.chat_template" in metadata:
        kind += " with a chat template"
    return settings(kind, hidden, layers)


def _smollm2_settings(kind: str, hidden: int, layers: int) -> tuple[dict[str, Any], str]:
    if "with a chat template" not in kind:  # names in its files do not tell the instruct models
        return {}, "nothing (the model's own distribution, unchanged)"
    return {"temperature": 0.2, "top_p": 0.9}, "the model cards of SmolLM2's instruct models"


def _qwen3_settings(kind: str, hidden: int, layers: int) -> tuple[dict[str, Any], str]:
    """One configuration for all sizes; it is for thinking, but for models that never do."""
    if "base" in kind:
        return {"temperature": 0.0}, "the generation configuration of Qwen's base models (greedy)"
    if "instruct" in kind:
        return dict(_NOT_THINKING), "the generation configuration of Qwen3's instruct models"
    return dict(_THINKING), "the generation configuration of Qwen3, for thinking"


def _qwen2_settings(kind: str, hidden: int, layers: int) -> tuple[dict[str, Any], str]:
    if "instruct" not in kind:
        return {"temperature": 0.0}, "the generation configuration of Qwen's base models (greedy)"
    penalty = _QWEN_PENALTIES.get((hidden, layers), 1.05)
    if "coder" in kind and (hidden, layers) == _CODER_7B:
        penalty = 1.1
    return (
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": penalty},
        "the generation configuration of Qwen's instruct models of this size",
    )
