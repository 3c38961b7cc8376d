"""The request behind an embedding: a text is read, and its final hidden states become one vector.

As the text is read only the states that count are kept: of one token, or their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyqwen._native import Sample
from pyqwen.engine.request import Deliver, Event, Request
from pyqwen.engine.step import Step
from pyqwen.errors import CancelledError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen._native import SessionHandle
    from pyqwen.text.embedding_settings import Pooling


class Embedding(Request):
    """Reads tokens; its last event is the pooled vector (``width``), not normalized."""

    leaves_cache = False  # texts that are embedded are seldom continued

    def __init__(
        self, tokens: list[int], deliver: Deliver, *, pooling: Pooling, width: int
    ) -> None:
        import numpy as np  # which plain answers do without

        # The first token sees no other, so nothing else is read for its state.
        super().__init__(tokens[:1] if pooling == "cls" else tokens, deliver)
        self._pooling = pooling
        self._total = np.zeros(width, np.float64)
        self._state = np.empty(width, np.float32)

    @property
    def may_reuse(self) -> bool:
        return False  # the states of positions that are cached are gone

    def next(self, room: int) -> Step:
        first = len(self.placed.tokens)
        tokens = self.tokens[first : first + room]
        outputs = [int(self._pooling == "mean")] * len(tokens)
        if first + len(tokens) == len(self.tokens):
            outputs[-1] = 1
        return Step(tokens, outputs, read=self._read if any(outputs) else None)

    def _read(self, session: SessionHandle, output: int, index: int, n: int) -> None:
        if self._pooling == "mean":
            session.add_hidden(output, n, self._total)
        else:
            session.hidden(output, 1, self._state)

    def advance(self, samples: Sequence[Sample]) -> Event | None:
        if self.remaining:
            return None
        if self._pooling == "mean":
            mean: npt.NDArray[np.float32] = (self._total / len(self.tokens)).astype("float32")
            return mean
        return self._state

    def cancelled(self) -> Event:
        return CancelledError("the embedding was cancelled")
