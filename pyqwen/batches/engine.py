"""A worker's inside: one model, and an event loop on a thread of its own that answers rows with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from pyqwen.batches.answering import Answer, RowAnswers
from pyqwen.batches.driver import Answered, Failed, Joined, Tell
from pyqwen.batches.rows import Row
from pyqwen.errors import NoThreadError
from pyqwen.model import Model

_AHEAD = 4  # one more for so many rows that run waits, so that none is missed when one ends


def capacity_of(model: Model) -> int:
    """How many rows a worker is given at a time."""
    return model.max_sequences + max(2, model.max_sequences // _AHEAD)


class EngineThread:
    """Answers rows with an open model; ``done`` is called on the thread with each answer."""

    def __init__(self, model: Model, name: str, done: Callable[[Answer], object]) -> None:
        self._answers = RowAnswers(model, name)
        self._done = done
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pyqwen-batch", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise NoThreadError(f"no thread can be started for the batch: {error}") from error

    def send(self, row: Row) -> None:
        """Answer a row; any thread may call this."""
        self._loop.call_soon_threadsafe(self._begin, row)

    def close(self) -> None:
        """Stop what is running, and wait until it has."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _begin(self, row: Row) -> None:
        task = self._loop.create_task(self._answer(row))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, row: Row) -> None:
        self._done(await self._answers.answer(row))

    async def _stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self) -> None:
        loop = self._loop
        try:
            loop.run_forever()
            loop.run_until_complete(self._stop())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()


class OwnEngine:
    """A pool of one: the engine of this process."""

    NAME = "the engine"

    def __init__(self, open_model: Callable[[], Model], name: str, *, lent: bool = False) -> None:
        """``open_model`` is called when the pool starts; a model that is ``lent`` is not closed."""
        self._open, self._name, self._lent = open_model, name, lent
        self._model: Model | None = None
        self._engine: EngineThread | None = None

    def start(self, tell: Tell) -> None:
        model = self._model = self._open()

        def done(answer: Answer) -> None:
            if model.closed:  # by its owner: what fails now is no answer
                tell(Failed(_closed_error()))
            else:
                tell(Answered(self.NAME, answer))

        self._engine = EngineThread(model, self._name, done)
        tell(Joined(self.NAME, capacity_of(model)))

    def send(self, worker: str, row: Row) -> None:
        assert self._engine is not None
        self._engine.send(row)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._model is not None and not self._lent:
            self._model.close()


def _closed_error() -> Exception:
    from pyqwen.errors import ClosedError

    return ClosedError("the model was closed before the batch was done; a second start goes on")
