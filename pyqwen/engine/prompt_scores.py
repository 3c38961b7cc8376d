"""The log-probabilities of a prompt's own tokens, and the likeliest ones in their places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyqwen._native import Draw, Run

if TYPE_CHECKING:
    from pyqwen._native import Sample, SamplerHandle, SessionHandle
    from pyqwen.results import TokenLogprob


class PromptScores:
    """What a prompt is scored with, and what came of it. Several requests may share it with the prompt."""

    def __init__(
        self,
        tokens: Sequence[int],
        scorer: SamplerHandle,
        describe: Callable[[Sample], TokenLogprob],
    ) -> None:
        """``scorer`` reports log-probabilities; what it is told of the text is of no consequence."""
        self._tokens, self._scorer, self._describe = tokens, scorer, describe
        self._next = 1  # the first token has nothing before it
        self.entries: list[TokenLogprob | None] = [None] * len(tokens)

    @property
    def is_complete(self) -> bool:
        return self._next == len(self.entries)

    def restart(self) -> None:
        """Another request begins to read the prompt."""
        self._next = 1

    def read(self, session: SessionHandle, output: int, index: int, n: int) -> None:
        """Score the tokens after ``n`` more outputs of the session (``ReadOutputs``)."""
        targets = self._tokens[self._next : self._next + n]
        draws = [Draw(i, token, forced=True) for i, token in enumerate(targets)]
        (scored,) = session.sample([Run(self._scorer, draws, output)])
        if scored.failure is not None:
            raise scored.failure
        self.entries[self._next : self._next + n] = map(self._describe, scored.samples)
        self._next += n
