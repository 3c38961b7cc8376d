"""The numpy transformer: its forward pass against the core's, its gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest

from pyqwen.quantize.calibration import transformer as t
from pyqwen.quantize.calibration.awq import fold_awq_scales
from pyqwen.quantize.tensor_names import tensor_names

SHAPE = t.Shape(hidden=32, ffn=48, heads=4, kv_heads=2, head_dim=8, norm_eps=1e-6, neox=True)
LENGTH = 6
SIZES = {
    "query": (32, 32),
    "key": (16, 32),
    "value": (16, 32),
    "attention_output": (32, 32),
    "gate": (48, 32),
    "up": (48, 32),
    "down": (32, 48),
}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(params=["qwen2", "qwen3"])
def layer(random: np.random.Generator, request: pytest.FixtureRequest) -> t.Layer:
    """With biases of q, k and v, or with norms of the heads of q and k."""
    matrix = {role: 0.3 * random.standard_normal(size) for role, size in SIZES.items()}
    vector = {}
    if request.param == "qwen2":
        for role in ("query", "key", "value"):
            vector[f"{role}_bias"] = random.standard_normal(SIZES[role][0])
    else:
        vector = {f"{role}_norm": random.standard_normal(8) + 2 for role in ("query", "key")}
    for role in ("attention_norm", "ffn_norm"):
        vector[role] = random.standard_normal(32) + 2
    return t.Layer(matrix, vector, dict(tensor_names(request.param).inputs))


def rotation() -> t.Rotation:
    return t.rotation(1e4 ** (-np.arange(4) / 4.0), LENGTH)


@pytest.mark.parametrize("neox", [True, False])
def test_gradients_are_those_of_differences(
    layer: t.Layer, random: np.random.Generator, neox: bool
) -> None:
    shape = t.Shape(32, 48, 4, 2, 8, 1e-6, neox)
    x, dy = random.standard_normal((2, 2 * LENGTH, 32))
    step = 1e-4

    def loss(x: np.ndarray) -> float:
        return float((t.forward(layer, shape, rotation(), x)[0] * dy).sum())

    _, done = t.forward(layer, shape, rotation(), x)
    dx, at = t.backward(layer, shape, rotation(), done, dy)
    along = random.standard_normal(x.shape)
    difference = (loss(x + step * along) - loss(x - step * along)) / (2 * step)
    assert difference == pytest.approx((dx * along).sum(), rel=2e-3)
    for name, matrix in list(layer.matrix.items()):
        along = random.standard_normal(matrix.shape)
        layer.matrix[name] = matrix + step * along
        above = loss(x)
        layer.matrix[name] = matrix - step * along
        below = loss(x)
        layer.matrix[name] = matrix
        gradient = at[name].T @ done.inputs[layer.input_of[name]]
        assert (above - below) / (2 * step) == pytest.approx((gradient * along).sum(), rel=5e-3)


def test_later_tokens_change_nothing_before_them(
    layer: t.Layer, random: np.random.Generator
) -> None:
    x = random.standard_normal((LENGTH, 32))
    other = x.copy()
    other[4:] += 1
    first, _ = t.forward(layer, SHAPE, rotation(), x)
    second, _ = t.forward(layer, SHAPE, rotation(), other)
    assert np.allclose(first[:4], second[:4])
    assert not np.allclose(first[4:], second[4:])


def test_folding_changes_nothing_but_the_columns(
    layer: t.Layer, random: np.random.Generator
) -> None:
    x = random.standard_normal((4 * LENGTH, 32))
    before, done = t.forward(layer, SHAPE, rotation(), x)
    moments = {name: values.T @ values / len(x) for name, values in done.inputs.items()}
    matrices = {name: values.copy() for name, values in layer.matrix.items()}
    divided = fold_awq_scales(layer, SHAPE, moments)
    after, folded = t.forward(layer, SHAPE, rotation(), x)
    assert np.allclose(before, after, rtol=1e-4, atol=1e-4)
    for name, values in folded.inputs.items():
        assert np.allclose(values.T @ values / len(x), moments[name], rtol=1e-3, atol=1e-3)
    assert set(divided) == {"value", "up"}
    for name, values in layer.matrix.items():
        assert not np.allclose(values, matrices[name]), name


def test_folding_evens_out_columns(layer: t.Layer, random: np.random.Generator) -> None:
    layer.matrix["down"] *= np.exp(random.standard_normal(48))
    size = np.sqrt(np.mean(np.square(layer.matrix["down"]), axis=0))
    moments = {
        name: np.eye(n) for name, n in (("qkv", 32), ("attention_output", 32), ("gate_up", 32))
    }
    fold_awq_scales(layer, SHAPE, {**moments, "down": np.eye(48)})
    after = np.sqrt(np.mean(np.square(layer.matrix["down"]), axis=0))
    assert np.std(np.log(after)) < 0.4 * np.std(np.log(size))
