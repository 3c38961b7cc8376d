"""Packed weights: the name of a file that holds them, and the pieces it is written from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyqwen._ffi import ffi, lib
from pyqwen._native.files import FileHandle
from pyqwen._native.models import ModelHandle, model_options
from pyqwen._native.ownership import keeping, writable
from pyqwen._native.status import check, new_error


def packed_key(file: FileHandle, *, isa: str | None = None, exact: bool = False) -> tuple[str, int]:
    """Return the name of a file's packed form and the bytes it takes; "" and 0 if it has none."""
    options, _keep, _ = model_options(isa, 0, exact, None)
    key, size, error = (
        ffi.new("char[]", lib.PQ_PACKED_KEY_BYTES),
        ffi.new("uint64_t *"),
        new_error(),
    )
    check(lib.pq_packed_key(file.pointer, options, key, size, error), error)
    return ffi.string(key).decode(), int(size[0])


class PackedImage:
    """What a model packed, in pieces. It and every piece keep the model."""

    def __init__(self, model: ModelHandle) -> None:
        self._pointer = model.pointer
        layout = ffi.new("pq_packed_layout *")
        lib.pq_model_packed_layout(self._pointer, layout)
        self._layout = layout
        self.bytes = int(layout.bytes)
        """Of the image; 0 if the model packed nothing."""
        self.offset = int(layout.offset)
        """Where in the file the image begins."""

    def pieces(self) -> Iterator[tuple[memoryview, int]]:
        """The image piece by piece, each with its checksum."""
        size, base = int(self._layout.piece), ffi.cast("char *", self._layout.data)
        model = self._pointer
        for number, start in enumerate(range(0, self.bytes, size)):
            length = min(size, self.bytes - start)
            checksum = lib.pq_packed_checksum(number, base + start, length)
            piece = keeping(base + start, model)
            yield memoryview(ffi.buffer(piece, length)), int(checksum)

    def header(self, checksums: list[int]) -> bytes:
        """The beginning of the file; raises ``ModelFileError`` if the source was changed."""
        sums: Any = ffi.new("uint64_t[]", checksums)
        header, error = bytearray(int(self._layout.header_bytes)), new_error()
        with writable("char[]", header) as target:
            check(lib.pq_model_packed_header(self._pointer, sums, target, error), error)
        return bytes(header)
