"""Drafts by a smaller model of the same vocabulary, which the engine's worker runs between its steps.

It reads no more than the end of a text before it begins, so that a long prompt costs it little, and keeps
the keys and values of what it read since. Cancelling it leaves it usable.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from pyqwen._native import Draw, Run
from pyqwen.errors import CancelledError, OutOfMemoryError

if TYPE_CHECKING:
    from pyqwen._native import SamplerHandle, SessionHandle

WINDOW = 64
"""Tokens at the end of a text that are read before the first draft, or after a long time without."""
_UNSURE = -1.0  # log-probability of a token behind which nothing more is drafted


class DraftModel:
    """A session of the smaller model, with a sequence for each request of the engine."""

    longest = 8  # tokens of a draft

    def __init__(
        self,
        session: SessionHandle,
        sampler: SamplerHandle,
        vocab_rows: int,
        on_close: Callable[[], None],
    ) -> None:
        """``sampler``: greedy, with log-probabilities. ``on_close`` is called when it is not needed
        any more."""
        self._session, self._on_close = session, on_close
        self._vocab_rows = vocab_rows
        self._run = Run(sampler, (Draw(0),))
        self._free = list(range(session.sequences))
        self.token_seconds = 0.0
        """What a token of a draft takes, as measured last."""
        self._measure()

    def close(self) -> None:
        """Free it; no text of it may be used any more."""
        self._session.close()
        self._on_close()

    def cancel(self, on: bool = True) -> None:
        """Set or clear the flag that stops it; any thread may call this."""
        self._session.cancel(on)

    def begin(self, tokens: list[int]) -> DraftText | None:
        """Return what drafts for a growing text, or None if all sequences are in use."""
        return DraftText(self, tokens, self._free.pop()) if self._free else None

    def _measure(self) -> None:
        for _ in range(2):  # the first one also reads the weights from the disk
            start = perf_counter()
            self._read(0, [0])
            self._next()
            self.token_seconds = perf_counter() - start
            self._session.rewind(0, 0)

    def _read(self, sequence: int, tokens: list[int]) -> None:
        batch = self._session.batch
        for begin in range(0, len(tokens), batch):
            part = tokens[begin : begin + batch]
            outputs = [0] * (len(part) - 1) + [int(begin + batch >= len(tokens))]
            self._session.eval(part, [sequence] * len(part), outputs)

    def _next(self) -> tuple[int, float]:
        """The likeliest token after what was read last, and its log-probability."""
        sampled = self._session.sample([self._run])[0]
        if sampled.failure is not None:
            raise sampled.failure
        return sampled.samples[0].token, sampled.samples[0].logprob


class DraftText:
    """What the model has read of one text. Close it when the text is complete."""

    def __init__(self, model: DraftModel, tokens: list[int], sequence: int) -> None:
        self._model, self._tokens, self._sequence = model, tokens, sequence
        self._start = 0  # where in the text its sequence begins
        self._held: list[int] = []  # what that holds
        self._known = 0  # of these, how many were compared with the text
        self._closed = False

    def close(self) -> None:
        """Give up the sequence; may be called twice."""
        if not self._closed:
            self._closed = True
            self._rewind(0)
            self._model._free.append(self._sequence)

    def propose(self, n: int) -> tuple[list[int], float]:
        """Return up to ``n`` tokens that may follow the text, fewer where the model is not sure.

        With the seconds that it took. No token comes of what was cancelled or had no memory.
        """
        start = perf_counter()
        draft: list[int] = []
        try:
            self._catch_up(n)
            caught_up = perf_counter()
            while len(draft) < n:
                if draft:
                    self._read(draft[-1:])
                token, logprob = self._model._next()
                draft.append(token)
                if logprob < _UNSURE:
                    break
            spent = (perf_counter() - caught_up) / max(len(draft) - 0.5, 0.5)
            self._model.token_seconds += 0.1 * (spent - self._model.token_seconds)
        except (CancelledError, OutOfMemoryError):
            draft = []
        return draft, perf_counter() - start

    def _catch_up(self, n: int) -> None:
        """Have the sequence hold the text, or its end, and the output of the last token at hand."""
        tokens, held = self._tokens, self._held
        same = self._known
        while (
            same < len(held)
            and self._start + same < len(tokens)
            and held[same] == tokens[self._start + same]
        ):
            same += 1
        same = min(same, len(tokens) - self._start - 1)  # the last one is read for its output
        end = self._start + same
        if (
            len(tokens) - end > WINDOW
            or len(tokens) - self._start + n > self._model._session.context
        ):
            window = min(WINDOW, self._model._session.context - n)
            self._start = end = max(0, len(tokens) - window)
            same = 0
        self._rewind(same)
        self._read(tokens[end:])
        self._known = len(held)

    def _read(self, tokens: list[int]) -> None:
        if max(tokens) >= self._model._vocab_rows:
            raise OutOfMemoryError("a token that the drafting model does not have")
        self._model._read(self._sequence, tokens)
        self._held += tokens

    def _rewind(self, length: int) -> None:
        self._known = min(self._known, length)
        if length < len(self._held):
            self._model._session.rewind(self._sequence, length)
            del self._held[length:]
