"""What guides one answer by a grammar: ``engine.step.Constraint`` over a matcher.

The engine asks for masks before it runs the model, and needs them when the model has run; a thread beside
it computes them meanwhile. Where the engine stands and where the matcher stands may differ: what was only
tried and taken back, as forced tokens are while a step is planned, is not computed again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

import numpy as np

from pyqwen._native import ComingMask, Mask
from pyqwen.constraints.llguidance import GrammarMatcher, GrammarRefused
from pyqwen.errors import ConstraintError

T = TypeVar("T")


class MaskThread:
    """Computes masks one after the other; made when the first one is wanted."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[PendingMask | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, job: PendingMask) -> None:
        """Compute a mask soon; without a thread it is computed when it is asked for."""
        if self._thread is None:
            self._start()
        self._jobs.put(job)

    def close(self) -> None:
        """Let the thread end; masks asked for later are computed all the same."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)

    def _start(self) -> None:
        with self._lock:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(
                target=_compute_masks, args=(self._jobs,), name="pyqwen-masks", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no further thread: whoever asks computes
                self._closed = True
            else:
                self._thread = thread


def _compute_masks(jobs: SimpleQueue[PendingMask | None]) -> None:
    while (job := jobs.get()) is not None:
        job.compute()
        del job  # not kept until the next one comes


class PendingMask:
    """A mask that is computed by whoever comes first."""

    def __init__(self, matcher: GrammarMatcher, words: int) -> None:
        self._matcher = matcher
        self._lock = threading.Lock()
        self._is_done = False
        self._words = np.empty(words, np.uint32)
        self._failure: GrammarRefused | None = None

    def compute(self) -> None:
        """Compute it, or wait for who does."""
        with self._lock:
            if self._is_done:
                return
            try:
                self._matcher.write_mask(self._words)
            except GrammarRefused as error:
                self._failure = error
            self._is_done = True

    def get(self) -> Mask:
        """The mask; ``ConstraintError`` if the grammar does not go on here."""
        self.compute()
        if self._failure is not None:
            raise _too_complex(self._failure)
        return self._words


class Guide:
    """The tokens of one answer by its grammar; used by one thread, but for the masks to come."""

    def __init__(
        self, matcher: GrammarMatcher, words: int, submit: Callable[[PendingMask], None]
    ) -> None:
        """``matcher`` stands at the beginning and is nobody else's."""
        self._matcher = matcher
        self._words = words
        self._submit = submit
        self._tokens: list[int] = []  # accepted
        self._fed: list[int] = []  # to the matcher
        self._agreeing = 0  # how many of both are the same
        self._mask: PendingMask | None = None  # of where the matcher stands
        self._forced: list[int] | None = None  # the same

    @property
    def length(self) -> int:
        """How many tokens were accepted."""
        return len(self._tokens)

    @property
    def is_at_start(self) -> bool:
        """Whether no token was accepted yet."""
        return not self._tokens

    def start_behind(self, tokens: Sequence[int]) -> None:
        """Go on with an answer that begins so; ``ConstraintError`` if none can."""
        for token in tokens:
            self.accept(token)
        try:
            self._move()
        except ConstraintError as error:
            raise ConstraintError(
                "the final message, which the answer is to go on with, does not follow its format"
            ) from error
        self._settle()
        self._tokens, self._fed, self._agreeing = [], [], 0

    def mask(self) -> ComingMask:
        self._move()
        if self._mask is None:
            self._mask = PendingMask(self._matcher, self._words)
            self._submit(self._mask)
        return self._mask

    def forced(self) -> list[int]:
        self._move()
        if self._forced is None:
            self._settle()
            self._forced = self._use(self._matcher.forced)
        return self._forced

    def accept(self, token: int) -> None:
        at = len(self._tokens)
        if self._agreeing == at and at < len(self._fed) and self._fed[at] == token:
            self._agreeing += 1
        self._tokens.append(token)

    def rewind(self, n: int) -> None:
        del self._tokens[len(self._tokens) - n :]
        self._agreeing = min(self._agreeing, len(self._tokens))

    def finished(self) -> bool:
        self._move()
        self._settle()
        return self._matcher.is_over

    def _move(self) -> None:
        """Bring the matcher behind the last token."""
        if self._agreeing == len(self._fed) == len(self._tokens):
            return
        self._settle()
        self._mask = self._forced = None
        self._use(self._go)

    def _go(self) -> None:
        surplus = len(self._fed) - self._agreeing
        if surplus:
            self._matcher.rewind(surplus)
            del self._fed[self._agreeing :]
        missing = self._tokens[self._agreeing :]
        if missing:
            self._matcher.consume(missing)
            self._fed += missing
            self._agreeing = len(self._fed)

    def _settle(self) -> None:
        """Wait until no other thread uses the matcher."""
        if self._mask is not None:
            self._mask.compute()

    def _use(self, method: Callable[[], T]) -> T:
        try:
            return method()
        except GrammarRefused as error:
            raise _too_complex(error) from None


def _too_complex(reason: GrammarRefused) -> ConstraintError:
    return ConstraintError(
        f"the answer cannot go on by its schema or grammar here: {reason}; make it simpler"
    )
