"""Many small requests of one caller, given to the engine a few at a time.

So many are with it that it always has a batch to run after the one that runs, and no more: whoever else
comes waits for few of them, however many there are in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pyqwen.engine.request import Deliver, Event, Request

if TYPE_CHECKING:
    from pyqwen.engine.engine import Engine

Make = Callable[[int, Deliver], Request]
"""``make(i, deliver)``: the request number i, whose only event is its last."""
Take = Callable[[int, Event], None]
"""``take(i, result)``: what request number i ended with, if that is no exception."""

_POLL_SECONDS = 0.1  # on Windows a wait without a limit would not notice Ctrl-C


class Feeder:
    """The requests of one call: those to come, and those that are with the engine.

    ``sizes`` are their tokens, ``batch`` and ``sequences`` those of the session.
    """

    def __init__(
        self, engine: Engine, make: Make, sizes: Sequence[int], *, batch: int, sequences: int
    ) -> None:
        self._engine, self._make, self._sizes = engine, make, sizes
        self._most_rows, self._most = 2 * batch, 2 * sequences
        self._next = self._rows = 0
        self._running: dict[int, Request] = {}

    def run(self, take: Take) -> None:
        """Run all requests and wait for them; the first that fails, or an interrupt, cancels the rest."""
        events: SimpleQueue[tuple[int, Event]] = SimpleQueue()
        try:
            while self._feed(lambda i, event: events.put((i, event))):
                with suppress(Empty):
                    self._settle(*events.get(timeout=_POLL_SECONDS), take)
                    continue
                self._engine.check_process()
        finally:
            self._cancel()

    async def arun(self, take: Take) -> None:
        """As ``run``, beside the event loop; cancelling the task cancels the requests."""
        import asyncio

        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

        def deliver(i: int, event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, (i, event))

        try:
            while self._feed(deliver):
                self._settle(*await events.get(), take)
        finally:
            self._cancel()

    def _feed(self, deliver: Callable[[int, Event], None]) -> bool:
        """Submit what there is room for; False once nothing is left to wait for."""
        while self._next < len(self._sizes) and self._has_room():
            i = self._next
            request = self._make(i, lambda event, i=i: deliver(i, event))  # type: ignore[misc]
            self._engine.submit(request)
            self._running[i] = request
            self._rows += self._sizes[i]
            self._next += 1
        return bool(self._running)

    def _has_room(self) -> bool:
        count = len(self._running)
        return count < 2 or (self._rows < self._most_rows and count < self._most)

    def _settle(self, i: int, event: Event, take: Take) -> None:
        del self._running[i]
        self._rows -= self._sizes[i]
        if isinstance(event, BaseException):
            raise event
        take(i, event)

    def _cancel(self) -> None:
        for request in self._running.values():
            self._engine.cancel(request)
