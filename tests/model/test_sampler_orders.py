"""Filters in any order: each works on what those before it left."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from drawing import LOGITS, assert_drawn_from, counts_of, sampler, softmax


def reference(logits: np.ndarray, order: list[str], options: dict[str, Any]) -> np.ndarray:
    """Each filter on the distribution that those before it left."""
    scores = logits.astype(np.float64)
    for name in order:
        value = options.get(name)
        possible = scores > -np.inf
        p = np.where(possible, softmax(scores), 0.0)
        by_p = np.argsort(-scores, kind="stable")
        if name == "temperature":
            scores = scores / value
        elif name == "top_k":
            scores[by_p[value:]] = -np.inf
        elif name == "top_p":
            before = np.cumsum(p[by_p]) - p[by_p]
            scores[by_p[1:][before[1:] >= value]] = -np.inf
        elif name == "min_p":
            scores[p < value * p.max()] = -np.inf
        elif name == "top_n_sigma":
            x = scores[possible]
            scores[scores < x.max() - value * x.std()] = -np.inf
        elif name == "typical_p":
            surprise = -np.log(p, where=p > 0, out=np.full_like(p, -np.inf))
            entropy = (p * np.where(p > 0, surprise, 0)).sum()
            nearest = np.argsort(np.abs(surprise - entropy), kind="stable")
            before = np.cumsum(p[nearest]) - p[nearest]
            scores[nearest[1:][before[1:] >= value]] = -np.inf
        elif name == "xtc":
            likely = by_p[p[by_p] >= options["xtc_threshold"]]
            scores[likely[:-1]] = -np.inf
    return softmax(scores)


VALUES: dict[str, Any] = {
    "temperature": 1.7,
    "top_k": 17,
    "top_p": 0.85,
    "min_p": 0.06,
    "typical_p": 0.8,
    "top_n_sigma": 1.6,
    "xtc": 1.0,
}


@pytest.mark.parametrize("order", list(itertools.permutations(VALUES, 2)), ids="-".join)
def test_pairs_in_both_orders(order: tuple[str, ...]) -> None:
    options = {name: VALUES[name] for name in order if name != "xtc"}
    options |= {"xtc_probability": 1.0, "xtc_threshold": 0.06} if "xtc" in order else {}
    counts = counts_of(LOGITS, 2000, seed=1, samplers=list(order), **options)
    assert_drawn_from(counts, reference(LOGITS, list(order), options))


@pytest.mark.parametrize("seed", range(8))
def test_all_in_any_order(seed: int) -> None:
    order = [str(name) for name in np.random.default_rng(seed).permutation(list(VALUES))]
    options = {name: VALUES[name] for name in order if name != "xtc"}
    options |= {"xtc_probability": 1.0, "xtc_threshold": 0.06}
    counts = counts_of(LOGITS, 2000, seed=1, samplers=order, **options)
    assert_drawn_from(counts, reference(LOGITS, order, options))


def test_what_an_order_leaves_out_is_off() -> None:
    options = {name: VALUES[name] for name in VALUES if name != "xtc"}
    options |= {"xtc_probability": 1.0, "xtc_threshold": 0.06, "repetition_penalty": 9.0}
    counts = counts_of(LOGITS, 4000, seed=1, samplers=[], **options)
    assert_drawn_from(counts, softmax(LOGITS.astype(np.float64)))
    np.testing.assert_array_equal(counts, counts_of(LOGITS, 4000, seed=1))
    handle = sampler(40, samplers=["top_k"], temperature=0.0)  # 0 stays greedy
    assert handle.sample(LOGITS.copy()).token == LOGITS.argmax()


def test_penalties_where_the_order_has_them() -> None:
    """Behind the others they cannot bring a token back, and see the temperature."""
    logits = [4.0, 3.0, 2.0, 1.0]
    options = {"presence_penalty": 2.5, "top_k": 2, "temperature": 2.0}

    def drawn(order: list[str], **more: Any) -> np.ndarray:
        counts = np.zeros(4, int)
        for seed in range(1500):
            handle = sampler(4, samplers=order, seed=seed, **options, **more)
            handle.accept([0, 1], generated=True)
            counts[handle.sample(np.array(logits, np.float32)).token] += 1
        return counts

    counts = drawn(["penalties", "temperature", "top_k"])
    assert_drawn_from(counts, softmax(np.array([0.75, -np.inf, 1.0, -np.inf])))
    counts = drawn(["top_k", "penalties", "temperature"])
    assert_drawn_from(counts, softmax(np.array([0.75, 0.25, -np.inf, -np.inf])))
    counts = drawn(["top_k", "temperature", "penalties"])
    assert_drawn_from(counts, softmax(np.array([-0.5, -1.0, -np.inf, -np.inf])))
    # The bias comes first, then: it decides what top_k sees.
    counts = drawn(["top_k", "temperature", "penalties"], logit_bias={3: 2.5, 0: -np.inf})
    assert_drawn_from(counts, softmax(np.array([-np.inf, -1.0, -np.inf, 1.75])))


@pytest.mark.parametrize("order", [["dry", "penalties"], ["penalties", "dry"], ["top_k", "dry"]])
def test_the_reported_logprob_is_the_models_own(order: list[str]) -> None:
    exact = np.log(softmax(LOGITS.astype(np.float64)))
    options = {"dry_multiplier": 1.0, "dry_allowed_length": 1, "repetition_penalty": 1.5}
    for bias in ({}, {3: 1.0, 5: -2.0}):
        handle = sampler(
            40, samplers=order, top_k=39, want_logprob=True, logit_bias=bias, seed=1, **options
        )
        handle.accept([3, 5, 7, 3, 5, 7, 3], generated=False)
        for _ in range(60):
            result = handle.sample(LOGITS.copy())
            assert result.logprob == pytest.approx(exact[result.token], abs=1e-5)
