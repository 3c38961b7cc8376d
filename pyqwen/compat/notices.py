"""Warnings about what cannot be honored: each once in a process, whatever the filters are."""

from __future__ import annotations

import sys
import threading
import warnings

_given: set[str] = set()
_lock = threading.Lock()
_PACKAGE = __name__.rpartition(".")[0]


def warn_once(name: str, message: str) -> None:
    """Warn of ``name``, an argument or a method, unless that was done before."""
    with _lock:
        if name in _given:
            return
        _given.add(name)
    warnings.warn(f"{name}: {message}", UserWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """The ``stacklevel`` that names the first line outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
