"""A checkpoint directory as Hugging Face publishes it: configuration files and safetensors.

Owns which files hold the weights and the table of all tensors. Knows nothing of architectures.
A directory of the hub's cache consists of symbolic links; they are followed, but no name inside the
checkpoint may lead out of it.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyqwen.errors import ModelFormatError, ModelNotFoundError
from pyqwen.loading.json_file import MEGABYTE, read_json_object
from pyqwen.loading.safetensors_file import SafetensorsFile, StoredTensor
from pyqwen.quantize.checkpoint.other_directories import (
    no_directory,
    without_configuration,
    without_weights,
)

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\.safetensors")
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_MOST_SHARDS = 1024


class Checkpoint:
    """An open checkpoint: ``config`` is config.json, ``tensors`` the weights by name.

    ``notes`` say what was unusual about the files.
    A context manager: leaving it closes the files. Nothing is read but headers until a tensor is.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise no_directory(path)
        self.path = path
        if not (path / "config.json").is_file():
            raise without_configuration(path)
        self.config = read_json_object(path / "config.json")
        self.notes: list[str] = []
        with ExitStack() as files:
            self._shards = [self._open(name, files) for name in self._shard_names()]
            self.tensors = self._collect()
            self._files = files.pop_all()

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
        self._files.close()

    @property
    def shard_paths(self) -> list[Path]:
        """The files that hold the weights."""
        return [shard.path for shard in self._shards]

    def check_unchanged(self) -> None:
        """``ModelChangedError`` if a file of the weights is not what it was when it was opened."""
        for shard in self._shards:
            shard.check_unchanged()

    def _open(self, name: str, files: ExitStack) -> SafetensorsFile:
        if not (self.path / name).is_file():
            raise ModelNotFoundError(
                f"{self.path / name} is missing: {_INDEX} names it; the download is incomplete"
            )
        shard = SafetensorsFile(self.path / name)
        files.callback(shard.close)
        return shard

    def _shard_names(self) -> list[str]:
        self._weight_map: dict[str, str] | None = None
        single = (self.path / _SINGLE).is_file()
        if (self.path / _INDEX).is_file():
            self._weight_map = self._read_index()
            names = sorted(set(self._weight_map.values()))
            if single and _SINGLE not in names:
                raise ModelFormatError(
                    f"{self.path} has both {_SINGLE} and {_INDEX}, which names other files; remove "
                    "the one that does not belong to this model"
                )
            return names
        if single:
            return [_SINGLE]
        return self._unlisted()

    def _unlisted(self) -> list[str]:
        """The files of the weights where neither their names nor an index tell."""
        files = {
            file.name
            for file in self.path.glob("*.safetensors")
            if not file.name.startswith("adapter_")
        }
        parts = [match for name in sorted(files) if (match := _NUMBERED.fullmatch(name))]
        models = {(match["stem"], match["count"]) for match in parts}
        if len(models) == 1 and int(parts[0]["count"]) <= _MOST_SHARDS:
            stem, count = models.pop()
            names = [f"{stem}-{i + 1:05d}-of-{count}.safetensors" for i in range(int(count))]
            missing = [name for name in names if name not in files]
            if missing:
                raise ModelNotFoundError(
                    f"{self.path / missing[0]} is missing: {parts[0][0]} is one of {int(count)} "
                    "files; the download is incomplete"
                )
            self.notes.append(
                f"there is no {_INDEX}: the weights are those of {names[0]} and so on"
            )
            return names
        if len(files) == 1:
            self.notes.append(f"there is no {_SINGLE}: the weights are those of {min(files)}")
            return list(files)
        raise without_weights(self.path)

    def _read_index(self) -> dict[str, str]:
        where = self.path / _INDEX
        weight_map: Any = read_json_object(where, limit=64 * MEGABYTE).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelFormatError(
                f"{where}: weight_map is missing or no object; take the file of the model's page"
            )
        for tensor, name in weight_map.items():
            if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
                raise ModelFormatError(
                    f"{where}: tensor '{tensor[:80]}' is said to be in {name!r:.80}; only names of "
                    "*.safetensors files beside the index are allowed",
                    field=tensor,
                )
        if len(set(weight_map.values())) > _MOST_SHARDS:
            raise ModelFormatError(f"{where} names more than {_MOST_SHARDS:,} files")
        return weight_map

    def _collect(self) -> dict[str, StoredTensor]:
        """One table of all shards, which must be what the index says."""
        tensors: dict[str, StoredTensor] = {}
        for shard in self._shards:
            for name, tensor in shard.tensors.items():
                if name in tensors:
                    raise ModelFormatError(
                        f"tensor '{name[:80]}' is both in {tensors[name].file.path} and in "
                        f"{shard.path}; remove the file that does not belong to this model",
                        field=name,
                    )
                tensors[name] = tensor
        if self._weight_map is not None:
            self._compare_with_index(tensors, self._weight_map)
        return tensors

    def _compare_with_index(
        self, tensors: dict[str, StoredTensor], weight_map: dict[str, str]
    ) -> None:
        for name, file in weight_map.items():
            found = tensors.get(name)
            if found is None or found.file.path.name != file:
                raise ModelFormatError(
                    f"{self.path / file} lacks tensor '{name[:80]}', which {_INDEX} puts there; the "
                    "files are of different versions of the model",
                    field=name,
                )
        unlisted = next((name for name in tensors if name not in weight_map), None)
        if unlisted is not None:
            raise ModelFormatError(
                f"{tensors[unlisted].file.path} holds tensor '{unlisted[:80]}', which {_INDEX} does "
                "not list; the files are of different versions of the model",
                field=unlisted,
            )
