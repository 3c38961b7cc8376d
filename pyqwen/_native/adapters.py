"""Low-rank adapters (LoRA) in the core: filled once, then used by any number of sessions of their model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyqwen._ffi import ffi, lib
from pyqwen._native.models import model_options
from pyqwen._native.ownership import borrowed, keeping, new_cell
from pyqwen._native.status import check, new_error
from pyqwen.errors import ClosedError

if TYPE_CHECKING:
    from pyqwen._native.files import FileHandle
    from pyqwen._native.models import ModelHandle

MOST_RANK = int(lib.PQ_MAX_ADAPTER_RANK)
MOST_ADAPTERS = int(lib.PQ_MAX_SEQUENCE_ADAPTERS)
"""Of one sequence."""


class AdaptedMatrix(NamedTuple):
    """A matrix that an adapter changes, by its name in a GGUF file; ``scale`` is that of B A."""

    name: str
    rank: int
    scale: float


class AdapterSize(NamedTuple):
    """Bytes that an adapter takes: its weights, and what a session needs for each row of its batch."""

    weights: int
    per_row: int


class AdapterHandle:
    """A ``pq_adapter``. Keeps the model that it was made for."""

    def __init__(self, model: ModelHandle, matrices: Sequence[AdaptedMatrix]) -> None:
        tensors, _keep = _tensors(matrices)
        weights = model.pointer
        out, error = new_cell("pq_adapter **", lib.pq_adapter_close, weights), new_error()
        check(lib.pq_adapter_open(out, weights, tensors, len(matrices), error), error)
        self._pointer = keeping(out[0], out)

    @property
    def pointer(self) -> Any:
        """The ``pq_adapter *``; whoever keeps it keeps the adapter."""
        if self._pointer is None:
            raise ClosedError("the adapter was closed")
        return self._pointer

    def close(self) -> None:
        """Give the adapter up; it is freed when no session needs it. Idempotent."""
        self._pointer = None

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes."""
        return int(lib.pq_adapter_bytes(self.pointer))

    def fill(self, index: int, a: tuple[int, Any], b: tuple[int, Any]) -> None:
        """Give matrix ``index`` its values: the number of a tensor type, and the bytes of all rows.

        ``a`` is (rank, columns of the matrix), ``b`` (rows of the matrix, rank).
        """
        error = new_error()
        with borrowed("char[]", a[1]) as of_a, borrowed("char[]", b[1]) as of_b:
            given = a[0], of_a, len(a[1]), b[0], of_b, len(b[1])
            check(lib.pq_adapter_fill(self.pointer, index, *given, error), error)


def plan_adapter(
    file: FileHandle,
    matrices: Sequence[AdaptedMatrix],
    *,
    isa: str | None = None,
    exact: bool = False,
) -> AdapterSize:
    """Return what an adapter will take beside the model in ``file``."""
    model, _keep, _ = model_options(isa, 0, exact, None)
    tensors, _keep_too = _tensors(matrices)
    out, error = ffi.new("pq_adapter_plan *"), new_error()
    check(lib.pq_plan_adapter(out, file.pointer, model, tensors, len(matrices), error), error)
    return AdapterSize(int(out.weights), int(out.per_row))


def _tensors(matrices: Sequence[AdaptedMatrix]) -> tuple[Any, list[Any]]:
    tensors = ffi.new("pq_adapter_tensor[]", len(matrices))
    keep = [ffi.new("char[]", matrix.name.encode()) for matrix in matrices]
    for i, matrix in enumerate(matrices):
        struct = tensors[i]
        struct.name, struct.rank, struct.scale = keep[i], matrix.rank, matrix.scale
    return tensors, keep
