"""Which kind of source a path or name means."""

from __future__ import annotations

import os
from pathlib import Path

from pyqwen.catalog import locate, resolve
from pyqwen.catalog.names import parse_name
from pyqwen.errors import ModelNotFoundError
from pyqwen.quantize.source.checkpoint_source import CheckpointSource
from pyqwen.quantize.source.gguf_source import GGUFSource
from pyqwen.quantize.source.model_source import ModelSource

_UNQUANTIZED = ("f16", "fp16", "bf16", "f32", "fp32")


def open_source(path: str | os.PathLike[str]) -> ModelSource:
    """Open a checkpoint directory, a GGUF file (of a split model any part), or a model of the catalog.

    A model that is named and not on this machine is fetched, if it is an unquantized one.
    Everything that headers and configuration tell is checked here: ``ModelFileError`` and its
    subclasses where a model is incomplete, damaged or of an unsupported kind.
    """
    given = Path(path)
    if given.is_dir():
        return CheckpointSource(given)
    if given.exists():
        return GGUFSource(given)
    check_name(os.fspath(path))
    return GGUFSource(resolve(os.fspath(path)))


def check_name(name: str) -> None:
    """``ModelNotFoundError`` for what is no name of a model, and for one that is not worth fetching.

    The files that a name means by itself are quantized: gigabytes, only to be refused.
    """
    ref = parse_name(name)
    if ref is None:
        raise ModelNotFoundError(f"{name}: no such file or directory, nor a model of the catalog")
    wanted = (ref.file or ref.quant or "").lower()
    if locate(name) is None and not any(kind in wanted for kind in _UNQUANTIZED):
        raise ModelNotFoundError(
            f"{name} is neither a file or directory here nor a model in the cache, and what is published "
            f"under this name is quantized already: name an unquantized file of it, such as "
            f"{ref.entry.name if ref.entry else ref.repo}:f16, or fetch this one (pyqwen pull {ref.name})"
        )
