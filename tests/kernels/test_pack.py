"""The interleaved layout loses nothing: packing and taking apart gives the file's bytes."""

import matrices as mx
import numpy as np
import pytest
from extension import kernel_lib

from pyqwen import _native


def repack(isa: str, name: str, weights: np.ndarray, cols: int) -> np.ndarray:
    out = np.zeros_like(weights)
    error = _native.new_error()
    status = kernel_lib().pq_test_repack(
        isa.encode(), mx.type_number(name), mx.pointer("void *", weights), weights.shape[0], cols,
        mx.pointer("void *", out), error,
    )  # fmt: skip
    _native.check(status, error)
    return out


@pytest.mark.parametrize("isa", mx.available_isas())
@pytest.mark.parametrize("name", mx.ALL_TYPES)
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17, 40])
def test_round_trip(isa, name, rows):
    elements, size = mx.block_size(name)
    cols = 3 * max(elements, 32)
    weights = np.random.default_rng(rows).integers(
        0, 256, (rows, cols // elements * size), dtype=np.uint8
    )
    np.testing.assert_array_equal(repack(isa, name, weights, cols), weights)


@pytest.mark.parametrize(
    ("rows", "cols", "type_", "message"),
    [
        (0, 256, "Q4_K", "0 x 256 matrix of Q4_K"),
        (1, 0, "Q4_K", "1 x 0"),
        (1, 255, "Q4_K", "multiples of 256"),
    ],
)
def test_refuses_shapes(rows, cols, type_, message):
    data, error = np.zeros(1024, np.uint8), _native.new_error()
    status = kernel_lib().pq_test_repack(
        mx.ffi.NULL, mx.type_number(type_), mx.pointer("void *", data), rows, cols,
        mx.pointer("void *", data), error,
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        _native.check(status, error)


def test_refuses_types():
    data, error = np.zeros(1024, np.uint8), _native.new_error()
    status = kernel_lib().pq_test_repack(
        mx.ffi.NULL, 16, mx.pointer("void *", data), 1, 256, mx.pointer("void *", data), error
    )
    with pytest.raises(ValueError, match="tensor type 16"):
        _native.check(status, error)
