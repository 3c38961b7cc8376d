"""Quantizing: how close it comes, where it refuses, and that nothing but the weights decides the bytes."""

from __future__ import annotations

import itertools

import gguf
import matrices as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from pyqwen import _native
from pyqwen.errors import CancelledError, NumericError

WITH_REFERENCE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]  # what the gguf package can quantize
BITS = {
    "Q2_K": 2, "Q3_K": 3, "Q4_0": 4, "Q4_1": 4, "Q4_K": 4, "IQ4_NL": 4, "IQ4_XS": 4,
    "Q5_0": 5, "Q5_1": 5, "Q5_K": 5, "Q6_K": 6, "Q8_0": 8,
}  # fmt: skip
# Of normal weights, root mean square relative to theirs: a bit above what llama.cpp's quantizer leaves.
MOST_ERROR = {
    "Q2_K": 0.29, "Q3_K": 0.155, "Q4_0": 0.092, "Q4_1": 0.085, "Q4_K": 0.074, "IQ4_NL": 0.077,
    "IQ4_XS": 0.079, "Q5_0": 0.046, "Q5_1": 0.042, "Q5_K": 0.038, "Q6_K": 0.0190, "Q8_0": 0.0058,
}  # fmt: skip


def normal(rows: int = 16, cols: int = 1024, seed: int = 1) -> np.ndarray:
    weights = np.random.default_rng(seed).standard_normal((rows, cols), dtype=np.float32)
    return weights * np.float32(0.02)


def importances(cols: int = 1024, seed: int = 2) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(0, 1.5, cols)).astype(np.float32)


def reference(data: np.ndarray, name: str) -> np.ndarray:
    return gguf.dequantize(data, GGMLQuantizationType[name]).astype(np.float32)


def error_of(weights: np.ndarray, data: np.ndarray, name: str, importance=1.0) -> float:
    difference = reference(data, name).astype(np.float64) - weights
    return float((importance * difference**2).sum())


def ours_through_c(data: np.ndarray, name: str, n: int) -> np.ndarray:
    out, error = np.empty(n, np.float32), _native.new_error()
    status = _native.lib.pq_dequantize(
        mx.type_number(name), mx.pointer("void *", data), n, mx.pointer("float *", out), error
    )
    _native.check(status, error)
    return out


# --------------------------------------------------------------------------------------------- closeness


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_error_is_small(name):
    weights = normal()
    data = _native.quantize_weights(weights, name)
    assert (error_of(weights, data, name) / (weights**2).sum()) ** 0.5 < MOST_ERROR[name]


@pytest.mark.parametrize("name", WITH_REFERENCE)
@pytest.mark.parametrize("weighted", [False, True])
def test_never_worse_than_rounding_to_nearest(name, weighted):
    importance = importances() if weighted else None
    for seed in range(4):
        weights = normal(seed=seed)
        if seed % 2:
            weights = weights**3
        data = _native.quantize_weights(weights, name, importance=importance)
        rounded = gguf.quantize(weights, GGMLQuantizationType[name])
        factor = 1.0 if importance is None else importance
        assert error_of(weights, data, name, factor) <= error_of(weights, rounded, name, factor)


@pytest.mark.parametrize("name", [name for name in mx.QUANTIZED_TYPES if name != "Q8_0"])
def test_importance_lowers_the_error_it_weights(name):
    weights, importance = normal(), importances()
    plain = _native.quantize_weights(weights, name)
    weighted = _native.quantize_weights(weights, name, importance=importance)
    assert error_of(weights, weighted, name, importance) < error_of(
        weights, plain, name, importance
    )
    assert error_of(weights, weighted, name) > error_of(weights, plain, name)


