"""Long work on a session of its own, which Ctrl-C stops within milliseconds.

An evaluation may take seconds inside the core, where Python's signal handlers do not run. So the
work runs on another thread, and this one waits where it can be interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pyqwen._native import SessionHandle

T = TypeVar("T")

_POLL_SECONDS = 0.05  # on Windows a wait without a limit would not notice Ctrl-C


class _Outcome(Generic[T]):
    value: T
    error: BaseException | None = None


def run_interruptibly(session: SessionHandle, work: Callable[[], T]) -> T:
    """Return what ``work`` returns or raise what it raises; only ``work`` may use the session.

    An exception in the waiting thread, such as ``KeyboardInterrupt``, cancels the session, waits
    for the work to end and is raised; the session can be used again.
    """
    outcome: _Outcome[T] = _Outcome()

    def target() -> None:
        try:
            outcome.value = work()
        except BaseException as error:  # handed to the waiting thread
            outcome.error = error

    thread = threading.Thread(target=target, name="pyqwen-work", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
    except BaseException:
        session.cancel()
        thread.join()
        session.cancel(False)
        raise
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
