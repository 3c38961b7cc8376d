"""One safetensors file: a checked table of tensors, and their values a few rows at a time.

The format: 8 bytes with the length of the header, the header (a JSON object that gives type, shape
and place of each tensor), then the values, which must fill the rest of the file without gaps
(https://github.com/huggingface/safetensors, README, "Format"). The file is read through a small
buffer and never mapped, so that converting takes little memory however large the file is.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqwen.errors import ModelChangedError, ModelFormatError
from pyqwen.loading.json_file import parse_json_object

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_HEADER_LIMIT = 100_000_000  # the bound of the format's own library
_DAMAGED = "the file is damaged or the download incomplete: fetch it again"

ELEMENT_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
}
# numpy has no bfloat16; its bits are read as integers.
_NUMPY_TYPES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a checkpoint. ``dtype`` as safetensors spells it; ``offset`` is in ``file``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    file: SafetensorsFile

    def read_rows(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Values of rows ``start`` to ``stop`` of the first dimension; BF16 comes as uint16 bits."""
        import numpy as np

        row = math.prod(self.shape[1:])
        kind = np.dtype(_NUMPY_TYPES[self.dtype])
        count = (stop - start) * row
        values = self.file.read(self.offset + start * row * kind.itemsize, count, kind)
        return values.reshape(stop - start, *self.shape[1:])

    def read_bytes(self) -> bytearray:
        """All bytes of the tensor, without numpy."""
        return self.file.read_bytes(self.offset, self.n_bytes)


class SafetensorsFile:
    """An open safetensors file. ``tensors`` is checked against the file's size when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        try:
            self._identity = self._state()
            self.tensors = self._read_table()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, offset: int, count: int, kind: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return ``count`` values of type ``kind`` that begin at byte ``offset``."""
        import numpy as np

        values = np.empty(count, kind)
        self._read_into(values.view(np.uint8).data, offset)
        return values

    def read_bytes(self, offset: int, n_bytes: int) -> bytearray:
        """Return bytes from ``offset`` on."""
        data = bytearray(n_bytes)
        self._read_into(memoryview(data), offset)
        return data

    def check_unchanged(self) -> None:
        """``ModelChangedError`` if the file was written to, or replaced, since it was opened."""
        try:
            now = self.path.stat()
            same = (now.st_ino, now.st_size, now.st_mtime_ns) == self._identity
        except FileNotFoundError:
            same = False
        if not same or self._state() != self._identity:
            raise ModelChangedError(f"{self.path} was changed while it was read; convert it again")

    def _state(self) -> tuple[int, int, int]:
        now = os.fstat(self._file.fileno())
        return now.st_ino, now.st_size, now.st_mtime_ns

    def _read_into(self, buffer: memoryview, offset: int) -> None:
        self._file.seek(offset)
        done = 0
        while done < len(buffer):
            n = self._file.readinto(buffer[done:])
            if not n:
                raise ModelChangedError(
                    f"{self.path} ended at byte {offset + done:,} while it was read; it was "
                    "truncated since it was opened"
                )
            done += n

    def _read_table(self) -> dict[str, StoredTensor]:
        size = self._identity[1]
        start = bytearray(min(size, 64))
        self._read_into(memoryview(start), 0)
        if bytes(start).startswith(b"version https://git-lfs"):
            raise ModelFormatError(
                f"{self.path} is a Git LFS pointer, not the weights; run: git lfs pull"
            )
        length = int.from_bytes(start[:8], "little")
        if size < 10 or length > min(size - 8, _HEADER_LIMIT):
            raise ModelFormatError(
                f"{self.path}: a header of {length:,} bytes in a file of {size:,} bytes; this is no "
                f"safetensors file, or {_DAMAGED}"
            )
        header = bytearray(length)
        self._read_into(memoryview(header), 8)
        entries = parse_json_object(bytes(header), f"{self.path}: the safetensors header")
        entries.pop("__metadata__", None)
        tensors = [self._entry(name, entry, 8 + length) for name, entry in entries.items()]
        self._check_places(tensors, 8 + length, size)
        return {tensor.name: tensor for tensor in tensors}

    def _entry(self, name: str, entry: Any, data_start: int) -> StoredTensor:
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise self._bad(name, "lacks dtype, shape or data_offsets") from None
        numbers_ok = isinstance(shape, list) and all(
            type(n) is int and 0 <= n < 1 << 62 for n in (*shape, begin, end)
        )
        if not isinstance(dtype, str) or not numbers_ok or len(shape) > 8 or begin > end:
            raise self._bad(
                name, f"has dtype, shape or data_offsets that cannot be: {entry!r:.120}"
            )
        wanted = math.prod(shape) * ELEMENT_BYTES.get(dtype, 0)
        if dtype in ELEMENT_BYTES and wanted != end - begin:
            raise self._bad(
                name,
                f"of type {dtype} and shape {shape} takes {wanted:,} bytes, not {end - begin:,}",
            )
        return StoredTensor(name, dtype, tuple(shape), data_start + begin, end - begin, self)

    def _check_places(self, tensors: list[StoredTensor], start: int, size: int) -> None:
        """Every byte after the header belongs to exactly one tensor."""
        end = start
        for tensor in sorted(tensors, key=lambda t: (t.offset, t.n_bytes)):
            if tensor.offset != end:
                problem = "overlaps another" if tensor.offset < end else "leaves a gap before it"
                raise self._bad(tensor.name, f"begins at byte {tensor.offset:,} and {problem}")
            end += tensor.n_bytes
            if end > size:
                raise self._bad(
                    tensor.name, f"ends at byte {end:,} but the file has {size:,} bytes"
                )
        if end != size:
            raise ModelFormatError(
                f"{self.path} has {size - end:,} bytes that belong to no tensor; {_DAMAGED}"
            )

    def _bad(self, name: str, problem: str) -> ModelFormatError:
        return ModelFormatError(
            f"{self.path}: tensor '{name[:80]}' {problem}; {_DAMAGED}", field=name
        )
