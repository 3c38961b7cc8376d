"""Perplexity of a text, computed as llama-perplexity does: see ``text_chunks``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from pyqwen._native import SessionHandle
from pyqwen.interruptible import run_interruptibly
from pyqwen.loading.weights import Weights
from pyqwen.text.text_chunks import TextChunks


@dataclass(frozen=True, slots=True)
class Perplexity:
    """An estimate: ``value`` ± ``error`` (one standard error) from ``tokens`` predictions.

    ``nll`` is their mean negative natural-log probability; ``chunks`` of ``context`` tokens were
    read.
    """

    value: float
    error: float
    nll: float
    tokens: int
    chunks: int
    context: int


Progress = Callable[[Perplexity, int], None]
"""Called after each chunk with the estimate so far and the number of chunks in all."""


def perplexity(
    weights: Weights,
    ids: Sequence[int],
    *,
    context: int = 512,
    chunks: int | None = None,
    bos: int | None = None,
    progress: Progress | None = None,
) -> Perplexity:
    """Return the perplexity of a model on a text of token ids.

    ``chunks`` limits how many are read (default: all whole ones). ``bos`` replaces the first token
    of each chunk. Raises ``ValueError`` for a text of fewer than two chunks, as llama-perplexity
    does.
    """
    text = TextChunks(ids, context, chunks, bos=bos)
    total = _Sums()
    with closing(weights.session(context)) as session:
        for chunk in range(text.count):
            total.add(run_interruptibly(session, partial(_score, session, text, chunk)))
            if progress is not None:
                progress(total.estimate(chunk + 1, context), text.count)
    return total.estimate(text.count, context)


def _score(session: SessionHandle, text: TextChunks, chunk: int) -> list[float]:
    """Return the log-probabilities of the tokens that count."""
    scores: list[float] = []
    text.read(chunk, [session], lambda targets: scores.extend(session.logprobs(0, targets)))
    return [float(score) for score in scores]


class _Sums:
    """Sums of the negative log-probabilities and of their squares."""

    def __init__(self) -> None:
        self.tokens = 0
        self.nll = 0.0
        self.squares = 0.0

    def add(self, logprobs: list[float]) -> None:
        self.tokens += len(logprobs)
        self.nll -= math.fsum(logprobs)
        self.squares += math.fsum(value * value for value in logprobs)

    def estimate(self, chunks: int, context: int) -> Perplexity:
        mean = self.nll / self.tokens
        variance = max(0.0, self.squares / self.tokens - mean * mean)
        error = math.sqrt(variance / (self.tokens - 1)) if self.tokens > 1 else math.inf
        value = math.exp(mean)
        return Perplexity(value, value * error, mean, self.tokens, chunks, context)
