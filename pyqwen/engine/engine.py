"""The scheduler: any number of requests, one pass over the weights per step (continuous batching).

One worker thread per model owns the session. It asks the requests that run for their next steps
(``step.py``), first those that write, then those that still read: what room they leave is for prompts.
``stepping.py`` runs all steps as one batch, samples, and lets each request advance. Results do not
depend on the company, so the engine is free to arrange batches for speed.

Other threads reach the worker in two ways only: ``_inbox``, a queue whose ``put`` may be called even
from a finalizer that interrupts any line of this file, and ``Request.cancel_requested``. That a
cancel is neither lost nor hits a step for good rests on the order of writes in ``cancel`` and
``Stepping._may_run``: see there.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from pyqwen.engine.deadlines import Deadlines
from pyqwen.engine.interrupts import Interrupts
from pyqwen.engine.prefix_cache import PrefixCache
from pyqwen.engine.request import Event, Outbox, Request
from pyqwen.engine.session_requests import Errand
from pyqwen.engine.speculation import Speculator
from pyqwen.engine.stepping import Stepping, Work
from pyqwen.errors import CancelledError, ClosedError, NoThreadError, OutOfMemoryError, PyQwenError

if TYPE_CHECKING:
    from pyqwen._native import SessionHandle
    from pyqwen.engine.residence import Residence

_log = logging.getLogger("pyqwen")

_FORKED = (
    "this process was forked after the model was opened, and the threads that run it stayed with the "
    "parent; fork before the first model is opened, or use the 'spawn' start method of multiprocessing"
)

Note = Callable[[], None]
Arrival = Request | Note | None
"""What comes to the worker; None: look at the flags."""

_SETTLE_SECONDS = 0.1  # between tries to unload while the packed weights are still written


class Engine(Stepping):
    """Runs requests until it is closed. Every method may be called from any thread."""

    def __init__(
        self,
        session: SessionHandle,
        residence: Residence,
        unload_after: float | None = None,
        speculator: Speculator | None = None,
        prefix_cache_bytes: int | None = None,
    ) -> None:
        """``session`` is what ``residence`` holds now; it is unloaded when the engine stops, and
        after ``unload_after`` seconds without a request, until the next one. ``speculator`` drafts for
        all requests that write, and is unloaded with it. ``prefix_cache_bytes`` as for ``Model``."""
        if session.batch < session.sequences:
            raise ValueError(
                f"a batch of {session.batch} rows is too small for {session.sequences} sequences"
            )
        self._session = session
        self._residence = residence
        self._unload_after = unload_after
        self._speculator = speculator or Speculator(looks_up=False)
        self._prefix_cache_bytes = prefix_cache_bytes
        self._cache = PrefixCache(session, prefix_cache_bytes)
        self._inbox: SimpleQueue[Arrival] = SimpleQueue()
        self._waiting: deque[Request] = deque()
        self._active: list[Request] = []  # those with a slot, in the order of their arrival
        self._running: Sequence[Request] = ()  # those that the core works on at this moment
        self._outbox: Outbox = []
        self._guard = threading.Lock()
        self._keepers = 0  # who needs the model to stay loaded between two requests
        self._closing = False
        self._stopped = False
        self._failure: BaseException | None = None
        self._interrupts = Interrupts(session, self._speculator)
        self._pid = os.getpid()
        self._deadlines = Deadlines(self._expire)
        self._thread = threading.Thread(target=self._work, name="pyqwen-engine", daemon=True)

    def start(self) -> None:
        """Start the worker; ``NoThreadError`` if there can be no thread."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise NoThreadError(f"no thread can be started for the model: {error}") from error

    # From any thread

    def submit(self, request: Request) -> None:
        """Queue a request; what becomes of it reaches ``request.deliver``."""
        self.check_caller()
        request.outbox = self._outbox
        self._inbox.put(request)
        if request.timeout is not None:
            try:
                self._deadlines.add(request, request.timeout)
            except NoThreadError:
                self.cancel(request)
                raise
        if self._stopped:  # the worker may have looked into the inbox for the last time already
            self._reject_all()

    def check_caller(self) -> None:
        """Raise what ``submit`` would, whatever the request."""
        self.check_process()
        if self._closing:
            raise ClosedError("the model was closed")
        if threading.current_thread() is self._thread:
            raise PyQwenError("a logits_processor called its own model, which waits for it")

    def note(self, work: Note) -> None:
        """Let the worker do something short, soon; nobody learns what comes of it."""
        if os.getpid() == self._pid and not self._closing:
            self._inbox.put(work)

    @contextmanager
    def staying_loaded(self) -> Iterator[None]:
        """Do not unload the model, however long nobody asks."""
        with self._guard:
            self._keepers += 1
        try:
            yield
        finally:
            with self._guard:
                self._keepers -= 1

    def cancel(self, request: Request) -> None:
        """End a request within milliseconds; without effect on one that is over."""
        if request.done or os.getpid() != self._pid:
            return
        request.cancel_requested = True
        if (abandon := request.abandon) is not None:  # it may be prepared at this moment
            abandon()
        if request in self._running:
            self._interrupts.interrupt()
        self._inbox.put(None)

    def _expire(self, request: Request) -> None:
        if not request.cancel_requested:
            request.timed_out = True
            self.cancel(request)

    def close(self) -> None:
        """End all requests with ``CancelledError``, free the session, stop; may be called twice."""
        if os.getpid() != self._pid:
            return  # the worker and its locks stayed with the parent
        self._closing = True
        self._interrupts.interrupt()
        self._inbox.put(None)
        if self._thread.ident is None:
            self._shut_down()  # it was never started
        elif threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def is_closed(self) -> bool:
        return self._closing

    @property
    def is_loaded(self) -> bool:
        """Whether weights and session are in memory."""
        return self._interrupts.is_open

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV cache takes now."""
        return self._interrupts.kv_bytes

    def check_process(self) -> None:
        """Raise ``PyQwenError`` in a process that was forked after the model was opened."""
        if os.getpid() != self._pid:
            raise PyQwenError(_FORKED)

    # The worker

    def _work(self) -> None:
        try:
            while self._receive():
                if not self._interrupts.is_open and not (self._waiting and self._load()):
                    continue
                self._admit()
                work = self._plan_step()
                if work:
                    self._step(work)
        except BaseException as error:  # a bug: nobody may wait for a worker that is gone
            self._failure = error
            _log.exception("the engine stopped")
        finally:
            self._shut_down()

    def _receive(self) -> bool:
        """Take in what arrived, waiting if there is nothing to do; False when closing."""
        is_idle = not self._active and not self._waiting
        if is_idle:
            self._hand_over()
        while (is_idle and not self._closing) or not self._inbox.empty():
            self._take_in(self._wait() if is_idle else self._inbox.get())
            is_idle = False
        return not self._closing

    def _take_in(self, arrival: Arrival) -> None:
        if isinstance(arrival, Request):
            self._waiting.append(arrival)
        elif arrival is not None:
            arrival()
        elif not self._closing:
            for cancelled in [r for r in (*self._active, *self._waiting) if r.cancel_requested]:
                self._call(cancelled, cancelled.cancelled)

    def _wait(self) -> Arrival:
        """Wait for what arrives; unload the model if that takes too long."""
        seconds = self._unload_after
        while seconds is not None and self._interrupts.is_open:
            try:
                return self._inbox.get(timeout=seconds)
            except Empty:
                seconds = _SETTLE_SECONDS
                if self._keepers == 0 and self._residence.is_settled():
                    self._unload()
        return self._inbox.get()

    def _unload(self) -> None:
        self._interrupts.close()
        self._cache.close()
        self._speculator.unload()
        self._residence.unload()
        _log.info("the model was unloaded: nobody asked for %g s", self._unload_after)

    def _load(self) -> bool:
        """Load the model for those who wait; False if that failed, which ends their requests."""
        try:
            session = self._residence.load(self._keep_loading)
        except CancelledError:
            return False
        except Exception as error:
            for request in tuple(self._waiting):
                self._end(request, error)
            return False
        self._cache = PrefixCache(session, self._prefix_cache_bytes)
        self._speculator.load(self._keep_loading)
        self._session = session
        self._interrupts.open(session)
        return True

    def _keep_loading(self, done: int, total: int) -> bool:
        """Whether anybody still waits for the model; called now and then while it is loaded."""
        while not self._inbox.empty():
            self._take_in(self._inbox.get())
        self._hand_over()
        return bool(self._waiting) and not self._closing

    def _admit(self) -> None:
        """Give slots to those who wait, first come, first served; errands need none."""
        for errand in [one for one in self._waiting if isinstance(one, Errand)]:
            self._call(errand, errand.run, self._cache)
        for request in list(self._waiting):
            if not request.may_start or self._cache.will_have_more(request, self._active):
                continue
            try:
                if not self._cache.place(request):
                    return
            except OutOfMemoryError as error:
                self._end(request, error)
                continue
            self._waiting.remove(request)
            self._active.append(request)
            try:
                self._session.use_adapters(request.placed.index, request.adapter)
                request.started()
                self._speculator.begin(request)
            except Exception as error:
                self._end(request, error)

    def _plan_step(self) -> list[Work]:
        """A step of each answer; the rest of the batch for prompts, first come, first served."""
        work: list[Work] = []
        writing = [request for request in self._active if not request.is_reading]
        room = self._session.batch
        if self._speculator.drafts and writing:
            self._draft(writing, room)
        for others, request in zip(range(len(writing) - 1, -1, -1), writing, strict=True):
            room -= self._add_step(work, request, room - others)  # one row for each of the others
        if work:
            room = min(room, self._speculator.costs.rows_beside())
        for request in [request for request in self._active if request.is_reading]:
            if room > 0:
                room -= self._add_step(work, request, room)
        work.sort(key=lambda item: item[0].adapter or ())  # neighbors share a pass over theirs
        return work

    def _draft(self, writing: list[Request], room: int) -> None:
        """Choose what the requests that write propose in their next steps."""
        waiting = sum([r.remaining for r in self._active if r.is_reading])
        beside = min(waiting, self._speculator.costs.rows_beside(), room - len(writing))
        try:
            if self._may_run(writing):
                self._speculator.allot(writing, room, beside)
        finally:
            self._running = ()

    def _add_step(self, work: list[Work], request: Request, room: int) -> int:
        """Ask a request for its next step; return how many tokens it has."""
        try:
            step = request.next(room)
        except Exception as error:  # what guides it may be anyone's code
            self._end(request, error)
            return 0
        work.append((request, step))
        return len(step.tokens)

    def _end(self, request: Request, event: Event) -> None:
        """Take a request out and give its owner the last event."""
        if request.slot is None:
            if request in self._waiting:
                self._waiting.remove(request)
        else:
            self._active.remove(request)
            if request.leaves_cache:
                failed = isinstance(event, BaseException)
                self._cache.release(request.slot, None if failed else request.hold)
            else:
                self._cache.discard(request.slot)
            request.slot = None
            self._speculator.ended(request)
        request.done = True
        self._outbox.append((request, event))

    def _hand_over(self) -> None:
        """Give the events to those who wait, now that the core will work or nothing is to be done."""
        for request, event in self._outbox:
            self._deliver(request, event)
        self._outbox.clear()

    def _deliver(self, request: Request, event: Event) -> None:
        try:
            request.deliver(event)
        except Exception as error:  # its event loop is closed, for example
            _log.debug("nobody takes the results of a request any more: %s", error)
            self.cancel(request)

    def _shut_down(self) -> None:
        self._stopped = self._closing = True
        self._deadlines.stop()
        for request in (*self._active, *self._waiting):
            request.done = True  # the cache is left alone: after a bug it may not be in order
            self._outbox.append((request, self._stop_error()))
        self._hand_over()
        self._reject_all()
        self._interrupts.close()
        self._speculator.unload()
        self._residence.unload()

    def _reject_all(self) -> None:
        """End what came too late; the worker and a late ``submit`` may both be here."""
        while not self._inbox.empty():
            try:
                request = self._inbox.get_nowait()
            except Empty:
                return
            if isinstance(request, Request):
                request.done = True
                self._deliver(request, self._stop_error())

    def _stop_error(self) -> PyQwenError:
        if self._failure is not None:
            return PyQwenError(f"the engine stopped because of a bug in pyqwen: {self._failure!r}")
        return CancelledError("the model was closed while the request was in progress")
