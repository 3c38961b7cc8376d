"""GPTQ on the block formats: what it promises is less error of the outputs than rounding alone."""

from __future__ import annotations

import numpy as np
import pytest

from pyqwen._native import dequantize_rows, gptq_panel, isas, quantize_weights
from pyqwen.quantize.calibration.gptq import inverse_factor, quantize_matrix

TYPES = (
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "IQ4_NL",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_XS",
)


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """Activations of 512 channels that are related to each other, some much larger than others."""
    random = np.random.default_rng(3)
    mix = random.standard_normal((512, 512)) * np.exp(random.standard_normal(512))
    return (random.standard_normal((3000, 512)) @ mix).astype(np.float32)


@pytest.fixture(scope="module")
def moments(inputs: np.ndarray) -> np.ndarray:
    return inputs.T @ inputs / len(inputs)


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    return np.random.default_rng(4).standard_normal((24, 512)).astype(np.float32)


def output_error(quantized: np.ndarray, weights: np.ndarray, moments: np.ndarray) -> np.ndarray:
    difference = quantized.astype(np.float64) - weights
    return np.einsum("ij,jk,ik->i", difference, moments, difference)


def test_factor_is_that_of_the_inverse(moments: np.ndarray) -> None:
    factor = inverse_factor(moments, 0.01).astype(np.float64)
    damped = moments + 0.01 * np.trace(moments) / 512 * np.eye(512)
    assert np.array_equal(factor, np.triu(factor))
    assert np.allclose(factor @ damped @ factor.T, np.eye(512), atol=1e-2)


def test_factor_of_inputs_that_are_all_zero() -> None:
    assert np.array_equal(inverse_factor(np.zeros((300, 300), np.float32), 0.01), np.eye(300))


@pytest.mark.parametrize("kind", TYPES)
def test_outputs_lose_less_than_by_rounding(
    kind: str, weights: np.ndarray, moments: np.ndarray
) -> None:
    encoded = quantize_matrix(weights, kind, inverse_factor(moments, 0.01))
    importance = np.ascontiguousarray(np.diag(moments))
    rounded = quantize_weights(weights, kind, importance=importance)
    error = output_error(dequantize_rows(encoded.data, kind), weights, moments)
    without = output_error(dequantize_rows(rounded, kind), weights, moments)
    assert error.sum() < 0.75 * without.sum()
    # What it claims: exact but for the damping and the rounding of what the file holds.
    assert error.sum() < encoded.error.sum() < 1.6 * error.sum()


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_0", "IQ4_XS"])
def test_bytes_do_not_depend_on_threads(
    kind: str, weights: np.ndarray, moments: np.ndarray
) -> None:
    factor = inverse_factor(moments, 0.01)
    one = quantize_matrix(weights, kind, factor, threads=1)
    two = quantize_matrix(weights, kind, factor, threads=2)
    assert np.array_equal(one.data, two.data)


@pytest.mark.parametrize("kind", TYPES)
def test_unrelated_inputs_leave_nothing_to_feed_back(kind: str, weights: np.ndarray) -> None:
    """Then errors are those of rounding, and what remains are the weights themselves."""
    encoded = quantize_matrix(weights, kind, np.eye(512, dtype=np.float32))
    plain = dequantize_rows(quantize_weights(weights, kind), kind)
    with_feedback = dequantize_rows(encoded.data, kind)
    ratio = np.square(with_feedback - weights).sum() / np.square(plain - weights).sum()
    assert 0.9 < ratio < 1.06


def test_errors_of_a_panel_are_what_the_next_one_takes_over(
    weights: np.ndarray, moments: np.ndarray
) -> None:
    factor = inverse_factor(moments, 0.01)
    panel = weights[:, :256].copy()
    block = np.ascontiguousarray(factor[:256, :256])
    data, errors = gptq_panel(panel, "Q4_K", block)
    rounded = dequantize_rows(data, "Q4_K")
    # Within the panel every column took over what those before it had lost.
    taken = weights[:, :256] - errors.astype(np.float64) @ np.triu(block, 1)
    assert np.allclose(errors * np.diag(block), taken - rounded, atol=2e-4)


@pytest.mark.parametrize("columns", [32, 100])
def test_columns_that_are_no_blocks_are_refused(columns: int, weights: np.ndarray) -> None:
    factor = np.eye(columns, dtype=np.float32)
    with pytest.raises(ValueError, match=f"{columns} columns"):
        gptq_panel(weights[:, :columns].copy(), "Q4_K", factor)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_factor_that_is_none_is_refused(bad: float, weights: np.ndarray) -> None:
    from pyqwen.errors import NumericError

    factor = np.eye(256, dtype=np.float32)
    factor[3, 3] = bad
    with pytest.raises(NumericError, match="column 3"):
        gptq_panel(weights[:, :256].copy(), "Q4_K", factor)


@pytest.mark.parametrize("isa", [isa for isa, here in isas().items() if here])
@pytest.mark.parametrize("kind", TYPES)
def test_instruction_sets_agree_bit_for_bit(
    isa: str, kind: str, weights: np.ndarray, moments: np.ndarray
) -> None:
    factor = np.ascontiguousarray(inverse_factor(moments, 0.01)[:256, :256])
    extreme = weights[:21, :256].copy()  # more rows than lanes, and not a multiple of them
    extreme[0], extreme[1], extreme[2, ::3] = 0.0, 1e-30, 6e4
    data, errors = gptq_panel(extreme, kind, factor, isa=isa)
    expected, expected_errors = gptq_panel(extreme, kind, factor, isa="scalar")
    assert np.array_equal(data, expected)
    assert np.array_equal(errors, expected_errors)
