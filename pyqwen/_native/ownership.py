"""Who keeps what alive: C objects that point into each other, and memory that is lent to C.

A C object is freed when the last reference to its pointer is gone, and never before those that point into
it: closing a handle gives up that handle's own reference. Buffers are lent with ``with``: one that is
still exported when an exception takes the frame along crashes the garbage collector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqwen._ffi import ffi


def new_cell(ctype: str, close: Callable[[Any], None], *needs: Any) -> Any:
    """Return room for the pointer that C will put there, as in ``new_cell("pq_file **", ...)``.

    What is in it is closed when the cell is gone, also if an exception comes right after the call that
    filled it; ``close`` takes NULL. ``needs`` are kept until then.
    """

    def destroy(cell: Any, close: Any = close, needs: Any = needs) -> None:
        close(cell[0])

    return ffi.gc(ffi.new(ctype), destroy)


def keeping(pointer: Any, *needs: Any) -> Any:
    """Return ``pointer`` as an object that keeps ``needs`` as long as it is there."""

    def release(pointer: Any, needs: Any = needs) -> None:
        pass

    return ffi.gc(pointer, release)


def borrowed(ctype: str, buffer: Any) -> Any:
    """Lend a buffer to C for reading: ``with borrowed("float[]", array) as pointer``."""
    return ffi.from_buffer(ctype, buffer)


def writable(ctype: str, buffer: Any) -> Any:
    """Lend a buffer to C for writing: ``with writable("float[]", array) as pointer``."""
    return ffi.from_buffer(ctype, buffer, require_writable=True)
