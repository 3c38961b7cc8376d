"""Reading ahead and writing behind: files are waited for in a thread of their own.

Both keep a few items in flight, and both bring an error of their thread to the caller's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

_IN_FLIGHT = 4
_PATIENCE = 0.1  # seconds until a thread that waits looks whether it is still wanted
_LAST_READ = 2.0  # seconds that a read may take before its thread is left to itself

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Iterates over what ``items`` yields in another thread. A context manager: leaving it ends that."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(_IN_FLIGHT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyqwen-read", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(_LAST_READ)  # a stalled network drive must not hold up Ctrl-C

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for item in self._items:
                if not self._put((item,)):
                    return
        except BaseException as error:
            last = error
        self._put(last)

    def _put(self, item: tuple[T] | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False


class WriteBehind(Generic[T]):
    """Calls ``write`` with each item that is `put`, in order, in another thread.

    A context manager: leaving it without an error waits for all of them; with one, drops the rest.
    """

    def __init__(self, write: Callable[[T], None]) -> None:
        self._write = write
        self._queue: queue.Queue[tuple[T] | None] = queue.Queue(_IN_FLIGHT)
        self._dropping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pyqwen-write", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._dropping.set()
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def put(self, item: T) -> None:
        self._raise()
        self._queue.put((item,))

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._dropping.is_set():
                continue
            try:
                self._write(item[0])
            except BaseException as error:
                self._error = error
                self._dropping.set()
