"""Long work on a session of its own, which Ctrl-C stops within milliseconds.

An evaluation may take seconds inside the core, where Python's signal handlers do not run. So the
work runs on another thread, and this one waits where it can be interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from pyqwen.errors import CancelledError

T = TypeVar("T")

_POLL_SECONDS = 0.05  # on Windows a wait without a limit would not notice Ctrl-C


class Cancellable(Protocol):
    """What stops the work: a session, or several that the work uses together."""

    def cancel(self, on: bool = True) -> None: ...


class _Outcome(Generic[T]):
    value: T
    error: BaseException | None = None


def run_interruptibly(
    session: Cancellable, work: Callable[[], T], *, cancel: threading.Event | None = None
) -> T:
    """Return what ``work`` returns or raise what it raises; only ``work`` may use the session.

    An exception in the waiting thread, such as ``KeyboardInterrupt``, cancels the session, waits
    for the work to end and is raised; the session can be used again. So does setting ``cancel``,
    which raises ``CancelledError``.
    """
    _check(cancel)
    outcome: _Outcome[T] = _Outcome()
    done = threading.Event()  # Thread.join would forget the thread when it is interrupted

    def target() -> None:
        try:
            outcome.value = work()
        except BaseException as error:  # handed to the waiting thread
            outcome.error = error
        finally:
            done.set()

    thread = threading.Thread(target=target, name="pyqwen-work", daemon=True)
    try:
        thread.start()
        while not done.wait(_POLL_SECONDS):
            _check(cancel)
    except RuntimeError:  # no thread could be started
        raise
    except BaseException:
        session.cancel()
        while not done.is_set():
            with suppress(KeyboardInterrupt):  # nobody may go on while the session is in use
                done.wait(_POLL_SECONDS)
        session.cancel(False)
        raise
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError("the work was cancelled")
