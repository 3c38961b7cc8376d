"""Fetching a model from a program: ``pyqwen.pull``, and the progress of what ``Model`` fetches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from pyqwen.catalog import acquire
from pyqwen.catalog.download import Progress
from pyqwen.errors import CancelledError

_log = logging.getLogger("pyqwen")

DownloadProgress = Callable[[int, int], bool | None]
"""Called with bytes done and bytes in all; returning ``False`` stops the download."""


def pull(name: str, *, progress: DownloadProgress | None = None) -> Path:
    """Make sure that a model is on this machine, and return its file (of a split one, the first).

    ``name`` is a name of the catalog (``pyqwen list``) or ``org/repo`` of the Hugging Face hub, both
    with an optional ``:quant``, or ``org/repo/file.gguf``. What is here is checked and returned
    without asking the network. ``progress(done, total)`` gets byte counts; when it returns False
    ``CancelledError`` is raised, and a later call goes on where this one stopped. Restrictions of a
    license are logged as warnings.

    Raises ``ModelNotFoundError`` where there is no such model or no source can be reached, and
    ``ModelFileError`` where the download breaks off, does not fit the disk or is damaged.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a model is a str, not {type(name).__name__}")
    model = acquire.pull(name, progress=stoppable(progress), say=_log.info, notice=_log.warning)
    return model.path


def stoppable(progress: DownloadProgress | None) -> Progress | None:
    """Return what the catalog calls with its progress; it stops the download by an exception."""
    if progress is None:
        return None

    def report(done: int, total: int, what: str) -> None:
        if progress(done, total) is False:
            raise CancelledError(f"{what} was stopped after {done:,} of {total:,} bytes")

    return report
