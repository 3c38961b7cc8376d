"""Which kind of source a path or name means."""

from __future__ import annotations

import os
from pathlib import Path

from pyqwen.catalog import resolve
from pyqwen.catalog.names import parse_name
from pyqwen.errors import ModelNotFoundError
from pyqwen.quantize.source.checkpoint_source import CheckpointSource
from pyqwen.quantize.source.gguf_source import GGUFSource
from pyqwen.quantize.source.model_source import ModelSource


def open_source(path: str | os.PathLike[str]) -> ModelSource:
    """Open a checkpoint directory, a GGUF file (of a split model any part), or a model of the catalog.

    A model that is named and not on this machine is fetched, as everywhere.
    Everything that headers and configuration tell is checked here: ``ModelFileError`` and its
    subclasses where a model is incomplete, damaged or of an unsupported kind.
    """
    given = Path(path)
    if given.is_dir():
        return CheckpointSource(given)
    if given.exists():
        return GGUFSource(given)
    if parse_name(os.fspath(path)) is None:
        raise ModelNotFoundError(f"{given}: no such file or directory, nor a model of the catalog")
    return GGUFSource(resolve(os.fspath(path)))