def best_by_force(x: np.ndarray, levels: np.ndarray, minima: np.ndarray) -> float:
    """The least squared error over a fine grid of scales (both signs) and minima."""
    best = np.inf
    top = np.abs(x).max() / np.abs(levels).max()
    span = (x.max() - x.min()) / (levels.max() - levels.min())
    unit = top if minima.size == 1 else span
    for scale, sign, minimum in itertools.product(np.linspace(0.7, 1.3, 300), (1, -1), minima):
        d = unit * scale * sign
        nearest = levels[np.abs((x - minimum)[:, None] / d - levels).argmin(1)]
        best = min(best, float(((d * nearest + minimum - x) ** 2).sum()))
    return best


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "IQ4_NL", "Q4_1"])
def test_nearly_as_good_as_the_best_scale_of_all(name):
    levels = {
        "Q4_0": np.arange(-8, 8), "Q5_0": np.arange(-16, 16), "Q4_1": np.arange(16),
        "IQ4_NL": gguf.quants.IQ4_NL.kvalues,
    }[name]  # fmt: skip
    ours = best = 0.0
    for seed in range(6):
        x = normal(1, 32, seed)
        low, high = x.min(), x.max()
        minima = np.linspace(low - 0.05 * (high - low), low + 0.1 * (high - low), 25)
        forced = best_by_force(x[0], np.array(levels), minima if name == "Q4_1" else np.zeros(1))
        found = error_of(x, _native.quantize_weights(x, name), name)
        assert found < 1.12 * forced
        ours, best = ours + found, best + forced
    assert ours < 1.04 * best


@pytest.mark.parametrize("name", [name for name in mx.QUANTIZED_TYPES if name != "Q8_0"])
def test_what_is_on_the_grid_stays_there(name):
    data = mx.random_weights(np.random.default_rng(5), name, 8, 1024)
    weights = reference(data, name)
    again = _native.quantize_weights(weights, name)
    relative = (error_of(weights, again, name) / (weights.astype(np.float64) ** 2).sum()) ** 0.5
    assert relative < 0.5 * MOST_ERROR[name]


@pytest.mark.parametrize("name", ["Q4_1", "Q5_1"])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_was_quantized_with_a_minimum_comes_back_exactly(name, weighted):
    data = gguf.quantize(normal() ** 3 * 4096, GGMLQuantizationType.Q4_1)
    weights = gguf.dequantize(data, GGMLQuantizationType.Q4_1).astype(np.float32)
    importance = importances() if weighted else None
    again = reference(_native.quantize_weights(weights, name, importance=importance), name)
    assert np.abs(again - weights).max() < 1e-6 * np.abs(weights).max()


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("values", [(-1, 0, 1), (-1, 3), (1, 1)])
def test_few_values_come_back_nearly_exactly(name, values):
    weights = np.random.default_rng(7).choice(
        np.array(values, np.float32) * np.float32(0.0123), (4, 512)
    )
    result = reference(_native.quantize_weights(weights, name), name)
    most = 0.1 if name.startswith("IQ4") else 0.003  # none of whose levels is 0
    assert np.abs(result - weights).max() < most * np.abs(weights).max()


# ---------------------------------------------------------------------------------------- the file format


@pytest.mark.parametrize("name", mx.ALL_TYPES)
def test_reads_as_the_gguf_package_reads_it(name):
    weights = normal(8, 2048) ** 3
    data = _native.quantize_weights(weights, name, importance=importances(2048))
    assert ours_through_c(data, name, weights.size).tobytes() == reference(data, name).tobytes()


@pytest.mark.parametrize("name", mx.FLOAT_TYPES)
def test_plain_numbers_are_rounded_as_gguf_does(name):
    weights = normal(8, 999)
    data = _native.quantize_weights(weights, name)
    assert (data == gguf.quantize(weights, GGMLQuantizationType[name]).view(np.uint8)).all()


# ------------------------------------------------------------------------------------- the same every time


@pytest.mark.parametrize("name", mx.ALL_TYPES)
def test_threads_do_not_change_a_byte(name):
    weights, importance = normal(300, 512) ** 3, importances(512)
    one = _native.quantize_weights(weights, name, importance=importance, threads=1)
    for threads in (2, 3, 8):
        more = _native.quantize_weights(weights, name, importance=importance, threads=threads)
        assert more.tobytes() == one.tobytes()


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("cols", [256, 768, 4096])
def test_instruction_sets_do_not_change_a_byte(name, cols):
    weights, importance = normal(5, cols) ** 3, importances(cols)
    weights[2, :200] = 0
    weights[3] *= np.float32(1e-6)
    weights[4] = 1 + weights[4]
    for given in (None, importance):
        scalar = _native.quantize_weights(weights, name, importance=given, isa="scalar")
        for isa in mx.available_isas():
            data = _native.quantize_weights(weights, name, importance=given, isa=isa)
            assert data.tobytes() == scalar.tobytes(), isa


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_a_row_does_not_depend_on_its_neighbors(name):
    weights = normal(4)
    whole = _native.quantize_weights(weights, name)
    assert _native.quantize_weights(weights[2:3].copy(), name).tobytes() == whole[2].tobytes()


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("power", [-6, 5])
def test_the_unit_of_the_weights_does_not_matter(name, power):
    """Away from the subnormal numbers of f16, a power of two goes through to the scales."""
    weights = normal() * np.float32(64)
    small = reference(_native.quantize_weights(weights, name), name)
    large = _native.quantize_weights(weights * np.float32(2.0**power), name)
    expected = error_of(small, _native.quantize_weights(weights, name), name)
    assert expected == 0
    relative = np.abs(reference(large, name) / 2.0**power - small).max() / np.abs(weights).max()
    assert relative < (1e-6 if power > 0 else 0.2)


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_the_unit_of_importances_does_not_matter(name):
    weights, importance = normal(), importances()
    data = _native.quantize_weights(weights, name, importance=importance)
    again = _native.quantize_weights(weights, name, importance=importance * np.float32(2.0**-60))
    assert again.tobytes() == data.tobytes()


