"""The model on a thread of its own: how a program with an event loop uses pyqwen.

- One thread opens, uses and closes the model. It takes jobs from a queue and answers with signals, which Qt
  hands to the window's thread. The window never waits for it but once, when the program ends.
- pyqwen computes without the interpreter's lock, so the event loop keeps its pace meanwhile.
- Whatever runs is stopped from outside: loading and downloads by a progress function that returns False,
  an answer by ``stream.cancel()``, which any thread may call. Both take effect within a tenth of a second.
- Errors are values here: every job ends with a signal, and none takes the thread down.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from problems import Problem, describe
from PySide6.QtCore import QObject, Signal
from tools import answer_call

import pyqwen
from pyqwen import catalog

_MAX_ROUNDS = 6  # answers in one turn that call tools
_UNLOAD_AFTER = 15 * 60.0  # seconds: a chat that is left open gives the memory back

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """A model to open. Unless ``anyway`` it is refused where its plan does not fit the memory."""

    name: str
    context: int
    anyway: bool = False


@dataclass(frozen=True)
class Opened:
    """A model that is ready."""

    name: str
    path: Path
    plan: pyqwen.MemoryPlan


@dataclass(frozen=True)
class Turn:
    """A conversation to answer, and the keywords of ``Model.stream_chat``."""

    messages: list[dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)


class _Stopped(Exception):
    """The user stopped the job."""


class ModelWorker(QObject):
    """Opens one model at a time and lets it answer one conversation at a time."""

    progressed = Signal(str, object, object)  # what is done, bytes done, bytes in all
    opened = Signal(object)  # Opened
    prompt_read = Signal(int, int)  # tokens read, tokens in all
    wrote = Signal(str, str)  # the next text of the answer, of its reasoning
    said = Signal(
        object, object
    )  # a whole message, and facts about it: an answer or a tool's result
    finished = Signal()  # the job is over, in whatever way; the next one may come
    failed = Signal(object)  # Problem; comes before ``finished``

    def __init__(self) -> None:
        super().__init__()
        self._jobs: SimpleQueue[Opening | Turn | None] = SimpleQueue()
        self._model: pyqwen.Model | None = None
        self._stream: pyqwen.Stream[pyqwen.ChatCompletion] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    # Called by the window

    def start(self, job: Opening | Turn) -> None:
        """Begin a job; only when the one before is ``finished``."""
        self._stop.clear()
        self._jobs.put(job)

    def stop(self) -> None:
        """End the job that runs; what was written until then stays."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def close(self) -> None:
        """Stop, free the model and wait for the thread to end."""
        self._jobs.put(None)
        self.stop()
        self._thread.join(10)

    @property
    def is_loaded(self) -> bool:
        """Whether a model is in memory now."""
        model = self._model
        return model is not None and model.loaded

    # The thread

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if isinstance(job, Opening):
                    self._open(job)
                else:
                    self._answer(job)
            except _Stopped:
                pass
            except Exception as error:
                if not isinstance(error, pyqwen.PyQwenError):
                    _log.exception("a job failed")
                if not self._stop.is_set():
                    self.failed.emit(describe(error))
            self.finished.emit()
        self._close_model()

    def _open(self, job: Opening) -> None:
        self._close_model()  # never two at once: the old one makes room
        path = catalog.locate(job.name)  # a file, or a model of that name that is here
        if path is None:
            path = pyqwen.pull(job.name, progress=self._watch("Downloading"))
        self._check_stop()
        plan = pyqwen.plan(path, context=None, max_sequences=1)
        context = min(job.context, plan.trained_context)
        plan = pyqwen.plan(path, context=context, max_sequences=1)
        if not plan.fits and not job.anyway:
            self.failed.emit(Problem.too_large(job.name, plan))
            return
        self._model = pyqwen.Model(
            path,
            context=context,
            unload_after=_UNLOAD_AFTER,
            draft="ngram",  # what repeats earlier text is written faster, and is the same
            progress=self._watch("Loading"),
        )
        self.opened.emit(Opened(job.name, self._model.path, plan))

    def _answer(self, turn: Turn) -> None:
        if self._model is None:
            self.failed.emit(Problem.no_model())
            return
        messages = list(turn.messages)
        for _ in range(_MAX_ROUNDS):
            reply = self._stream_one(messages, turn.options)
            messages.append(reply.message)
            self.said.emit(reply.message, _facts(reply))
            calls = getattr(reply, "tool_calls", None)
            if not calls or self._stop.is_set():
                return
            for call in calls:
                result = answer_call(call)
                messages.append(result)
                self.said.emit(result, {})

    def _stream_one(
        self, messages: list[dict[str, Any]], options: dict[str, Any]
    ) -> pyqwen.ChatCompletion:
        assert self._model is not None
        with self._model.stream_chat(
            messages, on_prompt=self.prompt_read.emit, **options
        ) as stream:
            self._stream = stream
            try:
                if self._stop.is_set():  # between the round before and this line
                    stream.cancel()
                for chunk in stream:
                    self.wrote.emit(chunk.text, chunk.reasoning)
            finally:
                self._stream = None
        return stream.completion

    def _watch(self, what: str) -> Callable[[int, int], bool]:
        def progress(done: int, total: int) -> bool:
            self.progressed.emit(what, done, total)
            return not self._stop.is_set()

        return progress

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _close_model(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None


def _facts(reply: pyqwen.ChatCompletion) -> dict[str, Any]:
    """What is shown below an answer, as JSON can hold it."""
    return {
        "finish_reason": reply.finish_reason,
        "tokens": reply.usage.completion_tokens,
        "context_tokens": reply.usage.total_tokens,
        "cached_tokens": reply.usage.cached_tokens,
        "tokens_per_second": round(reply.timings.decode_tokens_per_second, 1),
        "seconds_to_first": round(reply.timings.first_token_seconds or 0.0, 2),
        "reasoning": reply.reasoning or "",
    }
