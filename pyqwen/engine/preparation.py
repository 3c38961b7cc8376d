"""Handing requests to the engine, some only after work that takes time, such as compiling a grammar.

That is done by a thread of its own: neither an event loop nor the engine stands still, Ctrl-C is seen, and
who cancels is free at once, while the work, which cannot be stopped, comes to its end unheard.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyqwen.engine.engine import Engine
    from pyqwen.engine.request import Event, Request


def submit(engine: Engine, *requests: Request) -> None:
    """Give requests to the engine, now or when they are prepared.

    What goes wrong with a preparation is delivered as the request's last event.
    """
    waiting = [request for request in requests if request.preparation is not None]
    for request in requests:
        if request.preparation is None:
            engine.submit(request)
    if not waiting:
        return
    engine.check_caller()
    preparations = [_Preparation(engine, request) for request in waiting]

    def run() -> None:
        for preparation in preparations:
            preparation.run()

    thread = threading.Thread(target=run, name="pyqwen-preparation", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no further thread: then it is done here
        run()


class _Preparation:
    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine, self._request = engine, request
        self._claim = threading.Lock()  # taken once, by who decides what becomes of the request
        request.abandon = self.abandon

    def run(self) -> None:
        """Prepare, then submit unless it was abandoned meanwhile."""
        request = self._request
        assert request.preparation is not None
        failure: BaseException | None = None
        try:
            request.preparation()
        except BaseException as error:  # whoever waits gets it
            failure = error
        request.preparation = None
        if not self._claim.acquire(blocking=False):
            return
        request.abandon = None
        if failure is None:
            try:
                self._engine.submit(request)
            except BaseException as error:
                failure = error
            else:
                if request.cancel_requested:  # too late to be abandoned, too early to be seen
                    self._engine.cancel(request)
                return
        self._end(failure)

    def abandon(self) -> None:
        """End the request now; without effect once it was submitted."""
        if self._claim.acquire(blocking=False):
            self._request.abandon = None
            self._end(self._request.cancelled())

    def _end(self, event: Event) -> None:
        request = self._request
        request.done = True
        for _, earlier in request.outbox:  # its last chunk
            request.deliver(earlier)
        request.outbox = []
        request.deliver(event)
