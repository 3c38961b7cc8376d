"""Running the steps of requests: one evaluation for all of them, then what they sample or read of it.

Whose fault a failure is, and whether a cancel comes in time, is decided here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pyqwen._native import Sampled
from pyqwen.engine.bursts import write_on
from pyqwen.engine.interrupts import Interrupts
from pyqwen.engine.prefix_cache import PrefixCache
from pyqwen.engine.request import Event, Request
from pyqwen.engine.speculation import Speculator
from pyqwen.engine.step import Step
from pyqwen.engine.step_costs import MOST_ROWS
from pyqwen.errors import CancelledError, OutOfMemoryError

if TYPE_CHECKING:
    from pyqwen._native import Run, SessionHandle

Work = tuple[Request, Step]
"""A request and what of it runs in the next evaluation."""

_GROUP = 16  # outputs read in one call: LOGIT_ROWS of csrc/model/session.c


class Stepping(ABC):
    """A part of the engine, which has the requests. Only its worker calls."""

    _session: SessionHandle
    _cache: PrefixCache
    _speculator: Speculator
    _interrupts: Interrupts
    _inbox: SimpleQueue[Any]
    _active: list[Request]
    _running: Sequence[Request]  # those that the core works on at this moment
    _closing: bool

    @abstractmethod
    def _hand_over(self) -> None:
        """Deliver the events so far, now that the core will work."""

    @abstractmethod
    def _end(self, request: Request, event: Event) -> None:
        """Take a request out; ``event`` is its last."""

    def _step(self, work: list[Work]) -> None:
        start = perf_counter()
        try:
            done = self._evaluate(work)
        except Exception as error:
            self._on_failure(work, error)
            return
        if done:
            steps = self._use_outputs(work, start)
            self._cache.trim()
            self._speculator.note_cost(work, (perf_counter() - start) / steps)

    def _on_failure(self, work: list[Work], error: Exception) -> None:
        """A step failed and left everything as it was: find out whose fault it is."""
        if len(work) > 1:
            for item in work:
                self._step([item])
            return
        request, step = work[0]
        if isinstance(error, OutOfMemoryError) and self._cache.drop_oldest():
            return  # the next step tries again with more memory
        if isinstance(error, OutOfMemoryError) and step.proposed:
            self._step([(request, request.next(len(step.tokens) - step.proposed))])
        else:
            self._end(request, error)

    def _evaluate(self, work: list[Work]) -> bool:
        """Run a batch; False if it was cancelled, and all sequences are as they were."""
        tokens: list[int] = []
        sequences: list[int] = []
        outputs: list[int] = []
        for request, step in work:
            tokens += step.tokens
            sequences += [request.placed.index] * len(step.tokens)
            outputs += step.outputs
        start = perf_counter()
        try:
            if not self._may_run([request for request, _ in work]):
                return False
            self._hand_over()
            self._session.eval(tokens, sequences, outputs)
        except CancelledError:
            return False
        finally:
            self._running = ()
        if len(tokens) > MOST_ROWS:  # not a draft
            rate = len(tokens) / (perf_counter() - start)
            self._speculator.costs.note_reading(rate)
        return True

    def _may_run(self, requests: Sequence[Request]) -> bool:
        """Let ``cancel`` interrupt the core, which will work for ``requests``; False: one is cancelled.

        ``cancel`` sets the request's flag and then looks at ``_running``; here it is the other way
        round. So either the flag is seen here, or ``cancel`` sees the request and interrupts the
        core after its flag was cleared. A flag that comes too late stops a step of others, which is
        then simply run again.
        """
        self._running = requests
        self._interrupts.forget()
        return not self._closing and not any(request.cancel_requested for request in requests)

    def _use_outputs(self, work: list[Work], start: float) -> int:
        """After an evaluation: sample, read outputs, let requests advance; return how many steps there
        were since ``start``."""
        steps, output = 1, 0
        drawing: list[Work] = []
        runs: list[Run] = []
        reading: list[tuple[Request, Step, int]] = []
        for request, step in work:
            request.placed.tokens += step.tokens
            if step.run is not None:
                try:
                    run = step.run.with_masks()
                except Exception as error:  # of what guides this request alone
                    self._advance(request, step, Sampled([], error))
                else:
                    drawing.append((request, step))
                    runs.append(run._replace(first=output) if output else run)
            elif step.read is not None:
                reading.append((request, step, output))
            else:
                self._call(request, request.advance, ())
            output += sum(step.outputs)
        if runs:
            results = self._sample(runs)
            if len(work) == 1 and work[0][1].more and len(self._active) == 1:
                drawing[0], results[0] = self._write_on(work[0], results[0], start)
                steps += drawing[0][1].proposed
            for (request, step), sampled in zip(drawing, results, strict=True):
                self._advance(request, step, sampled)
        for request, step, first in reading:
            self._read(request, step, first)
        return steps

    def _write_on(self, work: Work, first: Sampled, start: float) -> tuple[Work, Sampled]:
        """Run the steps that may follow a request's, as long as nobody else wants anything."""
        self._running = (work[0],)
        try:
            return write_on(self._session, work, first, start, self._sample, self._inbox.empty)
        finally:
            self._running = ()

    def _sample(self, runs: list[Run]) -> list[Sampled]:
        while True:
            self._interrupts.forget()
            try:
                return self._session.sample(runs)
            except CancelledError:  # a flag that came too late; nothing was drawn
                continue
            except Exception as error:
                return [Sampled([], error)] * len(runs)

    def _advance(self, request: Request, step: Step, sampled: Sampled) -> None:
        event = _event_of(request.advance, sampled.samples)
        if step.proposed:  # before the slot is given up: what it holds then may be kept
            self._cache.settle(request.placed, request.tokens, step.proposed)
        if event is None:
            event = sampled.failure
        if event is not None:
            self._end(request, event)

    def _read(self, request: Request, step: Step, output: int) -> None:
        assert step.read is not None
        done, n = 0, sum(step.outputs)
        while done < n:
            rows = min(_GROUP, n - done)
            try:
                if not self._may_run([request]):
                    return
                self._hand_over()
                step.read(self._session, output + done, done, rows)
            except CancelledError:
                continue
            except Exception as error:
                self._end(request, error)
                return
            finally:
                self._running = ()
            done += rows
        self._call(request, request.advance, ())

    def _call(self, request: Request, method: Callable[..., Event | None], *args: object) -> None:
        """Call a method of a request; it is over if that returns its last event, or fails."""
        event = _event_of(method, *args)
        if event is not None:
            self._end(request, event)


def _event_of(method: Callable[..., Event | None], *args: object) -> Event | None:
    """What a method of a request returns, or what it raises."""
    try:
        return method(*args)
    except Exception as error:
        return error
