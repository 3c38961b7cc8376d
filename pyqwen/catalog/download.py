"""What all sources of model files share: progress, checksums, disk space, the error of a source."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pyqwen.errors import ModelFileError, ModelNotFoundError
from pyqwen.units import format_bytes

# Progress of a download: bytes done, bytes in all, what is being done.
Progress = Callable[[int, int, str], None]

_BLOCK = 1 << 22


class SourceUnavailableError(ModelNotFoundError):
    """One source cannot be reached, or does not have the model; another one may."""


def require_space(folder: Path, needed: int) -> None:
    """Raise ModelFileError unless the disk of ``folder`` has ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelFileError(
            f"{folder}: the download needs {format_bytes(needed)} of disk space but only "
            f"{format_bytes(free)} is free; make room, or set PYQWEN_CACHE and HF_HUB_CACHE to "
            "directories on another disk"
        )


def sha256_of(path: Path, report: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file in hex; ``report`` is called with the number of bytes read so far."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if report is not None:
                report(file.tell())
    return digest.hexdigest()
