"""The tokenizers of trained models, against Hugging Face's library given the same vocabulary."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import hugging_face
import pytest
from texts import random_text

from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.text.chat_template import ChatTemplate
from pyqwen.text.tokenizer import Tokenizer

VECTORS = Path(__file__).parents[1] / "data" / "qwen2-vocab"


def compare(metadata: dict[str, Any], texts: int) -> None:
    tokenizer = Tokenizer.from_metadata(metadata)
    expected = hugging_face.reference(metadata)
    rng = random.Random(20240919)
    for i in range(2 * texts):
        special = i % 2 == 0
        text = random_text(rng)
        ids = hugging_face.encode(expected, text, special=special)
        assert tokenizer.encode(text, special=special, add_bos=False) == ids, text
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
    compare(qwen_metadata, 1_000)


@pytest.mark.smollm
def test_smollm_equals_hugging_face(smollm_metadata: dict[str, Any]) -> None:
    compare(smollm_metadata, 1_000)


@pytest.mark.qwen
def test_qwen_facts(qwen_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(qwen_metadata)
    assert tokenizer.vocab_size == 151_665
    assert tokenizer.eog_ids == {151_643, 151_645, 151_662, 151_663, 151_664}
    assert not tokenizer.add_bos
    assert tokenizer.encode("<tool_call>") == [151_657]
    assert tokenizer.encode("Hello") == [9707]
    assert tokenizer.is_padding(151_665)


@pytest.mark.qwen
def test_qwen_is_opened_and_encodes_fast(qwen_path: Path) -> None:
    with GGUFFile(qwen_path) as file:
        opening, encoding = [], []
        text = "The quick brown fox.\tdef f(x): return x + 12\n我能吞下玻璃而不伤身体。\n" * 14_000
        for _ in range(3):
            started = time.process_time()
            tokenizer = Tokenizer.from_metadata(file.metadata)
            opened = time.process_time()
            tokenizer.encode(text)
            opening.append(opened - started)
            encoding.append(time.process_time() - opened)
    assert len(text.encode()) > 1_000_000
    assert min(opening) < 0.2
    assert min(encoding) < 0.25


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
