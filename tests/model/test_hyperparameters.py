"""What the model loader demands of a well-formed GGUF file: hyperparameters in range, tensors that fit.

Each case changes one thing of a valid tiny model and names the exception and a part of its message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyqwen import _native
from pyqwen.errors import ModelFormatError, UnsupportedModelError

sys.path.insert(0, str(Path(__file__).parents[1] / "gguf"))
import gguf_build as gb

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, TOKENS, ROWS = 64, 96, 2, 1, 32, 2, 5, 8


def keys() -> dict[str, bytes]:
    """Return the metadata of a valid model, by key."""
    return {
        "general.architecture": gb.string("general.architecture", "qwen2"),
        "qwen2.block_count": gb.number("qwen2.block_count", "u32", LAYERS),
        "qwen2.embedding_length": gb.number("qwen2.embedding_length", "u32", HIDDEN),
        "qwen2.feed_forward_length": gb.number("qwen2.feed_forward_length", "u32", FFN),
        "qwen2.context_length": gb.number("qwen2.context_length", "u32", 64),
        "qwen2.attention.head_count": gb.number("qwen2.attention.head_count", "u32", HEADS),
        "qwen2.attention.head_count_kv": gb.number(
            "qwen2.attention.head_count_kv", "u32", KV_HEADS
        ),
        "qwen2.attention.layer_norm_rms_epsilon": gb.number(
            "qwen2.attention.layer_norm_rms_epsilon", "f32", 1e-6
        ),
        "qwen2.rope.freq_base": gb.number("qwen2.rope.freq_base", "f32", 1e6),
        "tokenizer.ggml.tokens": gb.strings("tokenizer.ggml.tokens", ["a", "b", "c", "p", "q"]),
        "tokenizer.ggml.token_type": gb.array("tokenizer.ggml.token_type", "i32", [1, 1, 1, 5, 5]),
    }


def tensors() -> dict[str, gb.Tensor]:
    """Return the tensors of a valid model, by name."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (HIDDEN, ROWS),
        "output_norm.weight": (HIDDEN,),
    }
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (HIDDEN,),
            f"blk.{i}.attn_q.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"blk.{i}.attn_k.weight": (HIDDEN, KV_HEADS * HEAD_DIM),
            f"blk.{i}.attn_v.weight": (HIDDEN, KV_HEADS * HEAD_DIM),
            f"blk.{i}.attn_q.bias": (HEADS * HEAD_DIM,),
            f"blk.{i}.attn_k.bias": (KV_HEADS * HEAD_DIM,),
            f"blk.{i}.attn_v.bias": (KV_HEADS * HEAD_DIM,),
            f"blk.{i}.attn_output.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"blk.{i}.ffn_norm.weight": (HIDDEN,),
            f"blk.{i}.ffn_gate.weight": (HIDDEN, FFN),
            f"blk.{i}.ffn_up.weight": (HIDDEN, FFN),
            f"blk.{i}.ffn_down.weight": (FFN, HIDDEN),
        }
    return {name: gb.Tensor(name, dims, "F32") for name, dims in shapes.items()}


def read(
    tmp_path: Path,
    changed_keys: dict[str, bytes | None],
    changed_tensors: dict[str, gb.Tensor | None],
) -> dict[str, Any]:
    """Read the hyperparameters of the valid model with some entries replaced, added or (None) left out."""
    all_keys = keys() | changed_keys
    all_tensors = tensors() | changed_tensors
    path = tmp_path / "model.gguf"
    path.write_bytes(
        gb.build(
            [entry for entry in all_keys.values() if entry is not None],
            [tensor for tensor in all_tensors.values() if tensor is not None],
        )
    )
    return _native.read_config(_native.FileHandle(path, copy=False))


