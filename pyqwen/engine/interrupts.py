"""Interrupting the core while it works: the flags of a session, and of a model that drafts for it.

Any thread may interrupt, also one whose line a finalizer interrupts; the engine's worker forgets what came
too late. A session that was unloaded is left alone.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyqwen._native import SessionHandle


class CanBeCancelled(Protocol):
    """What has a flag that stops it."""

    def cancel(self, on: bool = True) -> None:
        """Set or clear the flag."""


class Interrupts:
    """The flags of one session, as long as it is open, and of ``beside``, which works for it."""

    def __init__(self, session: SessionHandle, beside: CanBeCancelled) -> None:
        self._session: SessionHandle | None = session
        self._beside = beside
        self._guard = threading.RLock()  # re-entrant: a finalizer may interrupt its owner
        self._may_be_set = False

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    @property
    def kv_bytes(self) -> int:
        """Bytes that the session's cache takes now."""
        with self._guard:
            return self._session.kv_bytes if self._session is not None else 0

    def open(self, session: SessionHandle) -> None:
        """There is a session, a new one."""
        with self._guard:
            self._session = session

    def close(self) -> None:
        """The session will be freed: nobody touches it any more."""
        with self._guard:
            self._session, self._may_be_set = None, False

    def interrupt(self) -> None:
        """Set the flags."""
        with self._guard:
            if self._session is not None:
                self._may_be_set = True
                self._session.cancel()
                self._beside.cancel()

    def forget(self) -> None:
        """Clear the flags, if they may be set."""
        if self._may_be_set:
            with self._guard:
                self._may_be_set = False
                self._beside.cancel(False)
                if self._session is not None:
                    self._session.cancel(False)
