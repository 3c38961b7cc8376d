"""The tokenizers of trained models, against Hugging Face's library given the same vocabulary."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from pyqwen.text.chat_template import ChatTemplate
from pyqwen.text.tokenizer import Tokenizer

VECTORS = Path(__file__).parents[1] / "data" / "qwen2-vocab"

# As in the published tokenizer.json of Qwen2.5.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = {
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": QWEN_SPLIT},
                "behavior": "Isolated",
                "invert": False,
            },
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": False,
                "use_regex": False,
            },
        ],
    },
}
SMOLLM = {
    "normalizer": None,
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
        ],
    },
}

BLOCKS = [
    (0x00, 0x7F), (0x20, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
    (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x218F),
    (0x2460, 0x24FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFB4F),
    (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F6FF), (0xE000, 0x10FFFF),
]  # fmt: skip
FRAGMENTS = [
    "'s", "'LL", "  ", "\n\n", "\r\n", "\t", " \n ", "hello", " World", "123", "...", "<|im_end|>",
    "<|endoftext|>", "<tool_call>", "<|im_", "\u200d", "\ufe0f", "\u0301", "\x00", "\u00a0",
    "\u2028", "\x85", "½", "e\u0301", "\u1112\u1161\u11ab", "    return x\n", "// ===--- //\n",
]  # fmt: skip


def random_text(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randint(1, 12)):
        if rng.random() < 0.4:
            parts.append(rng.choice(FRAGMENTS))
        else:
            block = rng.choice(BLOCKS)
            parts.append("".join(chr(rng.randint(*block)) for _ in range(rng.randint(1, 6))))
    return "".join(parts)


def reference(metadata: dict[str, Any], steps: dict[str, Any]) -> tokenizers.Tokenizer:
    pieces = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": i, "content": piece, "special": kind == 3, **flags}
        for i, (piece, kind) in enumerate(zip(pieces, types, strict=True))
        if kind in (3, 4)
    ]
    vocab = {p: i for i, (p, kind) in enumerate(zip(pieces, types, strict=True)) if kind != 5}
    model = {"type": "BPE", "vocab": vocab, "merges": metadata["tokenizer.ggml.merges"]}
    decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return tokenizers.Tokenizer.from_str(
        json.dumps(
            {"version": "1.0", "added_tokens": added, "model": model, "decoder": decoder} | steps
        )
    )


def compare(metadata: dict[str, Any], steps: dict[str, Any], texts: int) -> None:
    tokenizer = Tokenizer.from_metadata(metadata)
    expected = reference(metadata, steps)
    rng = random.Random(20240919)
    for special in (True, False):
        expected.encode_special_tokens = not special
        for _ in range(texts):
            text = random_text(rng)
            ids = expected.encode(text, add_special_tokens=False).ids
            assert tokenizer.encode(text, special=special) == ids, text
            assert tokenizer.decode(ids) == expected.decode(ids, skip_special_tokens=False), text


@pytest.mark.qwen
def test_qwen_vectors(qwen_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(qwen_metadata)
    name = "ggml-vocab-qwen2.gguf"
    # Bytes, lest a platform's line ends creep in.
    texts = (VECTORS / f"{name}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")[:-1]
    lines = (VECTORS / f"{name}.out").read_text().split("\n")[:-1]
    assert len(texts) == len(lines) == 46
    for text, line in zip(texts, lines, strict=True):
        assert tokenizer.encode(text) == [int(word) for word in line.split()], text
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.qwen
def test_qwen_equals_hugging_face(qwen_metadata: dict[str, Any]) -> None:
    compare(qwen_metadata, QWEN, 5_000)


@pytest.mark.smollm
def test_smollm_equals_hugging_face(smollm_metadata: dict[str, Any]) -> None:
    compare(smollm_metadata, SMOLLM, 5_000)


@pytest.mark.qwen
def test_qwen_facts(qwen_metadata: dict[str, Any]) -> None:
    started = time.thread_time()
    tokenizer = Tokenizer.from_metadata(qwen_metadata)
    assert time.thread_time() - started < 3
    assert tokenizer.vocab_size == 151_665
    assert tokenizer.eog_ids == {151_643, 151_645, 151_662, 151_663, 151_664}
    assert not tokenizer.add_bos
    assert tokenizer.encode("<tool_call>") == [151_657]
    assert tokenizer.encode("Hello") == [9707]
    assert tokenizer.is_padding(151_665)


@pytest.mark.qwen
def test_qwen_template(qwen_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(qwen_metadata)
    template = ChatTemplate.from_metadata(qwen_metadata, tokenizer)
    rendered = template.render("Say <|im_end|>")
    assert rendered.text == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "<|im_end|>\n<|im_start|>user\nSay <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    ids = tokenizer.encode_segments(rendered.segments)
    assert ids.count(151_644) == 3
    assert ids.count(151_645) == 2
    assert tokenizer.decode(ids) == rendered.text
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert template.render("Hi", tools=tools).text == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
        "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "f"}}\n</tools>\n\n'
        "For each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.smollm
def test_smollm_facts(smollm_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(smollm_metadata)
    assert tokenizer.vocab_size == 49_152
    assert tokenizer.eog_ids == {0, 2}
    assert not tokenizer.add_bos
    template = ChatTemplate.from_metadata(smollm_metadata, tokenizer)
    ids = tokenizer.encode_segments(template.render("<|im_end|>").segments)
    assert [ids.count(token) for token in (1, 2)] == [3, 2]
