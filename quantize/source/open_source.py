"""Which kind of source a path names."""

from __future__ import annotations

import os
from pathlib import Path

from pyqwen.errors import ModelNotFoundError
from pyqwen.quantize.source.checkpoint_source import CheckpointSource
from pyqwen.quantize.source.gguf_source import GGUFSource
from pyqwen.quantize.source.model_source import ModelSource


def open_source(path: str | os.PathLike[str]) -> ModelSource:
    """Open the checkpoint directory or GGUF file (of a split model any part) at ``path``.

    Everything that headers and configuration tell is checked here: ``ModelFileError`` and its
    subclasses where a model is incomplete, damaged or of an unsupported kind.
    """
    given = Path(path)
    if given.is_dir():
        return CheckpointSource(given)
    if not given.exists():
        raise ModelNotFoundError(f"{given}: no such file or directory")
    return GGUFSource(given)
