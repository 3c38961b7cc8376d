"""Perplexity of a text, computed as llama-perplexity does, so that the numbers can be compared.

The tokens are cut into chunks of ``context``; each is read from an empty cache, and only the
predictions of its second half count, which have at least half a context before them. Where the
model wants a beginning-of-text token, it takes the place of the first token of each chunk. (Source
of the method: tools/perplexity/perplexity.cpp of llama.cpp.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pyqwen._native import ModelHandle, SessionHandle
from pyqwen.interruptible import run_interruptibly


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
    model: ModelHandle,
    ids: Sequence[int],
    *,
    context: int = 512,
    chunks: int | None = None,
    bos: int | None = None,
    threads: int = 0,
    kv_type: str = "f16",
    progress: Progress | None = None,
) -> Perplexity:
    """Return the perplexity of a model on a text of token ids.

    ``chunks`` limits how many are read (default: all whole ones). ``bos`` replaces the first token
    of each chunk. Raises ``ValueError`` for a text of fewer than two chunks, as llama-perplexity
    does.
    """
    if context < 4:
        raise ValueError(f"a context of {context} tokens leaves nothing to predict; use 4 or more")
    if len(ids) < 2 * context:
        raise ValueError(
            f"the text has {len(ids):,} tokens, but perplexity at a context of {context} needs "
            f"{2 * context:,} or more: give a longer text or a smaller context (-c)"
        )
    count = len(ids) // context if chunks is None else min(chunks, len(ids) // context)
    session = SessionHandle(model, context=context, threads=threads, kv_type=kv_type)
    try:
        total = _Sums()
        for chunk in range(count):
            tokens = list(ids[chunk * context : (chunk + 1) * context])
            inputs = tokens[:-1] if bos is None else [bos, *tokens[1:-1]]
            score = partial(_score, session, inputs, tokens)
            total.add(run_interruptibly(session, score))
            if progress is not None:
                progress(total.estimate(chunk + 1, context), count)
        return total.estimate(count, context)
    finally:
        session.close()


def _score(session: SessionHandle, inputs: list[int], tokens: list[int]) -> list[float]:
    """Return the log-probabilities of the tokens that follow the first half and one."""
    session.rewind(0, 0)
    first = len(tokens) // 2
    scores: list[float] = []
    for begin in range(0, len(inputs), session.batch):
        end = min(begin + session.batch, len(inputs))
        wanted = range(max(begin, first), end)
        outputs = [1 if position >= first else 0 for position in range(begin, end)]
        session.eval(inputs[begin:end], [0] * (end - begin), outputs)
        if wanted:
            scores += session.logprobs(0, [tokens[i + 1] for i in wanted]).tolist()
    return scores


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
