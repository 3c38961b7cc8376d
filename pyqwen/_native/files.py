"""An open GGUF file: its keys and tensors."""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

from pyqwen._ffi import ffi, lib
from pyqwen._native.ownership import keeping, new_cell, writable
from pyqwen._native.status import check, new_error
from pyqwen._native.tokenizer import PackedStrings
from pyqwen.errors import ClosedError

_STRUCT_CODES = {
    lib.PQ_VALUE_U8: "B",
    lib.PQ_VALUE_I8: "b",
    lib.PQ_VALUE_U16: "H",
    lib.PQ_VALUE_I16: "h",
    lib.PQ_VALUE_U32: "I",
    lib.PQ_VALUE_I32: "i",
    lib.PQ_VALUE_F32: "f",
    lib.PQ_VALUE_BOOL: "?",
    lib.PQ_VALUE_U64: "Q",
    lib.PQ_VALUE_I64: "q",
    lib.PQ_VALUE_F64: "d",
}


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode("utf-8", "replace"))


def _raw(key: Any) -> bytes:
    return bytes(ffi.buffer(key.data, key.bytes))


class FileInfo(NamedTuple):
    """``pq_file_info``: sizes in bytes, the rest counts."""

    version: int
    shards: int
    alignment: int
    keys: int
    tensors: int
    file_bytes: int
    tensor_bytes: int


class KeyType(NamedTuple):
    """The numbers that GGUF gives the type of a value and, in a list, that of its elements."""

    value: int
    element: int


class FileHandle:
    """An open GGUF file.

    It is closed when the last reference to its pointer is gone: `close` gives up this object's
    own, so that neither a model loaded from the file nor a call in another thread loses it.
    """

    def __init__(self, path: str | os.PathLike[str], *, copy: bool) -> None:
        raw_path = os.fsencode(path)
        if b"\0" in raw_path:
            raise ValueError("the path of a model file contains a NUL character")
        out = new_cell("pq_file **", lib.pq_file_close)
        error = new_error()
        check(
            lib.pq_file_open(out, raw_path, lib.PQ_LOAD_COPY if copy else lib.PQ_LOAD_MMAP, error),
            error,
        )
        self._pointer = keeping(out[0], out)

    @property
    def pointer(self) -> Any:
        """The ``pq_file *``; whoever keeps it keeps the file open."""
        if self._pointer is None:
            raise ClosedError("the model file was closed")
        return self._pointer

    @property
    def closed(self) -> bool:
        return self._pointer is None

    def close(self) -> None:
        self._pointer = None

    def describe(self) -> FileInfo:
        info = ffi.new("pq_file_info *")
        lib.pq_file_describe(self.pointer, info)
        return FileInfo(*(int(getattr(info, name)) for name in FileInfo._fields))

    def key_names(self) -> list[str]:
        file = self.pointer
        return [_text(lib.pq_file_key(file, i).name) for i in range(self.describe().keys)]

    def value(self, index: int) -> Any:
        """The value of key `index`: str, int, float, bool, or a list of one of these."""
        file = self.pointer
        key = lib.pq_file_key(file, index)
        if key == ffi.NULL:
            raise IndexError(f"the file has no key {index}")
        if key.element == lib.PQ_VALUE_STRING:
            if key.type == lib.PQ_VALUE_ARRAY:
                return self._strings(index)
            return _raw(key).decode("utf-8", "replace")
        values = struct.unpack(f"<{key.count}{_STRUCT_CODES[key.element]}", _raw(key))
        return list(values) if key.type == lib.PQ_VALUE_ARRAY else values[0]

    def exact_value(self, index: int) -> tuple[Any, KeyType]:
        """The value of key `index` to be written again: texts are bytes, and the type is there."""
        file = self.pointer
        key = lib.pq_file_key(file, index)
        if key == ffi.NULL:
            raise IndexError(f"the file has no key {index}")
        kind = KeyType(key.type, key.element)
        if key.element != lib.PQ_VALUE_STRING:
            return self.value(index), kind
        return self._texts(index) if key.type == lib.PQ_VALUE_ARRAY else _raw(key), kind

    def packed_strings(self, index: int) -> PackedStrings | None:
        """The strings of key `index`, not made into objects; None if it is no list of strings."""
        file = self.pointer
        key = lib.pq_file_key(file, index)
        if key.type != lib.PQ_VALUE_ARRAY or key.element != lib.PQ_VALUE_STRING:
            return None
        text = bytearray(key.bytes)
        bounds = ffi.new("uint64_t[]", key.count + 1)
        error = new_error()
        with writable("char[]", text) as target:
            check(lib.pq_file_strings(file, key, target, bounds, error), error)
        return PackedStrings(text, bounds)

    def _strings(self, index: int) -> list[str]:
        return [text.decode("utf-8", "replace") for text in self._texts(index)]

    def _texts(self, index: int) -> list[bytes]:
        packed = self.packed_strings(index)
        return packed.unpacked() if packed is not None else []

    def tensors(self) -> list[tuple[str, str, tuple[int, ...], int, int, int]]:
        """Name, type, dimensions (fastest first), bytes, offset and shard of each tensor."""
        file = self.pointer
        table = (lib.pq_file_tensor(file, i) for i in range(self.describe().tensors))
        return [
            (
                _text(t.name),
                _text(lib.pq_type_known_name(t.type)),
                tuple(t.dims[0 : t.n_dims]),
                t.bytes,
                t.offset,
                t.shard,
            )
            for t in table
        ]

    def read(self, index: int, offset: int, n_bytes: int) -> bytearray:
        """Copy `n_bytes` bytes at `offset` inside the data of tensor `index`."""
        data = bytearray(self._checked(index, offset, n_bytes))
        self.read_into(index, offset, data)
        return data

    def read_into(self, index: int, offset: int, buffer: Any) -> None:
        """Fill a writable `buffer` with the bytes at `offset` inside the data of tensor `index`."""
        file = self.pointer
        error = new_error()
        with writable("char[]", buffer) as target:
            n_bytes = self._checked(index, offset, len(target))
            tensor = lib.pq_file_tensor(file, index)
            check(lib.pq_file_read(file, tensor, offset, n_bytes, target, error), error)

    def _checked(self, index: int, offset: int, n_bytes: int) -> int:
        tensor = lib.pq_file_tensor(self.pointer, index)
        if tensor == ffi.NULL or offset < 0 or not 0 <= n_bytes <= tensor.bytes - offset:
            raise IndexError(f"no {n_bytes} bytes at {offset} in tensor {index}")
        return n_bytes
