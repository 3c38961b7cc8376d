"""A GGUF file, single or split, as a source of weights.

The core reads and checks it as it does to run it (names, shapes and types of all tensors), so that
what can be quantized can also be run. The file is read through a buffer and never mapped.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyqwen._native import read_config, tensor_types
from pyqwen.errors import ModelChangedError, UnsupportedModelError
from pyqwen.loading.gguf_file import GGUFFile, TensorInfo
from pyqwen.quantize.sampling_defaults import SETTINGS, usable
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor

if TYPE_CHECKING:
    import gguf

_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf", re.I | re.S)


class _GGUFTensor(SourceTensor):
    def __init__(self, file: GGUFFile, index: int, info: TensorInfo, where: Path) -> None:
        super().__init__(info.name, info.name, info.type, tuple(reversed(info.shape)), where)
        kind = tensor_types()[info.type]
        self._row_bytes = self.columns // kind.block * kind.n_bytes
        self._file, self._index = file, index

    def read_raw(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        out = np.empty((stop - start, self._row_bytes), np.uint8)
        self._file.handle.read_into(self._index, start * self._row_bytes, out.data.cast("B"))
        return out


class GGUFSource(ModelSource):
    """An open GGUF file; see `ModelSource`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = GGUFFile(path, load="copy")
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        file = self._file
        self.config = config = read_config(file.handle)
        self.architecture, self.layers = config["architecture"], config["layers"]
        self.heads, self.kv_heads = config["heads"], config["kv_heads"]
        self._shards = shard_paths(self.path, file.shards)
        self.inputs = list(self._shards)
        self._sampling, self.notes = _sampling(file)
        self.tensors = []
        for index, info in enumerate(file.tensors):
            if info.type not in tensor_types():
                raise UnsupportedModelError(
                    f"{self.path}: tensor '{info.name}' is of type {info.type}, which this version "
                    f"does not read; it reads {', '.join(tensor_types())}",
                    field=info.name,
                )
            self.tensors.append(_GGUFTensor(file, index, info, self._shards[info.shard]))
        self._states = [_state(shard) for shard in self._shards]

    def keys(self) -> dict[str, gguf.GGUFValue]:
        import gguf

        keys = {}
        for index, name in enumerate(self._file.handle.key_names()):
            if name.startswith("split."):
                continue
            value, kind = self._file.handle.exact_value(index)
            if name in self._sampling:
                value = self._sampling[name]
                if value is None:
                    continue
            is_list = kind.value == gguf.GGUFValueType.ARRAY
            if is_list and not value:
                continue  # the gguf package writes no empty list, and it says nothing
            keys[name] = gguf.GGUFValue(
                value=value,
                type=gguf.GGUFValueType(kind.value),
                sub_type=gguf.GGUFValueType(kind.element) if is_list else None,
            )
        return keys

    def check_unchanged(self) -> None:
        for shard, before in zip(self._shards, self._states, strict=True):
            if _state(shard) != before:
                raise ModelChangedError(f"{shard} was changed while it was read; quantize it again")

    def close(self) -> None:
        self._file.close()


def _sampling(file: GGUFFile) -> tuple[dict[str, int | float | None], list[str]]:
    """The sampling defaults as they are to be written, None for those that are left out; notes."""
    found: dict[str, int | float | None] = {}
    notes = []
    for name, key, _ in SETTINGS:
        if key in file.metadata:
            found[key], problem = usable(name, file.metadata[key])
            if problem:
                notes.append(f"{key} is left out: {problem}")
    return found, notes


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        now = path.stat()
    except FileNotFoundError:
        return None
    return now.st_ino, now.st_size, now.st_mtime_ns


def shard_paths(path: Path, count: int) -> list[Path]:
    """The files of an opened model, in order; ``path`` is any of them, ``count`` how many there are."""
    match = _SHARD.fullmatch(path.name)
    if count == 1 or match is None:
        return [path]
    names = (f"{match['stem']}-{i + 1:05d}-of-{match['count']}.gguf" for i in range(count))
    return [path.with_name(name) for name in names]