def test_valid_model(tmp_path: Path) -> None:
    config = read(tmp_path, {}, {})
    assert config["architecture"] == "qwen2"
    assert (config["layers"], config["hidden"], config["ffn"]) == (LAYERS, HIDDEN, FFN)
    assert (config["heads"], config["kv_heads"], config["head_dim"]) == (HEADS, KV_HEADS, HEAD_DIM)
    assert (config["vocab"], config["vocab_rows"], config["real_tokens"]) == (TOKENS, ROWS, 3)
    assert config["tied"] == 1
    assert config["rope_neox"] == 1


def test_output_matrix_of_its_own_is_used_whatever_the_architecture_says(tmp_path: Path) -> None:
    config = read(tmp_path, {}, {"o": gb.Tensor("output.weight", (HIDDEN, ROWS), "F32")})
    assert config["tied"] == 0


def test_vocabulary_without_types_has_no_padding(tmp_path: Path) -> None:
    assert read(tmp_path, {"tokenizer.ggml.token_type": None}, {})["real_tokens"] == TOKENS


def test_causal_attention_may_be_said(tmp_path: Path) -> None:
    name = "qwen2.attention.causal"
    assert read(tmp_path, {name: gb.number(name, "bool", 1)}, {})["layers"] == LAYERS


def key(name: str, kind: str, value: float) -> dict[str, bytes | None]:
    return {name: gb.number(name, kind, value)}


BAD_KEYS: list[tuple[dict[str, bytes | None], type[Exception], str]] = [
    ({"general.architecture": None}, ModelFormatError, "general.architecture"),
    (
        {"general.architecture": gb.string("general.architecture", "mamba")},
        UnsupportedModelError,
        "'mamba' is not supported",
    ),
    (
        {"general.architecture": gb.string("general.architecture", "nomic-bert")},
        UnsupportedModelError,
        "'nomic-bert' is an encoder",
    ),
    (key("general.architecture", "u32", 1), ModelFormatError, "general.architecture"),
    (key("qwen2.attention.causal", "bool", 0), UnsupportedModelError, "attention.causal' is false"),
    (key("qwen2.attention.causal", "u32", 1), ModelFormatError, "attention.causal"),
    (key("qwen2.block_count", "u32", 0), ModelFormatError, "qwen2.block_count"),
    (key("qwen2.block_count", "u32", 2**31), ModelFormatError, "qwen2.block_count"),
    (key("qwen2.block_count", "f32", 2.0), ModelFormatError, "qwen2.block_count"),
    ({"qwen2.block_count": None}, ModelFormatError, "qwen2.block_count"),
    (key("qwen2.block_count", "u32", 3), ModelFormatError, "blk.2.attn_norm.weight"),
    (key("qwen2.attention.head_count", "u32", 0), ModelFormatError, "head_count"),
    (key("qwen2.attention.head_count", "u32", 3), ModelFormatError, "not a multiple"),
    (key("qwen2.attention.head_count_kv", "u32", 0), ModelFormatError, "head_count_kv"),
    (key("qwen2.attention.head_count_kv", "u32", 3), ModelFormatError, "head_count_kv"),
    (key("qwen2.attention.key_length", "u32", 24), UnsupportedModelError, "24"),
    (key("qwen2.context_length", "u32", 0), ModelFormatError, "context_length"),
    (key("qwen2.context_length", "u32", 2**32 - 1), ModelFormatError, "context_length"),
    (
        key("qwen2.attention.layer_norm_rms_epsilon", "f32", float("nan")),
        ModelFormatError,
        "layer_norm_rms_epsilon",
    ),
    (
        key("qwen2.attention.layer_norm_rms_epsilon", "f32", -1e-6),
        ModelFormatError,
        "layer_norm_rms_epsilon",
    ),
    (key("qwen2.rope.freq_base", "f32", float("inf")), ModelFormatError, "rope.freq_base"),
    (key("qwen2.rope.freq_base", "f32", 0.0), ModelFormatError, "rope.freq_base"),
    (key("qwen2.rope.dimension_count", "u32", 16), UnsupportedModelError, "16"),
    (
        {"scaling": gb.string("qwen2.rope.scaling.type", "longrope")},
        UnsupportedModelError,
        "longrope",
    ),
    (
        {"scaling": gb.string("qwen2.rope.scaling.type", "yarn")},
        ModelFormatError,
        "rope.scaling.factor",
    ),
    (key("qwen2.embedding_length", "u32", 33), ModelFormatError, "not a multiple"),
    ({"tokenizer.ggml.tokens": None}, ModelFormatError, "tokenizer.ggml.tokens"),
    (
        {"tokenizer.ggml.tokens": gb.strings("tokenizer.ggml.tokens", [])},
        ModelFormatError,
        "a vocabulary of 0 tokens",
    ),
    (
        {"tokenizer.ggml.tokens": gb.strings("tokenizer.ggml.tokens", list("abcdefghi"))},
        ModelFormatError,
        "do not belong together",
    ),
]


