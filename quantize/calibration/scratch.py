"""A nameless file for what is made before it is known whether it is wanted; it goes with the
process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

_PART = 8 << 20


class Scratch:
    """Keeps byte arrays on the disk of ``folder``. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._end = 0

    def put(self, data: npt.NDArray[np.uint8]) -> tuple[int, int]:
        """Append an array; what is returned names it to `parts`."""
        place = (self._end, data.nbytes)
        self._file.seek(self._end)
        self._file.write(np.ascontiguousarray(data).data)
        self._end += data.nbytes
        return place

    def parts(self, place: tuple[int, int]) -> Iterator[npt.NDArray[np.uint8]]:
        """The bytes of an array, some at a time."""
        start, n_bytes = place
        for offset in range(start, start + n_bytes, _PART):
            self._file.seek(offset)
            part = np.empty(min(_PART, start + n_bytes - offset), np.uint8)
            if self._file.readinto(part.data) != part.nbytes:
                raise OSError("the scratch file is shorter than it was")
            yield part

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
