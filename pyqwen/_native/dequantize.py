"""Rows of a tensor file back to float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyqwen._ffi import ffi, lib
from pyqwen._native.quantize import tensor_types
from pyqwen._native.status import check, new_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def dequantize_rows(data: NDArray[np.uint8], tensor_type: str) -> NDArray[np.float32]:
    """Return the weights (rows, columns) of `data`, contiguous uint8 (rows, bytes per row)."""
    import numpy as np

    kind = tensor_types()[tensor_type]
    if data.dtype != "uint8" or data.ndim != 2 or not data.flags.c_contiguous:
        raise TypeError(f"data must be contiguous uint8 of 2 dimensions, not {data.dtype}")
    if data.shape[1] % kind.n_bytes:
        raise ValueError(f"rows of {data.shape[1]} bytes are no whole blocks of {tensor_type}")
    out = np.empty((data.shape[0], data.shape[1] // kind.n_bytes * kind.block), dtype=np.float32)
    error = new_error()
    source, target = ffi.cast("void *", data.ctypes.data), ffi.cast("float *", out.ctypes.data)
    check(lib.pq_dequantize(kind.number, source, out.size, target, error), error)
    return out
