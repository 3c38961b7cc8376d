"""Requests that may take only so long: a thread that waits for the first of their deadlines.

It is there only while there are deadlines. Knows nothing of what a request is or how it ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING
from weakref import ref

from pyqwen.errors import NoThreadError

if TYPE_CHECKING:
    from pyqwen.engine.request import Request


class Deadlines:
    """Calls ``expire`` with each request whose time is up, unless nobody holds it any more."""

    def __init__(self, expire: Callable[[Request], None]) -> None:
        self._expire = expire
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, ref[Request]]] = []
        self._number = count()  # requests are not compared
        self._is_running = False
        self._is_stopped = False

    def add(self, request: Request, seconds: float) -> None:
        """Let a request end after some time; ``NoThreadError`` if there can be no thread."""
        with self._changed:
            heappush(self._heap, (monotonic() + seconds, next(self._number), ref(request)))
            if self._is_running:
                self._changed.notify()
                return
            thread = threading.Thread(target=self._wait, name="pyqwen-deadlines", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._heap.clear()
                raise NoThreadError(f"no thread can be started for a timeout: {error}") from error
            self._is_running = True

    def stop(self) -> None:
        """End the thread; may be called twice."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def _wait(self) -> None:
        while True:
            with self._changed:
                while self._heap and not self._is_stopped:
                    left = self._heap[0][0] - monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                if self._is_stopped or not self._heap:
                    self._is_running = False
                    return
                request = heappop(self._heap)[2]()
            if request is not None:
                self._expire(request)
            del request
