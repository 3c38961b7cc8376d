"""Equality with Hugging Face's `tokenizers` on small vocabularies: every family, every code point, every kind
of text. ``texts.py`` compares real vocabularies on any number of bytes.
"""

from __future__ import annotations

import random
import unicodedata
from typing import Any

import hugging_face
import pytest
from texts import random_texts

from pyqwen.text.tokenizer import Tokenizer

FAMILIES = ["qwen2", "deepseek-r1-qwen", "llama-bpe", "smollm", "gpt-2"]
# Where all code points are alike to every rule: ideographs, syllables, private use.
ALIKE = [range(0x3500, 0x4D00), range(0x4F00, 0x9F00), range(0xAD00, 0xD700), range(0xD800, 0xF900)]
ALIKE += [range(0x17100, 0x18700), range(0x20100, 0x2A600), range(0x2A800, 0x2B700)]
ALIKE += [range(0x2B900, 0x2CE00), range(0x2CF00, 0x2EB00), range(0x2F000, 0x2F800)]
ALIKE += [range(0x30100, 0x31300), range(0x32400, 0xE0000), range(0xE0200, 0x10FF00)]


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_reference(bpe_metadata: dict[str, Any], family: str) -> None:
    metadata = bpe_metadata | {"tokenizer.ggml.pre": family}
    tokenizer = Tokenizer.from_metadata(metadata)
    expected = hugging_face.reference(metadata)
    for i, text in enumerate(random_texts(FAMILIES.index(family), 250_000)):
        special = i % 2 == 0
        ids = hugging_face.encode(expected, text, special=special)
        assert tokenizer.encode(text, special) == ids, text


@pytest.mark.parametrize("family", ["qwen2", pytest.param("smollm", marks=pytest.mark.slow)])
def test_every_code_point(bpe_metadata: dict[str, Any], family: str) -> None:
    """Alone, between letters, digits and spaces, before and after a mark, behind an apostrophe."""
    metadata = bpe_metadata | {"tokenizer.ggml.pre": family}
    tokenizer = Tokenizer.from_metadata(metadata)
    expected = hugging_face.reference(metadata)
    alike = set().union(*ALIKE)
    points = [chr(c) for c in range(0x110000) if c not in alike]
    assert len(points) > 40_000
    for begin in range(0, len(points), 1000):
        some = points[begin : begin + 1000]
        text = "".join(f"a{c}1{c} '{c}e\u0323" for c in some)
        ids = hugging_face.encode(expected, text, special=False)
        assert tokenizer.encode(text) == ids, f"U+{ord(some[0]):04X} and on"


@pytest.mark.parametrize("family", ["qwen2", "llama-bpe", "gpt-2"])
def test_long_words(bpe_metadata: dict[str, Any], family: str) -> None:
    """Longer than any buffer begins with, and than what is merged without a queue."""
    metadata = bpe_metadata | {"tokenizer.ggml.pre": family}
    tokenizer = Tokenizer.from_metadata(metadata)
    expected = hugging_face.reference(metadata)
    rng = random.Random(7)
    for alphabet in (
        "a",
        "ab",
        "the",
        "thequickbrowndogs",
        " ",
        " \n",
        "!-=",
        "é",
        "我能",
        "e\u0301\u0323",
    ):
        text = "".join(rng.choices(alphabet, k=30_000))
        assert tokenizer.encode(text) == hugging_face.encode(expected, text, special=False)


def test_normalization_is_that_of_the_reference(bpe_metadata: dict[str, Any]) -> None:
    """All pairs of a letter and a mark that Unicode composes, in any order with another mark."""
    tokenizer = Tokenizer.from_metadata(bpe_metadata)
    expected = hugging_face.reference(bpe_metadata)
    pairs = [
        unicodedata.normalize("NFD", chr(c))
        for c in range(0x110000)
        if unicodedata.decomposition(chr(c))[:1] not in ("", "<")
    ]
    assert len(pairs) > 2000
    for mark in ("", "\u0323", "\u0301", "\u0345", "\u3099", "\u0338"):
        text = " ".join(pair[:1] + mark + pair[1:] + mark for pair in pairs)
        assert tokenizer.encode(text) == hugging_face.encode(expected, text, special=False)
