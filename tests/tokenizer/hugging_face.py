"""The reference: Hugging Face's `tokenizers` given the vocabulary of a file."""

from __future__ import annotations

import json
from typing import Any

import tokenizers

# As in the published tokenizer.json of each family.
_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_SPLIT = _QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _split(pattern: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        },
        _byte_level(use_regex=False),
    ]


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": use_regex,
    }


_DIGITS = {"type": "Digits", "individual_digits": True}
_STEPS = {
    "qwen2": _split(_QWEN_SPLIT),
    "deepseek-r1-qwen": _split(_QWEN_SPLIT),
    "llama-bpe": _split(_LLAMA_SPLIT),
    "smollm": [_DIGITS, _byte_level(use_regex=True)],
    "gpt-2": [_byte_level(use_regex=True)],
}


def reference(metadata: dict[str, Any]) -> tokenizers.Tokenizer:
    """The tokenizer that ``metadata`` describes. Set ``encode_special_tokens`` before encoding."""
    pieces = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    pre = metadata["tokenizer.ggml.pre"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": piece, "special": kind == 3, **flags}
        for i, (piece, kind) in enumerate(zip(pieces, types, strict=True))
        if kind in (3, 4)
    ]
    model = {
        "type": "BPE",
        "vocab": {p: i for i, (p, kind) in enumerate(zip(pieces, types, strict=True)) if kind != 5},
        "merges": metadata["tokenizer.ggml.merges"],
        "ignore_merges": pre == "llama-bpe",
    }
    return tokenizers.Tokenizer.from_str(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": added,
                "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": _STEPS[pre]},
                "model": model,
                "decoder": _byte_level(use_regex=True),
            }
        )
    )


def encode(tokenizer: tokenizers.Tokenizer, text: str, *, special: bool) -> list[int]:
    """Ids of ``text``; control tokens are recognized only with ``special``."""
    tokenizer.encode_special_tokens = not special
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