# --------------------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_zeros(name):
    data = _native.quantize_weights(np.zeros((2, 512), np.float32), name)
    assert (reference(data, name) == 0).all()


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("value", [1.0, -1.0, 3e-4, -7e-5, -60000.0, 1.2345])
def test_constants(name, value):
    data = _native.quantize_weights(np.full((1, 512), value, np.float32), name)
    near = 0.03 if abs(value) < 1e-3 else 0.005  # there f16 has few digits left for the scales
    np.testing.assert_allclose(reference(data, name), value, rtol=near)


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("value", [50.0, -50.0])
def test_one_outlier(name, value):
    weights = normal(1, 512)
    weights[0, 300] = value
    result = reference(_native.quantize_weights(weights, name), name)
    np.testing.assert_allclose(result[0, 300], value, rtol=0.02)
    block = mx.block_size(name)[0]
    others = np.arange(512) // block != 300 // block
    assert np.abs(result - weights)[0, others].max() < 0.06


@pytest.mark.parametrize("name", mx.ALL_TYPES)
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-20, 1e-7])
def test_numbers_too_small_for_f16_come_near_0(name, size):
    weights = np.full((1, 512), size, np.float32) * np.where(np.arange(512) % 3, 1, -1)
    result = reference(_native.quantize_weights(weights.astype(np.float32), name), name)
    assert np.isfinite(result).all()
    assert np.abs(result).max() < 3e-7


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("smallest", [1e-45, 1e-39, 1e-30])
def test_weights_of_all_sizes(name, smallest):
    weights = (10.0 ** np.linspace(np.log10(smallest), 4.5, 2048)).astype(np.float32)
    weights = (weights * np.where(np.arange(2048) % 3, 1, -1)).reshape(2, 1024).astype(np.float32)
    for order in (weights, np.random.default_rng(3).permutation(weights.ravel()).reshape(2, -1)):
        for importance in (None, importances()):
            data = _native.quantize_weights(order, name, importance=importance)
            result = reference(data, name)
            assert np.isfinite(result).all()
            relative = (((result - order) ** 2).sum() / (order**2).sum()) ** 0.5
            assert relative < 2.5 * MOST_ERROR[name]


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_the_largest_weights(name):
    weights = (normal() * np.float32(50 * 65504)).clip(-65504, 65504)
    weights[:, ::7] = 65504
    result = reference(_native.quantize_weights(weights, name), name)
    assert np.isfinite(result).all()
    relative = (((result - weights) ** 2).sum() / (weights**2).sum()) ** 0.5
    assert relative < 1.5 * MOST_ERROR[name]


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("pattern", ["zeros", "one", "half", "wide"])
def test_odd_importances(name, pattern):
    importance = {
        "zeros": np.zeros(1024),
        "one": np.eye(1, 1024, 77)[0],
        "half": np.arange(1024) % 512 < 256,
        "wide": 10.0 ** np.linspace(-38, 38, 1024),
    }[pattern].astype(np.float32)
    weights = normal()
    data = _native.quantize_weights(weights, name, importance=importance)
    relative = (error_of(weights, data, name) / (weights**2).sum()) ** 0.5
    assert relative < (MOST_ERROR[name] if pattern == "zeros" else 2.5 * MOST_ERROR[name])


