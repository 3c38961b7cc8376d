"""What an adapter's file holds, whatever its format: for each matrix the factors A and B, not yet read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pyqwen._native import MOST_RANK
from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.loading.adapters.base_model import BaseMatrix

Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class Factor:
    """A or B: ``name`` in its file, tensor ``type`` as GGUF calls it, ``shape`` (rows, columns).

    ``read()`` gives the bytes of all rows, in the order in which a model's file has them.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    read: Callable[[], Buffer]


@dataclass(frozen=True, slots=True)
class AdapterTensor:
    """What is added to one matrix: ``scale`` * B (A x), A (rank, columns) and B (rows, rank)."""

    matrix: BaseMatrix
    rank: int
    scale: float
    a: Factor
    b: Factor


class AdapterFile:
    """An open adapter; close it after use. Headers and shapes are checked, values are not read yet.

    ``base`` is what the adapter says it was made for, if it does.
    """

    def __init__(
        self,
        path: Path,
        files: tuple[Path, ...],
        tensors: list[AdapterTensor],
        close: Callable[[], None],
        base: str | None = None,
    ) -> None:
        self.path, self.files, self.tensors, self.base = path, files, tensors, base
        self._close = close

    def close(self) -> None:
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def checked_tensor(
    where: Path, matrix: BaseMatrix, a: Factor | None, b: Factor | None, made_for: str
) -> tuple[Factor, Factor, int]:
    """The factors and their rank, if they fit the matrix; ``made_for`` names the base model in messages."""
    if a is None or b is None:
        there = a or b
        name = there.name if there is not None else matrix.name
        raise ModelFormatError(
            f"{where}: '{name[:120]}' has no counterpart {'A' if a is None else 'B'}; the adapter was "
            "saved in part, or the download is incomplete",
            field=name,
        )
    rank = a.shape[0] if len(a.shape) == 2 else 0
    for factor, wanted in ((a, (rank, matrix.columns)), (b, (matrix.rows, rank))):
        if factor.shape != wanted or rank == 0:
            shape = " × ".join(map(str, wanted)) if rank else f"rank × {matrix.columns}"
            raise UnsupportedModelError(
                f"{where}: '{factor.name[:120]}' has shape {' × '.join(map(str, factor.shape))}, and "
                f"{matrix.name} of this model needs {shape}: the adapter is for another base model"
                f"{made_for}",
                field=factor.name,
            )
    if rank > MOST_RANK:
        raise UnsupportedModelError(
            f"{where}: '{a.name[:120]}' has rank {rank:,}; this version runs ranks up to {MOST_RANK:,}",
            field=a.name,
        )
    return a, b, rank
