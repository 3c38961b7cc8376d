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

from pyqwen.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from pyqwen.quantize.checkpoint.json_file import MEGABYTE, read_json_object
from pyqwen.quantize.checkpoint.safetensors_file import SafetensorsFile, StoredTensor

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*\.safetensors")
_MOST_SHARDS = 1024
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Checkpoint:
    """An open checkpoint: ``config`` is config.json, ``tensors`` the weights by name.

    A context manager: leaving it closes the files. Nothing is read but headers until a tensor is.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise ModelNotFoundError(f"{path}: no such directory")
        if not path.is_dir():
            raise ModelFormatError(
                f"{path} is a file; a checkpoint is a directory with config.json, the tokenizer and "
                "*.safetensors"
            )
        self.path = path
        self.config = read_json_object(path / "config.json")
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
        raise self._without_weights()

    def _read_index(self) -> dict[str, str]:
        where = self.path / _INDEX
        weight_map: Any = read_json_object(where, limit=64 * MEGABYTE).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise ModelFormatError(
                f"{where}: weight_map is missing or no object; download it again"
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

    def _without_weights(self) -> Exception:
        if (self.path / "adapter_config.json").is_file():
            return UnsupportedModelError(
                f"{self.path} holds an adapter (LoRA), not a model; merge it into its base model "
                "first (peft: merge_and_unload, save_pretrained)"
            )
        pickle = next((f for pattern in _PICKLES for f in self.path.glob(pattern)), None)
        if pickle:
            return UnsupportedModelError(
                f"{pickle} is a pickle, which can run any code when it is opened, so it is never "
                "read; use a safetensors version of the model, or make one on a machine you can lose "
                "(transformers: from_pretrained, save_pretrained(safe_serialization=True))"
            )
        return ModelNotFoundError(
            f"{self.path} has neither {_SINGLE} nor {_INDEX}; is this the right directory?"
        )

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
                    "files are of different downloads",
                    field=name,
                )
        unlisted = next((name for name in tensors if name not in weight_map), None)
        if unlisted is not None:
            raise ModelFormatError(
                f"{tensors[unlisted].file.path} holds tensor '{unlisted[:80]}', which {_INDEX} does "
                "not list; the files are of different downloads",
                field=unlisted,
            )