@pytest.mark.parametrize(("changes", "exception", "fragment"), BAD_KEYS)
def test_bad_keys(
    tmp_path: Path, changes: dict[str, bytes | None], exception: type[Exception], fragment: str
) -> None:
    with pytest.raises(exception, match=fragment) as caught:
        read(tmp_path, changes, {})
    assert "model.gguf" in str(caught.value)


def tensor(name: str, dims: tuple[int, ...], kind: str = "F32") -> dict[str, gb.Tensor | None]:
    return {name: gb.Tensor(name, dims, kind)}


BAD_TENSORS: list[tuple[dict[str, gb.Tensor | None], type[Exception], str]] = [
    ({"token_embd.weight": None}, ModelFormatError, "holds no model"),
    ({"output_norm.weight": None}, ModelFormatError, "output_norm.weight"),
    ({"blk.1.attn_k.bias": None}, ModelFormatError, "blk.1.attn_k.bias"),
    ({"blk.0.ffn_down.weight": None}, ModelFormatError, "blk.0.ffn_down.weight"),
    (tensor("blk.0.ffn_down.weight", (HIDDEN, FFN)), ModelFormatError, "shape"),
    (tensor("blk.0.attn_norm.weight", (HIDDEN, 2)), ModelFormatError, "shape"),
    (tensor("blk.0.attn_q_norm.weight", (HEAD_DIM,)), UnsupportedModelError, "attn_q_norm"),
    (tensor("blk.2.attn_q.weight", (HIDDEN, HIDDEN)), UnsupportedModelError, "blk.2.attn_q"),
    (tensor("adapter.weight", (HIDDEN,)), UnsupportedModelError, "adapter.weight"),
    (tensor("rope_freqs.weight", (HEAD_DIM,)), ModelFormatError, "rope_freqs.weight"),
]


@pytest.mark.parametrize(("changes", "exception", "fragment"), BAD_TENSORS)
def test_bad_tensors(
    tmp_path: Path,
    changes: dict[str, gb.Tensor | None],
    exception: type[Exception],
    fragment: str,
) -> None:
    with pytest.raises(exception, match=fragment):
        read(tmp_path, {}, changes)


@pytest.mark.parametrize("factor", [1.0, 4.0])
def test_yarn_and_linear_scaling_are_read(tmp_path: Path, factor: float) -> None:
    make: Callable[[str], dict[str, bytes | None]] = lambda kind: {  # noqa: E731
        "scaling": gb.string("qwen2.rope.scaling.type", kind),
        "factor": gb.number("qwen2.rope.scaling.factor", "f32", factor),
        "original": gb.number("qwen2.rope.scaling.original_context_length", "u32", 16),
    }
    yarn, linear = read(tmp_path, make("yarn"), {}), read(tmp_path, make("linear"), {})
    assert (yarn["yarn"], linear["yarn"]) == (1, 0)
    assert yarn["rope_scale_factor"] == linear["rope_scale_factor"] == factor
    assert yarn["yarn_original_context"] == 16