# --------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", mx.ALL_TYPES)
@pytest.mark.parametrize(("bad", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "inf")])
def test_refuses_what_is_not_a_number(name, bad, word):
    weights = normal(300, 512)
    weights[211, 33] = weights[211, 500] = weights[299, 0] = bad
    for threads in (1, 4):
        with pytest.raises(NumericError, match=rf"row 211, column 33 is {word}"):
            _native.quantize_weights(weights, name, threads=threads)


@pytest.mark.parametrize("name", ["F16", *mx.QUANTIZED_TYPES])
def test_refuses_what_f16_cannot_hold(name):
    weights = normal(4, 512)
    weights[3, 5] = 1e30
    with pytest.raises(NumericError, match=f"row 3, column 5 is 1e.30, but {name} holds at most"):
        _native.quantize_weights(weights, name)
    assert np.isfinite(reference(_native.quantize_weights(weights, "BF16"), "BF16")).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_refuses_importances(bad):
    importance = importances(512)
    importance[77] = bad
    with pytest.raises(NumericError, match="importance of column 77"):
        _native.quantize_weights(normal(1, 512), "Q4_K", importance=importance)


def test_refuses_shapes_and_types():
    with pytest.raises(ValueError, match="rows of 288 elements as Q4_K: it comes in blocks of 256"):
        _native.quantize_weights(normal(1, 288), "Q4_K")
    with pytest.raises(ValueError, match="unknown tensor type 'Q9_K'"):
        _native.quantize_weights(normal(), "Q9_K")
    with pytest.raises(ValueError, match="threads must be 1 to"):
        _native.quantize_weights(normal(), "Q4_K", threads=0)
    with pytest.raises(ValueError, match="importance has shape"):
        _native.quantize_weights(normal(), "Q4_K", importance=importances(512))
    with pytest.raises(TypeError, match="float32"):
        _native.quantize_weights(normal().astype(np.float64), "Q4_K")
    with pytest.raises(TypeError, match="contiguous"):
        _native.quantize_weights(normal()[:, ::2], "Q4_K")


def test_nothing_to_do():
    assert _native.quantize_weights(np.zeros((0, 256), np.float32), "Q4_K").shape == (0, 144)
    assert _native.quantize_weights(np.zeros((3, 0), np.float32), "Q4_K").shape == (3, 0)


def test_cancel():
    flag = _native.CancelFlag()
    _native.quantize_weights(normal(), "Q4_K", cancel=flag)
    flag.set()
    with pytest.raises(CancelledError):
        _native.quantize_weights(normal(), "Q4_K", cancel=flag)


# --------------------------------------------------------------------------------------------- measuring


def test_measures_the_error():
    weights, importance = normal(40, 512), importances(512)
    weights[17, 256:] **= 3
    data = _native.quantize_weights(weights, "Q4_K")
    squares = (reference(data, "Q4_K").astype(np.float64) - weights) ** 2
    energy = weights.astype(np.float64) ** 2
    for threads in (1, 3):
        found = _native.measure_quantization(
            data, weights, "Q4_K", importance=importance, threads=threads
        )
        assert found.error == pytest.approx(squares.sum(), rel=1e-12)
        assert found.energy == pytest.approx(energy.sum(), rel=1e-12)
        assert found.weighted_error == pytest.approx((importance * squares).sum(), rel=1e-12)
        assert found.weighted_energy == pytest.approx((importance * energy).sum(), rel=1e-12)
        assert found.relative == pytest.approx((squares.sum() / energy.sum()) ** 0.5)
        blocks = (squares.reshape(-1, 256).sum(1) / energy.reshape(-1, 256).sum(1)) ** 0.5
        assert found.worst == pytest.approx(blocks.max(), rel=1e-12)
        assert (found.worst_row, found.worst_column) == divmod(int(blocks.argmax()) * 256, 512)


def test_nothing_was_lost_where_nothing_was_quantized():
    weights = normal()
    data = _native.quantize_weights(weights, "F32")
    found = _native.measure_quantization(data, weights, "F32")
    assert (found.error, found.weighted_error, found.worst, found.relative) == (0, 0, 0, 0)


def test_measuring_refuses():
    weights = normal(2, 512)
    data = _native.quantize_weights(weights, "Q4_K")
    with pytest.raises(ValueError, match="shape"):
        _native.measure_quantization(data[:1], weights, "Q4_K")
    with pytest.raises(ValueError, match="threads"):
        _native.measure_quantization(data, weights, "Q4_K", threads=1000)
