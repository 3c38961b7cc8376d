"""Samplers by their handles: what is drawn many times, and from which distribution it should be."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyqwen._native import BreakersHandle, SamplerHandle

NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 0,
    "logit_bias": {},
}
LOGITS = (np.random.default_rng(0).standard_normal(40) * 2).astype(np.float32)


def sampler(n: int, **options: Any) -> SamplerHandle:
    return SamplerHandle(n, **(NEUTRAL | options))


def counts_of(logits: Any, draws: int, **options: Any) -> np.ndarray:
    handle = sampler(len(logits), **options)
    tokens = [handle.sample(np.array(logits, np.float32)).token for _ in range(draws)]
    return np.bincount(tokens, minlength=len(logits))


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def assert_drawn_from(counts: np.ndarray, p: np.ndarray) -> None:
    assert not counts[p == 0].any()
    expected = counts.sum() * p[p > 0]
    chi_square = ((counts[p > 0] - expected) ** 2 / expected).sum()
    freedom = (p > 0).sum() - 1
    assert chi_square <= freedom + 5 * np.sqrt(2 * freedom) + 1e-9
    assert (counts[p > 0.01] > 0).all()


def breakers_of(texts: list[str], breakers: list[str]) -> BreakersHandle:
    encoded = [text.encode() for text in texts]
    lengths = np.array([len(text) for text in encoded], np.uint32)
    return BreakersHandle(b"".join(encoded), lengths, [text.encode() for text in breakers])
