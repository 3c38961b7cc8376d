"""Tokenizers: recognized by structure, and equal to what Hugging Face's library makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest

from pyqwen.quantize import convert
from pyqwen.quantize.checkpoint.tokenizer_metadata import TokenizerMetadata, read_tokenizer
from pyqwen.text.tokenizer import Tokenizer
from pyqwen.text.vocabulary import TokenKind

TEXT = "The theory of 1,234 naïve cafés — the\tend.\n\n  it's 42! <|im_end|> <tool_call> e\u0301"

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def byte_level(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def read(path: Path, rows: int = 320, architecture: str = "qwen2") -> TokenizerMetadata:
    config = json.loads((path / "config.json").read_text())
    return read_tokenizer(path, config, rows, architecture)


def test_kinds_and_padding(make_checkpoint) -> None:
    made = read(make_checkpoint().write())
    kinds = {made.tokens[i]: TokenKind(made.types[i]) for i in range(255, 263)}
    assert kinds["<|im_start|>"] == TokenKind.CONTROL
    assert kinds["<tool_call>"] == TokenKind.USER_DEFINED
    assert kinds["the"] == TokenKind.NORMAL
    assert made.tokens[262:] == [f"[PAD{i}]" for i in range(262, 320)]
    assert set(made.types[262:]) == {TokenKind.UNUSED}


@pytest.mark.parametrize(
    ("name", "normalizer", "steps", "whole_words"),
    [
        ("qwen2", {"type": "NFC"}, None, False),
        ("qwen2", {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, None, None),
        ("deepseek-r1-qwen", None, None, False),
        ("deepseek-r1-qwen", {"type": "Sequence", "normalizers": []}, None, False),
        ("llama-bpe", None, sequence(split(LLAMA3_SPLIT), byte_level(False)), True),
        (
            "smollm",
            None,
            sequence({"type": "Digits", "individual_digits": True}, byte_level(True)),
            False,
        ),
        ("gpt-2", None, byte_level(True), False),
    ],
)
def test_structure_decides_the_name(
    make_checkpoint, name: str, normalizer: Any, steps: Any, whole_words: bool | None
) -> None:
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    files = make_checkpoint()
    files.tokenizer["normalizer"] = normalizer
    files.tokenizer["pre_tokenizer"] = steps or files.tokenizer["pre_tokenizer"]
    files.tokenizer["model"]["ignore_merges"] = whole_words
    if whole_words is None:
        del files.tokenizer["model"]["ignore_merges"]
    path = files.write()
    made = read(path)
    assert made.pre == name
    ours = Tokenizer.from_metadata(made.keys())
    theirs = HuggingFaceTokenizer.from_file(str(path / "tokenizer.json"))
    assert ours.encode(TEXT, special=True) == theirs.encode(TEXT, add_special_tokens=False).ids


def test_vocab_and_merges_without_tokenizer_json(make_checkpoint) -> None:
    files = make_checkpoint()
    path = files.write()
    whole = read(path)
    (path / "tokenizer.json").unlink()
    added = files.tokenizer["added_tokens"]
    files.tokenizer_config["added_tokens_decoder"] = {str(token["id"]): token for token in added}
    (path / "tokenizer_config.json").write_text(json.dumps(files.tokenizer_config))
    (path / "vocab.json").write_text(json.dumps(files.tokenizer["model"]["vocab"]))
    (path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    assert read(path).keys() == whole.keys()


def test_merges_as_pairs(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer["model"]["merges"] = [["t", "h"], ["th", "e"]]
    assert read(files.write()).merges == ["t h", "th e"]


def test_added_beginning_of_text(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config.update(bos_token="<|endoftext|>")
    del files.tokenizer_config["add_bos_token"]
    first = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    files.tokenizer["post_processor"] = {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel"},
            {"type": "TemplateProcessing", "single": [first, text]},
        ],
    }
    keys = read(files.write()).keys()
    assert keys["tokenizer.ggml.add_bos_token"] is True
    assert keys["tokenizer.ggml.bos_token_id"] == 258


def test_chat_template_of_its_own_file(make_checkpoint) -> None:
    files = make_checkpoint()
    del files.tokenizer_config["chat_template"]
    path = files.write()
    (path / "chat_template.jinja").write_text("{{ messages }}")
    assert read(path).keys()["tokenizer.chat_template"] == "{{ messages }}"


def test_several_chat_templates(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["chat_template"] = [
        {"name": "default", "template": "A"},
        {"name": "tool-use", "template": "B"},
    ]
    keys = read(files.write()).keys()
    assert keys["tokenizer.chat_template"] == "A"
    assert keys["tokenizer.chat_template.tool_use"] == "B"
    assert keys["tokenizer.chat_templates"] == ["tool_use"]


def test_sentencepiece(make_checkpoint, tmp_path: Path) -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    text = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen jugs"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=300,
        byte_fallback=True,
        minloglevel=2,
    )
    files = make_checkpoint(architecture="llama")
    files.config.update(bos_token_id=1, eos_token_id=2)
    files.tokenizer_config = {"add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>"}
    path = files.write()
    (path / "tokenizer.json").unlink()
    (path / "tokenizer.model").write_bytes(model.getvalue())
    convert(path, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    keys = {name: field.contents() for name, field in reader.fields.items()}
    assert keys["tokenizer.ggml.model"] == "llama"
    assert keys["tokenizer.ggml.tokens"][300] == "[PAD300]"
    assert keys["tokenizer.ggml.add_bos_token"] is True
    ours = Tokenizer.from_metadata(keys)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    probe = "the fox jumps ünïcode"
    assert ours.encode(probe, add_bos=False) == theirs.encode(probe)
