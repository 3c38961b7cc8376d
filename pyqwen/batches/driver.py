"""The driver of a batch: gives rows to workers, writes what comes back, and gives out again what was lost.

It knows nothing of what workers are. They join when they like, take a few rows more than they work on, and
may be lost at any moment with the rows that they have. A row is written when its answer is here, and never
twice.

Each worker has a stretch of the order, so that rows that begin alike stay together; stretches get short as
the end comes near, so that all end at about the same time. A row that was with two lost workers is suspected
of ending them: it is kept for the end and given out alone, and is an error if that ends three workers.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Protocol, TypeAlias

from pyqwen.batches.answering import Answer, no_request
from pyqwen.batches.output import BatchOutput
from pyqwen.batches.rows import Row, RowError, RowFile
from pyqwen.errors import CancelledError

_log = logging.getLogger("pyqwen.batch")

_STRETCH = 64  # rows that a worker gets of the order at once, at most
_SUSPECT = 2  # lost workers
_GUILTY = 3  # workers lost with this row alone
_POLL_SECONDS = 0.1  # on Windows a wait without a limit would not notice Ctrl-C


@dataclass(frozen=True, slots=True)
class Joined:
    """A worker is ready for ``capacity`` rows at a time."""

    worker: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A worker has answered a row."""

    worker: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with the rows that it had; another one may join in its place."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no worker any more."""

    error: BaseException


Event: TypeAlias = Joined | Answered | Lost | Failed
Tell: TypeAlias = Callable[[Event], None]
"""May be called from any thread."""


class Pool(Protocol):
    """Where workers come from. Every method is called by the driver's thread and returns soon."""

    def start(self, tell: Tell) -> None:
        """Have workers join; from now on ``tell`` is called with events."""

    def send(self, worker: str, row: Row) -> None:
        """Give a row to a worker, which may be gone: then it is told to be lost."""

    def close(self) -> None:
        """Stop all workers at once."""


@dataclass(slots=True)
class Progress:
    """How far a batch is. ``done`` and ``failed`` count rows of earlier starts, too; ``tokens`` of this
    start are those read, of the prompts those that were cached, and those written."""

    total: int
    done: int
    failed: int
    found: int
    """Rows that were answered before this start."""
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0])
    lost: int = 0
    """Workers."""


class Report(Protocol):
    """Who is told how it goes, by the driver's thread."""

    def begin(self, rows: RowFile, output: BatchOutput) -> None:
        """The files are read, and the output is looked through."""

    def note(self, state: Progress) -> object:
        """Called now and then; False ends the batch with ``CancelledError``."""


@dataclass(slots=True)
class _Worker:
    capacity: int
    stretch: deque[int] = field(default_factory=deque)
    running: dict[int, None] = field(default_factory=dict)  # in the order of their start
    is_alone: bool = False  # with the only row that it may have


class Driver:
    """One batch."""

    def __init__(
        self, rows: RowFile, output: BatchOutput, make_pool: Callable[[], Pool], report: Report
    ) -> None:
        """``make_pool`` is called when there is something to answer."""
        self._rows, self._output, self._report = rows, output, report
        self._make_pool = make_pool
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._workers: dict[str, _Worker] = {}
        self._queue: deque[int] = deque()
        self._suspects: deque[int] = deque()
        self._losses: Counter[int] = Counter()
        self._lone_losses: Counter[int] = Counter()
        done = len(output.done)
        self.progress = Progress(len(rows), done, output.failed, done)

    def run(self) -> Progress:
        """Answer all rows that the output has no answer to."""
        self._report.begin(self._rows, self._output)
        self._refuse()
        left = [number for number in range(len(self._rows)) if number not in self._output.done]
        self._queue.extend(self._rows.ordered(left))
        if not self._queue:
            return self.progress
        self._pool = self._make_pool()
        try:
            self._pool.start(self._events.put)
            while self.progress.done < self.progress.total:
                self._handle_next()
                if self._report.note(self.progress) is False:
                    raise CancelledError("the batch was stopped; a second start goes on with it")
        finally:
            self._pool.close()
        return self.progress

    def _refuse(self) -> None:
        """Rows that are no requests need no worker."""
        for number, error in self._rows.errors.items():
            if number not in self._output.done:
                row_id, line = self._rows.ids[number], self._rows.lines[number]
                self._write(no_request(number, row_id, error, line))

    def _handle_next(self) -> None:
        try:
            event = self._events.get(timeout=_POLL_SECONDS)
        except Empty:
            return
        if isinstance(event, Answered):
            self._take(event)
        elif isinstance(event, Joined):
            _log.info("%s joined: %d rows at a time", event.worker, event.capacity)
            self._workers[event.worker] = _Worker(event.capacity)
            self._fill(event.worker)
        elif isinstance(event, Lost):
            self._lose(event)
        else:
            raise event.error

    def _take(self, event: Answered) -> None:
        worker = self._workers.get(event.worker)
        number = event.answer.number
        if worker is not None:
            worker.running.pop(number, None)
            worker.is_alone = False
        if number not in self._output.done:  # else it came after its worker was thought to be lost
            self._write(event.answer)
        if worker is not None:
            self._fill(event.worker)

    def _write(self, answer: Answer) -> None:
        self._output.append(answer.line)
        self._output.done.add(answer.number)
        self.progress.done += 1
        self.progress.failed += answer.failed
        for i, count in enumerate(answer.tokens):
            self.progress.tokens[i] += count

    def _lose(self, event: Lost) -> None:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        self.progress.lost += 1
        running = [number for number in worker.running if number not in self._output.done]
        _log.warning(
            "lost %s (%s): %d of its rows are given out again",
            event.worker,
            event.reason,
            len(running),
        )
        self._queue.extendleft(reversed(worker.stretch))
        again = []
        for number in running:
            self._losses[number] += 1
            self._lone_losses[number] += worker.is_alone
            if self._lone_losses[number] >= _GUILTY:
                self._give_up(number, event.reason)
            elif self._losses[number] >= _SUSPECT:
                self._suspects.append(number)
            else:
                again.append(number)
        self._queue.extendleft(reversed(again))
        for name in self._workers:
            self._fill(name)

    def _give_up(self, number: int, reason: str) -> None:
        message = f"{_GUILTY} workers ended while they answered this row alone: {reason}"
        name = self._rows.custom_ids[number]
        error = RowError("worker_lost", message, custom_id=name)
        self._write(no_request(number, self._rows.ids[number], error))

    def _fill(self, name: str) -> None:
        """Give a worker as many rows as it takes."""
        worker = self._workers[name]
        while len(worker.running) < worker.capacity and not worker.is_alone:
            if not worker.stretch:
                worker.stretch.extend(self._next_stretch())
            if worker.stretch:
                number, is_alone = worker.stretch.popleft(), False
            elif self._suspects and not worker.running:
                number, is_alone = self._suspects.popleft(), True
            else:
                return
            if number not in self._output.done:  # by a worker that was thought to be lost
                worker.running[number], worker.is_alone = None, is_alone
                self._pool.send(name, self._rows.read(number))

    def _next_stretch(self) -> Iterable[int]:
        """The next rows of the order; when there are none, half of what another worker has not begun."""
        if self._queue:
            share = len(self._queue) // (2 * len(self._workers))
            size = min(len(self._queue), max(1, min(_STRETCH, share)))
            return [self._queue.popleft() for _ in range(size)]
        longest = max(self._workers.values(), key=lambda worker: len(worker.stretch)).stretch
        return reversed([longest.pop() for _ in range((len(longest) + 1) // 2)])
