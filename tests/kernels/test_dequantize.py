"""Every tensor type as float32, against the gguf package's reference."""

import gguf
import matrices as mx
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from pyqwen import _native

ffi, lib = _native.ffi, _native.lib


def dequantize(name: str, data: np.ndarray, n: int) -> np.ndarray:
    out = np.full(n, np.nan, dtype=np.float32)
    error = _native.new_error()
    status = lib.pq_dequantize(
        mx.type_number(name), mx.pointer("void *", data), n, mx.pointer("float *", out), error
    )
    _native.check(status, error)
    return out


def reference(name: str, data: np.ndarray) -> np.ndarray:
    return gguf.dequantize(data, GGMLQuantizationType[name]).astype(np.float32).ravel()


@pytest.mark.parametrize("name", mx.ALL_TYPES)
def test_equals_gguf_bit_for_bit(name):
    weights = mx.random_weights(np.random.default_rng(1), name, 64, 2048)
    out = dequantize(name, weights, 64 * 2048)
    assert out.tobytes() == reference(name, weights).tobytes()


@pytest.mark.parametrize("name", mx.QUANTIZED_TYPES)
@pytest.mark.parametrize("scale", [0.0, -0.0, 6e-8, 65504.0, np.inf])
def test_extreme_scales(name, scale):
    weights = mx.random_weights(np.random.default_rng(2), name, 4, 512)
    blocks = 512 // mx.block_size(name)[0]
    mx.set_scales(weights, name, np.full((4, blocks, len(mx.F16_OFFSETS[name])), scale))
    with np.errstate(invalid="ignore"):
        expected = reference(name, weights)
    np.testing.assert_array_equal(dequantize(name, weights, 4 * 512), expected)


def test_every_f16_and_bf16_number():
    codes = np.arange(65536, dtype="<u2")
    out = dequantize("F16", codes.view(np.uint8), codes.size)
    np.testing.assert_array_equal(out, codes.view("<f2").astype(np.float32))
    assert (np.signbit(out) == (codes >= 0x8000)).all()
    out = dequantize("BF16", codes.view(np.uint8), codes.size)
    assert out.tobytes() == (codes.astype("<u4") << 16).tobytes()


@pytest.mark.parametrize("name", mx.ALL_TYPES)
def test_source_at_an_odd_address(name):
    weights = mx.random_weights(np.random.default_rng(3), name, 1, 256).ravel()
    room = np.zeros(weights.size + 1, dtype=np.uint8)
    room[1:] = weights
    assert dequantize(name, room[1:], 256).tobytes() == dequantize(name, weights, 256).tobytes()


def test_nothing_to_do():
    assert dequantize("Q4_K", np.zeros(0, np.uint8), 0).size == 0


@pytest.mark.parametrize(
    ("number", "n", "message"),
    [
        (12, 255, "255 elements of Q4_K: it comes in blocks of 256"),
        (2, 33, "blocks of 32"),
        (16, 256, r"type 16 \(IQ2_XXS\)"),
        (4711, 256, "type 4711$"),
    ],
)
def test_refuses(number, n, message):
    data, out, error = np.zeros(4096, np.uint8), np.zeros(256, np.float32), _native.new_error()
    status = lib.pq_dequantize(
        number, mx.pointer("void *", data), n, mx.pointer("float *", out), error
    )
    with pytest.raises(ValueError, match=message):
        _native.check(status, error)


def test_refuses_null():
    error = _native.new_error()
    assert lib.pq_dequantize(0, ffi.NULL, 4, ffi.NULL, error) == lib.PQ_ERR_ARGUMENT
