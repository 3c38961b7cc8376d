"""What a session asks of the engine: to read tokens into it, and short work with the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from pyqwen.engine.request import Deliver, Event, Outcome, Request
from pyqwen.engine.step import Step
from pyqwen.errors import CancelledError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen._native import Sample, SessionHandle
    from pyqwen.engine.hold import Hold
    from pyqwen.engine.prefix_cache import PrefixCache


class Reading(Request):
    """Reads all of ``tokens`` into a session. Ends with how many were not in the cache."""

    def __init__(
        self,
        tokens: list[int],
        deliver: Deliver,
        hold: Hold,
        logits: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """``logits`` (vocab_rows) receives those after the last token."""
        super().__init__(tokens, deliver)
        self.hold = hold
        self.adapter = cast(Any, hold.adapter)  # as the request had it that read it last
        self._logits = logits
        self._cached = 0

    def started(self) -> None:
        self._cached = len(self.placed.tokens)

    def next(self, room: int) -> Step:
        first = len(self.placed.tokens)
        tokens = self.tokens[first : first + room]
        outputs = [0] * len(tokens)
        if self._logits is None or first + len(tokens) < len(self.tokens):
            return Step(tokens, outputs)
        outputs[-1] = 1
        return Step(tokens, outputs, read=self._read)

    def advance(self, samples: Sequence[Sample]) -> Event | None:
        return None if self.remaining else Outcome(len(self.tokens) - self._cached)

    def _read(self, session: SessionHandle, output: int, index: int, n: int) -> None:
        assert self._logits is not None
        session.logits(output, n, self._logits.reshape(1, -1))

    def cancelled(self) -> Event:
        return CancelledError("reading into the session was cancelled")


class Errand(Request):
    """Short work with the cache, done between two steps. Ends with what it returns."""

    def __init__(self, deliver: Deliver, work: Callable[[PrefixCache], Any]) -> None:
        super().__init__([], deliver)
        self._work = work

    def run(self, cache: PrefixCache) -> Event:
        """Do it."""
        return Outcome(self._work(cache))

    def next(self, room: int) -> Step:
        raise AssertionError("an errand has no steps")

    def advance(self, samples: Sequence[Sample]) -> Event | None:
        raise AssertionError("an errand has no steps")

    def cancelled(self) -> Event:
        return CancelledError("the work for a session was cancelled")
