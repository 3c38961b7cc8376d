"""Activations rounded in blocks of 256: what llama.cpp's K types multiply, for measuring what it would."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pyqwen._native import ModelHandle, SessionHandle
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.quantize import quantize

sys.path.insert(0, str(Path(__file__).parent))
from reference import Array, Reference

IDS = np.random.default_rng(11).integers(0, 300, 60).tolist()


class Rounded(Reference):
    """The reference, but matrices multiply what is rounded to 8 bits in blocks of ``block``."""

    block = 256

    def _norm(self, x: Array, name: str) -> Array:
        return self._round(super()._norm(x, name))

    def _linear(self, x: Array, name: str) -> Array:
        return super()._linear(self._round(x), name)

    def _round(self, x: Array) -> Array:
        blocks = x.reshape(-1, self.block)
        scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
        return np.asarray((np.round(blocks / scale) * scale).reshape(x.shape))


class FinelyRounded(Rounded):
    block = 32


def logits(path: Path, *, coarse: bool, isa: str | None = None) -> np.ndarray:
    with (
        GGUFFile(path) as file,
        closing(ModelHandle(file.handle, isa=isa, coarse=coarse)) as model,
        closing(SessionHandle(model, kv_type="f32")) as session,
    ):
        session.eval(IDS, [0] * len(IDS), [1] * len(IDS))
        out = np.empty((len(IDS), model.config["vocab_rows"]), np.float32)
        session.logits(0, len(IDS), out)
        return out


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.fixture
def k_model(make_tiny_model: Callable[..., Path], tmp_path: Path) -> Path:
    out = tmp_path / "q4_k_m.gguf"
    quantize(make_tiny_model(tensor_type="F32", hidden=256, heads=4, ffn=512), out, "Q4_K_M")
    return out


def test_k_types_multiply_what_is_rounded_in_blocks_of_256(k_model: Path) -> None:
    coarse, fine = logits(k_model, coarse=True), logits(k_model, coarse=False)
    as_coarse, as_fine = Rounded(k_model).logits(IDS), FinelyRounded(k_model).logits(IDS)
    # What remains comes from single numbers that float32 and float64 round to different sides.
    assert distance(coarse, as_coarse) < 0.3 * distance(coarse, as_fine)
    assert distance(fine, as_fine) < 0.3 * distance(fine, as_coarse)


def test_every_instruction_set_gives_the_same(k_model: Path) -> None:
    assert np.array_equal(logits(k_model, coarse=True), logits(k_model, coarse=True, isa="scalar"))


def test_types_with_blocks_of_32_have_no_other_way(make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(tensor_type="Q4_0", hidden=256, heads=4, ffn=512)
    assert np.array_equal(logits(path, coarse=True), logits(path, coarse=False))
