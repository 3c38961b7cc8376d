"""Rows of float32 weights to tensor types, and what that loses."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pyqwen._ffi import ffi, lib
from pyqwen._native.ownership import keeping, new_cell
from pyqwen._native.status import check, new_error, to_dict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_TYPES = 256  # type numbers from here on are none of ggml's


class TensorType(NamedTuple):
    """A tensor type: ggml's number, and the elements and bytes of one block."""

    number: int
    block: int
    n_bytes: int


class QuantizationError(NamedTuple):
    """``pq_quantization_error``: sums over a tensor, and its worst block."""

    error: float
    energy: float
    weighted_error: float
    weighted_energy: float
    worst: float
    worst_row: int
    worst_column: int

    @property
    def relative(self) -> float:
        """The root mean square error relative to that of the weights."""
        return float((self.error / self.energy) ** 0.5) if self.energy > 0 else 0.0


class CancelFlag:
    """Stops the call it was given to, from any thread."""

    def __init__(self) -> None:
        out, error = new_cell("pq_cancel **", lib.pq_cancel_close), new_error()
        check(lib.pq_cancel_open(out, error), error)
        self.pointer = keeping(out[0], out)

    def set(self) -> None:
        self.cancel()

    def cancel(self, on: bool = True) -> None:
        lib.pq_cancel_set(self.pointer, int(on))


@cache
def tensor_types() -> dict[str, TensorType]:
    """Return the types that can be read and written, by name (``"Q4_K"``)."""
    types = {}
    for number in range(_MOST_TYPES):
        if (name := lib.pq_type_name(number)) != ffi.NULL:
            block, n_bytes = lib.pq_type_block(number), lib.pq_type_bytes(number)
            types[ffi.string(name).decode()] = TensorType(number, block, n_bytes)
    return types


def _type(name: str) -> TensorType:
    try:
        return tensor_types()[name]
    except KeyError:
        raise ValueError(
            f"unknown tensor type {name!r}; the types are {', '.join(tensor_types())}"
        ) from None


def _floats(array: NDArray[np.float32], what: str, shape: tuple[int, ...] | None = None) -> Any:
    """Return a ``const float *`` to an array, whose type, order and shape must be right."""
    if array.dtype != "float32" or not array.flags.c_contiguous:
        raise TypeError(f"{what} must be a contiguous float32 array, not {array.dtype}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} has shape {array.shape}, expected {shape}")
    return ffi.cast("const float *", array.ctypes.data)


def _matrix(weights: NDArray[np.float32], tensor_type: str) -> tuple[TensorType, int, int, int]:
    """Return the type, rows, columns and bytes per row of a matrix to be quantized."""
    if weights.ndim != 2:
        raise ValueError(f"weights have {weights.ndim} dimensions, expected 2")
    kind = _type(tensor_type)
    rows, cols = weights.shape
    return kind, rows, cols, cols // kind.block * kind.n_bytes


def quantize_weights(
    weights: NDArray[np.float32],
    tensor_type: str,
    *,
    importance: NDArray[np.float32] | None = None,
    threads: int | None = None,
    cancel: CancelFlag | None = None,
    isa: str | None = None,
) -> NDArray[np.uint8]:
    """Return `weights` (rows, cols) as the rows of a tensor file: uint8 (rows, bytes per row).

    `importance` (cols) weights the squared error of each column. The bytes do not depend on
    `threads` or `isa` (None: the best instruction set here).
    """
    import numpy as np

    kind, rows, cols, row_bytes = _matrix(weights, tensor_type)
    out = np.empty((rows, row_bytes), dtype=np.uint8)
    error = new_error()
    status = lib.pq_quantize_weights(
        ffi.NULL if isa is None else isa.encode(),
        kind.number,
        _floats(weights, "weights"),
        rows,
        cols,
        ffi.NULL if importance is None else _floats(importance, "importance", (cols,)),
        ffi.cast("void *", out.ctypes.data),
        lib.pq_default_threads() if threads is None else threads,
        ffi.NULL if cancel is None else cancel.pointer,
        error,
    )
    check(status, error)
    return out


def gptq_panel(
    panel: NDArray[np.float32],
    tensor_type: str,
    factor: NDArray[np.float32],
    *,
    threads: int | None = None,
    cancel: CancelFlag | None = None,
    isa: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantize some columns of a matrix by GPTQ; return their bytes and the errors to feed on.

    `panel` (rows, cols) may be a view of a matrix's columns, at most 256 of them; `factor` (cols,
    cols) is the diagonal block of U for them. The caller then takes ``errors @ U[panel, right]`` off
    the columns right of the panel. The rest is as in `quantize_weights`.
    """
    import numpy as np

    rows, cols = panel.shape
    kind = _type(tensor_type)
    if panel.dtype != "float32" or panel.strides[1] != 4 or panel.strides[0] % 4:
        raise TypeError("panel must be columns of a C-contiguous float32 matrix")
    data = np.empty((rows, cols // kind.block * kind.n_bytes), dtype=np.uint8)
    errors = np.empty((rows, cols), dtype=np.float32)
    error = new_error()
    status = lib.pq_gptq_panel(
        ffi.NULL if isa is None else isa.encode(),
        kind.number,
        ffi.cast("const float *", panel.ctypes.data),
        panel.strides[0] // 4,
        rows,
        cols,
        _floats(factor, "factor", (cols, cols)),
        ffi.cast("void *", data.ctypes.data),
        data.shape[1],
        ffi.cast("float *", errors.ctypes.data),
        lib.pq_default_threads() if threads is None else threads,
        ffi.NULL if cancel is None else cancel.pointer,
        error,
    )
    check(status, error)
    return data, errors


def measure_quantization(
    data: NDArray[np.uint8],
    weights: NDArray[np.float32],
    tensor_type: str,
    *,
    importance: NDArray[np.float32] | None = None,
    threads: int | None = None,
    cancel: CancelFlag | None = None,
) -> QuantizationError:
    """Compare `data` (rows, bytes per row) with the `weights` (rows, cols) it was made from."""
    kind, rows, cols, row_bytes = _matrix(weights, tensor_type)
    if data.dtype != "uint8" or not data.flags.c_contiguous or data.shape != (rows, row_bytes):
        raise ValueError(
            f"data must be contiguous uint8 of shape {(rows, row_bytes)}, "
            f"not {data.dtype} of shape {data.shape}"
        )
    out, error = ffi.new("pq_quantization_error *"), new_error()
    status = lib.pq_measure_quantization(
        kind.number,
        ffi.cast("void *", data.ctypes.data),
        _floats(weights, "weights"),
        rows,
        cols,
        ffi.NULL if importance is None else _floats(importance, "importance", (cols,)),
        lib.pq_default_threads() if threads is None else threads,
        ffi.NULL if cancel is None else cancel.pointer,
        out,
        error,
    )
    check(status, error)
    return QuantizationError(**to_dict(out))
