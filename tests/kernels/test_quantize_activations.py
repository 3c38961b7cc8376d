"""Quantized activations: int8 with one float32 scale per block of 32."""

import matrices as mx
import numpy as np
import pytest
from extension import kernel_lib

from pyqwen import _native

ISAS = mx.available_isas()
SIMD = [isa for isa in ISAS if isa != "scalar"]


@pytest.mark.parametrize("isa", ISAS)
def test_as_specified(isa):
    x = np.random.default_rng(1).standard_normal(8 * 256, dtype=np.float32)
    x[256:512] = 0
    x[512:768] *= np.float32(1e-20)
    x[768:1024] *= np.float32(1e30)
    q, d, sums, s = mx.quantize(isa, x)
    blocks = x.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1)
    inverse = np.divide(np.float32(127), largest, where=largest > 0, out=np.zeros_like(largest))
    np.testing.assert_array_equal(d, largest / np.float32(127))
    np.testing.assert_array_equal(q, np.rint(blocks * inverse[:, None]).ravel().astype(np.int8))
    np.testing.assert_array_equal(sums, q.reshape(-1, 16).sum(axis=1, dtype=np.int16))
    np.testing.assert_array_equal(s, d * q.reshape(-1, 32).sum(axis=1).astype(np.float32))
    assert np.abs(q).max() == 127


@pytest.mark.parametrize("isa", ISAS)
def test_halves_round_to_even(isa):
    x = np.zeros(32, dtype=np.float32)
    x[:7] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]
    assert mx.quantize(isa, x)[0][:7].tolist() == [127, 0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("isa", ISAS)
def test_largest_sums(isa):
    x = np.repeat(np.array([1, -1], dtype=np.float32), 32)
    q, _, sums, s = mx.quantize(isa, x)
    assert q.tolist() == [127] * 32 + [-127] * 32
    assert sums.tolist() == [2032, 2032, -2032, -2032]
    assert (
        s == np.array([4064, -4064], dtype=np.float32) * (np.float32(1) / np.float32(127))
    ).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 31, 17])
def test_damage_reaches_the_scale_of_its_block_only(isa, bad, place):
    x = np.ones(96, dtype=np.float32)
    x[32 + place] = bad
    q, d, _, s = mx.quantize(isa, x)
    assert d[0] == d[2] == np.float32(1) / np.float32(127)
    assert np.isinf(d[1]) if np.isinf(bad) else np.isnan(d[1])
    assert np.isnan(s).tolist() == [False, True, False]
    assert not q[32:64].any()


@pytest.mark.parametrize("isa", ISAS)
def test_numbers_too_small_to_scale_are_zero(isa):
    for values in mx.quantize(isa, np.full(256, 1e-42, dtype=np.float32)):
        assert not values.any()


@pytest.mark.parametrize("isa", SIMD)
@pytest.mark.parametrize("size", [0.0, 1e-45, 3.7e-37, 3.8e-37, 1e-10, 1.0, 3e38, np.inf, np.nan])
def test_same_bits_as_scalar(isa, size):
    rng = np.random.default_rng(2)
    for n in (32, 96, 11008):
        with np.errstate(over="ignore", invalid="ignore"):
            x = (rng.uniform(-1, 1, n) * size).astype(np.float32)
        x[::5] = 0
        for ours, expected in zip(mx.quantize(isa, x), mx.quantize("scalar", x), strict=True):
            if np.isnan(expected).any():
                np.testing.assert_array_equal(ours, expected)
            else:
                assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("n", [0, 1, 33, 48])
def test_refuses(n):
    x = np.zeros(64, dtype=np.float32)
    out, error = np.zeros(64), _native.new_error()
    status = kernel_lib().pq_test_quantize_activations(
        mx.ffi.NULL, mx.pointer("float *", x), n, mx.pointer("int8_t *", out),
        mx.pointer("float *", out), mx.pointer("int16_t *", out), mx.pointer("float *", out), error,
    )  # fmt: skip
    with pytest.raises(ValueError, match=f"{n} values in blocks of 32"):
        _native.check(status, error)
