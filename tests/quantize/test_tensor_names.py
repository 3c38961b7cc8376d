"""Tensors by what they are to a model, and back."""

from __future__ import annotations

import pytest

from pyqwen._native import architecture_tensors, architectures
from pyqwen.errors import UnsupportedModelError
from pyqwen.quantize.tensor_names import layer_of, tensor_names


@pytest.mark.parametrize("architecture", architectures())
def test_every_name_leads_back_to_its_role(architecture: str) -> None:
    names = tensor_names(architecture)
    for tensor in architecture_tensors(architecture):
        name = names.name(tensor.role, 7)
        assert names.role(name) == tensor.role
        assert layer_of(name) == (7 if tensor.in_layer else -1)


def test_names_that_are_none() -> None:
    names = tensor_names("qwen2")
    assert names.role("attn_q.weight") is None  # of no layer
    assert names.role("blk.0.token_embd.weight") is None
    assert names.role("blk.0.attn_q_norm.weight") is None
    assert tensor_names("qwen3").role("blk.0.attn_q_norm.weight") == "query_norm"


def test_what_makes_the_logits() -> None:
    names = tensor_names("llama")
    assert names.output({"token_embd.weight"}) == "token_embd.weight"
    assert names.output({"token_embd.weight", "output.weight"}) == "output.weight"


def test_shapes_are_those_of_the_sizes() -> None:
    tensors = architecture_tensors(
        "qwen3", hidden=96, ffn=160, heads=6, kv_heads=2, head_dim=64, vocab_rows=320
    )
    shapes = {tensor.role: tensor.shape for tensor in tensors}
    assert shapes["embedding"] == (320, 96)
    assert shapes["query"] == (384, 96)
    assert shapes["key"] == (128, 96)
    assert shapes["attention_output"] == (96, 384)
    assert shapes["query_norm"] == (64,)


def test_only_llamas_rows_are_reordered() -> None:
    for architecture in architectures():
        found = {t.role for t in architecture_tensors(architecture) if t.reordered}
        assert ({"query", "key"} <= found) == (architecture == "llama")
        assert "value" not in found


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="mamba"):
        tensor_names("mamba")
