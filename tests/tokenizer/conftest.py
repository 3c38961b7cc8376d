"""Small vocabularies, trained on the spot, in the form in which a GGUF file holds them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
from hypothesis import settings
from tokenizers import models, pre_tokenizers, trainers

from pyqwen.loading.gguf_file import GGUFFile

sys.path.insert(
    0, str(Path(__file__).parent)
)  # for hugging_face and texts, which are no test modules

# A busy machine must not fail a property for being slow.
settings.register_profile("pyqwen", deadline=None)
settings.load_profile("pyqwen")

TEXT = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind at all.\n",
    "def reverse(items):\n    return items[::-1]  # 12345\n",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Café, naïve, Ångström.\n",
    "Съешь ещё этих мягких французских булок, да выпей чаю. 我能吞下玻璃而不伤身体。 🦙🚀\n",
] * 20

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"]
USER_DEFINED = ["<tool_call>", "</tool_call>"]
PADDING = 7
WORDS = 600


@pytest.fixture(scope="session")
def bpe_metadata() -> dict[str, Any]:
    """A vocabulary laid out like Qwen2.5's: words, control and user-defined tokens, padding."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    size = len(tokens) + len(CONTROL) + len(USER_DEFINED)
    types = [1] * len(tokens) + [3] * len(CONTROL) + [4] * len(USER_DEFINED) + [5] * PADDING
    return {
        "general.architecture": "qwen2",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": [
            *tokens,
            *CONTROL,
            *USER_DEFINED,
            *(f"[PAD{size + i}]" for i in range(PADDING)),
        ],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": len(tokens) + CONTROL.index("<|im_end|>"),
        "tokenizer.ggml.bos_token_id": len(tokens) + CONTROL.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
    }


@pytest.fixture(scope="session")
def sentencepiece_model() -> sentencepiece.SentencePieceProcessor:
    """A trained model with the settings of Llama 2's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        control_symbols=["<|im_end|>"],
        user_defined_symbols=["<tool>"],
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.fixture(scope="session")
def sentencepiece_metadata(
    sentencepiece_model: sentencepiece.SentencePieceProcessor,
) -> dict[str, Any]:
    model = sentencepiece_model
    ids = range(model.vocab_size())

    def kind(i: int) -> int:
        if model.IsUnknown(i):
            return 2
        if model.IsControl(i):
            return 3
        if model.IsByte(i):
            return 6
        return 4 if model.IdToPiece(i) == "<tool>" else 1

    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.IdToPiece(i) for i in ids],
        "tokenizer.ggml.scores": [model.GetScore(i) for i in ids],
        "tokenizer.ggml.token_type": [kind(i) for i in ids],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_bos_token": True,
    }


def read_metadata(path: Path) -> dict[str, Any]:
    with GGUFFile(path) as file:
        return dict(file.metadata)


@pytest.fixture(scope="session")
def qwen_metadata(qwen_path: Path) -> dict[str, Any]:
    return read_metadata(qwen_path)


@pytest.fixture(scope="session")
def smollm_metadata(smollm_path: Path) -> dict[str, Any]:
    return read_metadata(smollm_path)
