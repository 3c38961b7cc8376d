"""The sampling settings a model recommends: what its file says, else its family's configuration.

Hugging Face models carry a ``generation_config.json``; GGUF files mostly lost it, or hold a part of
it in ``general.sampling.*`` keys. Knows nothing of requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyqwen.errors import ModelFormatError
from pyqwen.sampling import NEUTRAL, SamplingParams

_FILE_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""The keys that llama.cpp's converter writes, and what we call the setting."""

_QWEN2 = re.compile(r"qwen[-_ ]?2(\.5)?(?![\d])(?P<kind>.*)", re.IGNORECASE)
_OTHER_TUNES = ("distill", "math", "vl", "audio", "omni")

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


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """``params`` has every setting that matters filled in; ``origin`` says in words from where."""

    params: SamplingParams
    origin: str


def read_defaults(
    metadata: Mapping[str, Any], *, hidden: int, layers: int, source: str = ""
) -> GenerationDefaults:
    """Return the defaults of a model from its file's metadata and its shape.

    ``ModelFormatError`` where a ``general.sampling.*`` key holds what cannot be.
    """
    family, origin = _family_settings(metadata, hidden, layers)
    found = [key for key in _FILE_KEYS if key in metadata]
    given = {_FILE_KEYS[key]: metadata[key] for key in found}
    try:
        params = NEUTRAL.replace(**{**family, **given})
    except (TypeError, ValueError) as error:
        raise ModelFormatError(
            f"{source}: the key general.sampling.* of the file is wrong: {error}", field=found[0]
        ) from None
    if found:
        rest = f"; the rest from {origin}" if family.keys() - given.keys() else ""
        origin = f"the file's {', '.join(found)}{rest}"
    return GenerationDefaults(params, origin)


def _family_settings(
    metadata: Mapping[str, Any], hidden: int, layers: int
) -> tuple[dict[str, Any], str]:
    """What the publisher's generation_config.json says, for families that we know."""
    keys = ("general.name", "general.basename", "general.finetune")
    name = " ".join(str(metadata.get(key, "")) for key in keys)
    match = _QWEN2.search(name) if metadata.get("general.architecture") == "qwen2" else None
    if match is None or any(word in name.lower() for word in _OTHER_TUNES):
        return {}, "nothing (the model's own distribution, unchanged)"
    kind = match["kind"].lower()
    if "instruct" not in kind:
        return {"temperature": 0.0}, "the generation configuration of Qwen's base models (greedy)"
    penalty = _QWEN_PENALTIES.get((hidden, layers), 1.05)
    if "coder" in kind and (hidden, layers) == _CODER_7B:
        penalty = 1.1
    return (
        {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": penalty},
        "the generation configuration of Qwen's instruct models of this size",
    )
