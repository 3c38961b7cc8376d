"""Which of GGUF's named pre-tokenizers a tokenizer.json describes, recognized by its structure.

GGUF stores a name where tokenizer.json has a pipeline. llama.cpp's converter finds the name by the hash
of a tokenized text; here the pipeline itself is compared, so that a model with more tokens, or with
added ones, is still recognized. Only pipelines that the runtime reproduces exactly have a name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyqwen.errors import UnsupportedModelError

# Tokenizers of files without tokenizer.json: their pipeline is fixed by the class.
_CLASSES = {"Qwen2Tokenizer": "qwen2", "GPT2Tokenizer": "gpt-2"}


@dataclass(frozen=True)
class _Pipeline:
    """How a model family cuts text into words before merging, as the core does by that name.

    ``pattern`` None means GPT-2's own regular expression. ``whole_words`` takes a word that is a
    token as it is, without looking at merges.
    """

    pattern: str | None
    single_digits: bool = False
    nfc: bool = False
    whole_words: bool = False


# The patterns are the published ones of each family's tokenizer.json.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Of names for one and the same pipeline, the one to write (csrc/tokenizer/pre_tokenizer.c has them all).
_PIPELINES = {
    "qwen2": _Pipeline(_QWEN2, nfc=True),
    "deepseek-r1-qwen": _Pipeline(_QWEN2),
    "llama-bpe": _Pipeline(_QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"), whole_words=True),
    "smollm": _Pipeline(None, single_digits=True),
    "gpt-2": _Pipeline(None),
}


def recognize(tokenizer: dict[str, Any], where: str) -> str:
    """Return the name for the normalizer and pre-tokenizer of a byte-level tokenizer.json.

    ``UnsupportedModelError`` where there is none.
    """
    model = tokenizer["model"]
    found = (
        _flatten(tokenizer.get("normalizer"), "normalizers"),
        [step for step in map(_canonical, _steps(tokenizer)) if step],
        bool(model.get("ignore_merges")),
    )
    for name, rules in _PIPELINES.items():
        steps: list[tuple[Any, ...]] = []
        if rules.single_digits:
            steps.append(("Digits", True))
        if rules.pattern is not None:
            steps.append(("Split", rules.pattern, "Isolated", False))
        steps.append(("ByteLevel", False, rules.pattern is None))
        if found == ([{"type": "NFC"}] if rules.nfc else [], steps, rules.whole_words):
            return name
    raise UnsupportedModelError(
        f"{where}: this way of cutting text into words (normalizer, pre_tokenizer, ignore_merges) is "
        f"none that this version knows; it knows those of {', '.join(_PIPELINES)}",
        field="pre_tokenizer",
    )


def recognize_class(name: object, where: str) -> str:
    """Return the name for a ``tokenizer_class`` of tokenizer_config.json."""
    known = _CLASSES.get(name) if isinstance(name, str) else None
    if known is None:
        raise UnsupportedModelError(
            f"{where}: tokenizer_class is {name!r:.60}; without tokenizer.json this version converts "
            f"{', '.join(_CLASSES)}",
            field="tokenizer_class",
        )
    return known


def _steps(tokenizer: dict[str, Any]) -> list[Any]:
    return _flatten(tokenizer.get("pre_tokenizer"), "pretokenizers")


def _flatten(step: Any, members: str) -> list[Any]:
    """The steps of a (possibly nested) Sequence, in order; an absent step is no step."""
    if step is None:
        return []
    inner = step.get(members) if isinstance(step, dict) else None
    if isinstance(inner, list):
        return [leaf for member in inner for leaf in _flatten(member, members)]
    return [step]


def _canonical(step: Any) -> tuple[Any, ...]:
    """A pre-tokenizer reduced to what changes its result; itself if it is none we know."""
    match step:
        case {"type": "Digits", "individual_digits": bool(each)}:
            return ("Digits", each)
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": behavior}:
            return ("Split", pattern, behavior, step.get("invert", False))
        case {"type": "ByteLevel", "add_prefix_space": prefix}:
            return ("ByteLevel", prefix, step.get("use_regex", True))
    return ("unknown", repr(step))
