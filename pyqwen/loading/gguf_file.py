"""A GGUF file from Python: its metadata as a mapping, its tensors as a table.

The reading and all the checking is done by the core (csrc/gguf); this module knows of no model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from reprlib import repr as brief
from types import TracebackType
from typing import Any, Literal, Self

from pyqwen._native import FileHandle, PackedStrings

Load = Literal["mmap", "copy"]
"""How weights are read: from the mapped file, or by copying, so that nobody can change them."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file.

    ``shape`` is in the file's order, fastest first: ``shape[0]`` is the length of a row.
    ``offset`` is the position of the data in file number ``shard``; of an unsplit model that is 0.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    n_bytes: int
    offset: int
    shard: int


class Metadata(Mapping[str, Any]):
    """Keys and values of a file; a value is made when it is asked for, and not kept.

    Values are str, int, float, bool, or lists of these. Text that is not UTF-8 has U+FFFD in the
    places that are wrong.
    """

    def __init__(self, handle: FileHandle) -> None:
        self._handle = handle
        self._index = {name: i for i, name in enumerate(handle.key_names())}

    def __getitem__(self, key: str) -> Any:
        return self._handle.value(self._index[key])

    def strings(self, key: str) -> PackedStrings | None:
        """The strings of a list of a hundred thousand, not made into objects.

        None if the value is no list of strings.
        """
        return self._handle.packed_strings(self._index[key])

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"<Metadata: {len(self)} keys>"


class GGUFFile:
    """An open GGUF file, of a split model all its files; any one of them may be named.

    Everything in it is validated when it is opened: what is wrong raises a `ModelFileError` that
    names the file, the key or tensor, the offset and what to do.
    """

    def __init__(self, path: str | os.PathLike[str], load: Load = "mmap") -> None:
        if load not in ("mmap", "copy"):
            raise ValueError(f"load must be 'mmap' or 'copy', not {brief(load)}")
        self.handle = FileHandle(path, copy=load == "copy")
        info = self.handle.describe()
        self.version = info.version
        self.alignment = info.alignment
        self.shards = info.shards
        self.file_bytes = info.file_bytes
        self.tensor_bytes = info.tensor_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the file. A model that was loaded from it keeps what it needs."""
        self.handle.close()

    @cached_property
    def metadata(self) -> Metadata:
        return Metadata(self.handle)

    @cached_property
    def tensors(self) -> list[TensorInfo]:
        return [TensorInfo(*row) for row in self.handle.tensors()]

    @cached_property
    def _tensor_index(self) -> dict[str, int]:
        return {tensor.name: i for i, tensor in enumerate(self.tensors)}

    def tensor(self, name: str) -> TensorInfo:
        """Return the tensor of that name, or raise `KeyError`."""
        return self.tensors[self._tensor_index[name]]

    def read(self, name: str, offset: int = 0, n_bytes: int | None = None) -> bytearray:
        """Copy the bytes of a tensor as they are in the file, by default all of them."""
        index = self._tensor_index[name]
        if n_bytes is None:
            n_bytes = self.tensors[index].n_bytes - offset
        return self.handle.read(index, offset, n_bytes)
