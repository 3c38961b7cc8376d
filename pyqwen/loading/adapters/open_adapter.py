"""Adapters by their paths: opened in whatever format they have, brought into memory, or just measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pyqwen import _native
from pyqwen.errors import (
    ModelFileError,
    ModelNotFoundError,
    NumericError,
    UnsupportedModelError,
)
from pyqwen.loading.adapters.adapter_file import AdapterFile
from pyqwen.loading.adapters.base_model import BaseModel
from pyqwen.loading.adapters.gguf_adapter import open_gguf
from pyqwen.loading.adapters.peft_directory import CONFIG, open_directory
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.os_errors import raising_file_errors

_Made = TypeVar("_Made")

AdapterPaths = Mapping[str, str | os.PathLike[str]]
"""The paths of adapters by the names that requests call them."""


def checked_adapters(adapters: AdapterPaths | None) -> dict[str, Path]:
    """The absolute paths by name; ``TypeError`` or ``ValueError`` for what is no name or path."""
    if adapters is None:
        return {}
    if not isinstance(adapters, Mapping):
        raise TypeError(
            f'adapters must be a dict such as {{"name": path}}, not {type(adapters).__name__}'
        )
    paths = {}
    for name, path in adapters.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of an adapter must be str, not {type(name).__name__}")
        if not name or not name.isprintable() or len(name) > 200:
            raise ValueError(f"{name[:80]!r} cannot be the name of an adapter")
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise TypeError(f"the adapter {name!r} must be a path, not {type(path).__name__}")
        if "\0" in os.fspath(path):
            raise ValueError(f"the path of the adapter {name!r} contains a NUL character")
        paths[name] = Path(path).absolute()
    return paths


@raising_file_errors
def open_adapter(path: Path, base: BaseModel) -> AdapterFile:
    """Open a directory of PEFT or a GGUF file, checked against its base model. Close it after use."""
    if path.is_dir():
        if (path / CONFIG).is_file():
            return open_directory(path, base)
        what = "it holds a model" if (path / "config.json").is_file() else "it is no adapter"
        raise ModelNotFoundError(f"{path} has no {CONFIG}: {what}")
    if not path.exists():
        raise ModelNotFoundError(
            f"{path}: no such adapter; it is a directory with {CONFIG} and adapter_model.safetensors, "
            "or a GGUF file"
        )
    if path.suffix == ".safetensors" or path.name == CONFIG:
        raise UnsupportedModelError(f"{path}: name the directory of the adapter, {path.parent}")
    if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"):
        raise UnsupportedModelError(
            f"{path} is a pickle, which can run any code when it is opened, so it is never read"
        )
    return open_gguf(path, base)


def load_adapter(
    file: AdapterFile, model: _native.ModelHandle, go_on: Callable[[], None]
) -> _native.AdapterHandle:
    """Bring an adapter into memory; ``go_on`` is called now and then and may raise."""
    numbers = {name: kind.number for name, kind in _native.tensor_types().items()}
    handle = _named(file.path, lambda: _native.AdapterHandle(model, matrices_of(file)))
    for i, tensor in enumerate(file.tensors):
        go_on()
        a, b = ((numbers[factor.type], factor.read()) for factor in (tensor.a, tensor.b))
        try:
            handle.fill(i, a, b)
        except NumericError as error:
            raise NumericError(
                f"{file.path}: the adapter of {tensor.matrix.name}: {error}; it is damaged"
            ) from None
        except ModelFileError as error:
            raise type(error)(
                f"{file.path}: the adapter of {tensor.matrix.name}: {error}", field=error.field
            ) from None
    return handle


def load_adapters(
    paths: Mapping[str, Path], model: _native.ModelHandle, go_on: Callable[[], None]
) -> dict[str, _native.AdapterHandle]:
    """Bring adapters into memory, all or none."""
    base = BaseModel(model.config)
    loaded: dict[str, _native.AdapterHandle] = {}
    for name, path in paths.items():
        with open_adapter(path, base) as file:
            loaded[name] = load_adapter(file, model, go_on)
    return loaded


def plan_adapters(
    paths: Mapping[str, Path], file: GGUFFile, *, isa: str, exact: bool, batch: int
) -> int:
    """The bytes that adapters will take beside the model in ``file``, if one request has them all."""
    base, total = BaseModel(_native.read_config(file.handle)), 0
    for path in paths.values():
        with open_adapter(path, base) as adapter:
            size = _measure(path, adapter, file, isa, exact)
        total += size.weights + batch * size.per_row
    return total


def _measure(
    path: Path, adapter: AdapterFile, file: GGUFFile, isa: str, exact: bool
) -> _native.AdapterSize:
    matrices = matrices_of(adapter)
    return _named(path, lambda: _native.plan_adapter(file.handle, matrices, isa=isa, exact=exact))


def files_of(paths: Mapping[str, Path]) -> list[Path]:
    """The files that adapters are read from."""
    files = []
    for path in paths.values():
        inner = [path / CONFIG, path / "adapter_model.safetensors"]
        files += inner if path.is_dir() else [path]
    return files


def matrices_of(file: AdapterFile) -> list[_native.AdaptedMatrix]:
    """What the core is told of an adapter."""
    return [_native.AdaptedMatrix(t.matrix.name, t.rank, t.scale) for t in file.tensors]


def _named(path: Path, make: Callable[[], _Made]) -> _Made:
    """Name the adapter in what goes wrong."""
    try:
        return make()
    except ModelFileError as error:
        raise type(error)(f"{path}: {error}", field=error.field) from None
