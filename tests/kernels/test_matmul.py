"""Matrix products: the scalar kernels against numpy, every other instruction set against the scalar bits."""

import gguf
import matrices as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType

ISAS = mx.available_isas()
SIMD = [isa for isa in ISAS if isa != "scalar"]


def floats(name: str, weights: np.ndarray) -> np.ndarray:
    return gguf.dequantize(weights, GGMLQuantizationType[name]).astype(np.float64)


def one_block(name: str) -> int:
    return mx.block_size(name)[0]


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Equal as bytes; only NaN may differ from NaN."""
    differ = (a.view(np.uint32) != b.view(np.uint32)) & ~(np.isnan(a) & np.isnan(b))
    where = np.argwhere(differ)[:5].tolist()
    assert not differ.any(), f"{differ.sum()} of {a.size} differ, first at {where}"


# ----------------------------------------------------------------- the specification against numpy


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize(("rows", "blocks", "n"), [(1, 1, 1), (17, 9, 5), (8, 8, 40)])
def test_scalar_is_the_product_of_what_was_quantized(name, rows, blocks, n):
    """int8 activations times dequantized weights in float64: only float32 rounding may differ."""
    rng = np.random.default_rng(rows)
    cols = blocks * one_block(name)
    weights = mx.random_weights(rng, name, rows, cols)
    x = rng.standard_normal((n, cols), dtype=np.float32)
    seen = np.empty((n, cols))
    for t in range(n):
        q, d, _, _ = mx.quantize("scalar", x[t])
        seen[t] = (q.reshape(-1, 32) * d.astype(np.float64)[:, None]).ravel()
    w = floats(name, weights)
    tolerance = 1e-6 * (np.abs(seen) @ np.abs(w).T) + 1e-30
    assert (np.abs(mx.matmul("scalar", name, weights, x) - seen @ w.T) <= tolerance).all()


@pytest.mark.parametrize("name", mx.ALL_TYPES)
@pytest.mark.parametrize(("rows", "cols", "n"), [(1, 256, 1), (9, 512, 7), (5, 2304, 35)])
def test_exact_mode_is_the_float_product(name, rows, cols, n):
    rng = np.random.default_rng(cols)
    weights = mx.random_weights(rng, name, rows, cols)
    x = rng.standard_normal((n, cols), dtype=np.float32)
    w = floats(name, weights)
    tolerance = 2e-6 * (np.abs(x) @ np.abs(w).T)
    y = mx.matmul("scalar", name, weights, x, exact=True)
    assert (np.abs(y - x.astype(np.float64) @ w.T) <= tolerance).all()


@pytest.mark.parametrize("name", mx.FLOAT_TYPES)
@pytest.mark.parametrize("cols", [1, 2, 31, 257])
def test_float_matrices_have_any_width(name, cols):
    rng = np.random.default_rng(cols)
    weights = mx.random_weights(rng, name, 3, cols)
    x = rng.standard_normal((4, cols), dtype=np.float32)
    expected = x.astype(np.float64) @ floats(name, weights).T
    for isa in ISAS:
        y = mx.matmul(isa, name, weights, x)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        assert_same_bits(y, mx.matmul("scalar", name, weights, x))


def test_accumulation_order_of_float_types():
    """Even and odd columns have an accumulator each; a single one would give 1 here, pairs 2."""
    weights = np.array([[2.0**24, 1.0, 1.0, 1.0, -(2.0**24), 1.0]], dtype=np.float32)
    x = np.ones((1, 6), dtype=np.float32)
    even = np.float32(2.0**24) + np.float32(1.0) - np.float32(2.0**24)
    for isa in ISAS:
        assert mx.matmul(isa, "F32", weights.view(np.uint8), x)[0, 0] == even + 3


# ------------------------------------------------------------------- every instruction set like scalar


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", mx.ALL_TYPES)
@pytest.mark.parametrize("exact", [False, True], ids=["int8", "exact"])
def test_same_bits_for_any_number_of_rows_and_tokens(isa, name, exact):
    """Every token alone, and in any company, gives what scalar gives."""
    rng = np.random.default_rng(7)
    cols = 3 * max(one_block(name), 32)
    for rows in (1, 7, 8, 9, 15, 16, 17, 33):
        weights = mx.random_weights(rng, name, rows, cols)
        x = rng.standard_normal((130, cols), dtype=np.float32)
        expected = mx.matmul("scalar", name, weights, x, exact=exact)
        for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 33, 130):
            assert_same_bits(mx.matmul(isa, name, weights, x[:n].copy(), exact=exact), expected[:n])


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", mx.ALL_TYPES)
@pytest.mark.parametrize("cols", [1, 2, 7, 43])
def test_same_bits_for_any_width(isa, name, cols):
    """cols blocks of 256 (43: 11,008 columns), and one single block."""
    rng = np.random.default_rng(cols)
    for width in (cols * 256, cols * max(one_block(name), 32)):
        weights = mx.random_weights(rng, name, 11, width)
        x = rng.standard_normal((45, width), dtype=np.float32)
        for n in (1, 13, 45):
            part = x[:n].copy()
            expected = mx.matmul("scalar", name, weights, part)
            assert_same_bits(mx.matmul(isa, name, weights, part), expected)


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q8_0"])
def test_more_than_is_multiplied_at_a_time(isa, name):
    """AMX takes 8 panels of 16 rows, 3,072 columns (Q6_K: 2,048) and 512 tokens; a chunk here is 9 panels."""
    rng = np.random.default_rng(13)
    weights = mx.random_weights(rng, name, 520, 3584)
    x = rng.standard_normal((530, 3584), dtype=np.float32)
    expected = mx.matmul("scalar", name, weights, x, threads=2)
    assert_same_bits(mx.matmul(isa, name, weights, x), expected)


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_many_panels_and_threads(isa, name):
    """More panels than are unpacked at a time; the threads share them."""
    rng = np.random.default_rng(11)
    weights = mx.random_weights(rng, name, 333, 1024)
    x = rng.standard_normal((19, 1024), dtype=np.float32)
    expected = mx.matmul("scalar", name, weights, x)
    for threads in (1, 2, 3):
        assert_same_bits(mx.matmul(isa, name, weights, x, threads=threads), expected)


EXTREME_BYTES = {
    "zeros": 0x00, "ones": 0xFF, "high": 0x80, "seven": 0x7F, "low nibbles": 0x0F, "high nibbles": 0xF0,
    "fives": 0x55,
}  # fmt: skip


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("byte", EXTREME_BYTES.values(), ids=EXTREME_BYTES)
def test_saturation(isa, name, byte):
    """All quants and scales at one extreme, all activations at +127, at -127, and alternating: where 16-bit
    sums would overflow."""
    cols = 1024
    rows = 8
    elements, size = mx.block_size(name)
    weights = np.full((rows, cols // elements * size), byte, dtype=np.uint8)
    scales = np.full((rows, cols // elements, len(mx.F16_OFFSETS[name])), 0.5)
    mx.set_scales(weights, name, scales)
    ones = np.ones(cols, dtype=np.float32)
    signs = np.where(np.arange(cols) % 2 == 0, 1, -1).astype(np.float32)
    pairs = np.where(np.arange(cols) % 4 < 2, 1, -1).astype(np.float32)
    x = np.stack([ones, -ones, signs, -signs, pairs, 0 * ones, ones] * 3)
    for n in (1, 7, 21):
        expected = mx.matmul("scalar", name, weights, x[:n].copy())
        assert_same_bits(mx.matmul(isa, name, weights, x[:n].copy()), expected)


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
def test_saturation_by_matching_signs(isa, name):
    """Activations with the sign of the weights they meet: the largest sums of random quants."""
    rng = np.random.default_rng(5)
    weights = mx.random_weights(rng, name, 24, 2048)
    w = floats(name, weights)
    x = np.where(w >= 0, 1, -1).astype(np.float32)
    expected = mx.matmul("scalar", name, weights, x)
    assert_same_bits(mx.matmul(isa, name, weights, x), expected)
    for n in (1, 7):
        assert_same_bits(mx.matmul(isa, name, weights, x[:n].copy()), expected[:n])


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("scale", [0.0, -0.0, 6e-8, 65504.0, np.inf, np.nan])
@pytest.mark.parametrize("size", [0.0, 1e-41, 1e-30, 1.0, 1e33, 3e38, np.inf, np.nan])
def test_extreme_numbers(isa, name, scale, size):
    """Zeros, subnormal numbers, overflow and damaged values take the same way everywhere."""
    rng = np.random.default_rng(6)
    weights = mx.random_weights(rng, name, 9, 512)
    blocks = 512 // one_block(name)
    scales = np.full((9, blocks, len(mx.F16_OFFSETS[name])), scale)
    scales[:, ::2] = 0.25
    mx.set_scales(weights, name, scales)
    with np.errstate(over="ignore", invalid="ignore"):
        x = (rng.uniform(-1, 1, (21, 512)) * size).astype(np.float32)
    for n in (1, 7, 21):
        expected = mx.matmul("scalar", name, weights, x[:n].copy())
        assert_same_bits(mx.matmul(isa, name, weights, x[:n].copy()), expected)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["Q4_0", "Q4_K", "F16"])
def test_damaged_activations_are_not_hidden(isa, name):
    weights = mx.random_weights(np.random.default_rng(8), name, 8, 512)
    x = np.ones((2, 512), dtype=np.float32)
    x[1, 300] = np.nan
    y = mx.matmul(isa, name, weights, x)
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).all()
