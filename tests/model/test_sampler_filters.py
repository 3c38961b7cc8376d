"""DRY, XTC and top-n-sigma: llama.cpp's values, plain definitions, and rewinding."""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqwen._native import FILTERS, SamplerHandle

sys.path.insert(0, str(Path(__file__).parent))
from drawing import LOGITS, assert_drawn_from, breakers_of, counts_of, sampler, softmax

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "llama-samplers.json").read_text())
# ------------------------------------------------------------------------------------------- llama.cpp


def penalties(handle: SamplerHandle, n: int) -> dict[int, float]:
    """What is taken off each logit: logits are left as they are drawn from."""
    logits = np.zeros(n, np.float32)
    handle.sample(logits)
    return {i: -float(x) for i, x in enumerate(logits) if x != 0.0}


@pytest.mark.parametrize(
    "case", VECTORS["dry"][1:], ids=lambda case: f"{case['name']} {case['dry']}"
)
def test_dry_is_that_of_llama_cpp(case: dict[str, Any]) -> None:
    texts = {int(i): text for i, text in VECTORS["dry"][0]["texts"].items()}
    n = max(texts) + 1 if case["breakers"] else 42
    multiplier, base, allowed = case["dry"]
    handle = sampler(
        n,
        temperature=0.0,
        dry_multiplier=multiplier,
        dry_base=base,
        dry_allowed_length=allowed,
        breakers=breakers_of([texts.get(i, "") for i in range(n)], case["breakers"]),
    )
    handle.accept(case["text"], generated=False)
    # Where a penalty is absurd, llama.cpp limits the exponent and we the penalty.
    found = {token: min(value, 1e30) for token, value in penalties(handle, n).items()}
    expected = {token: min(value, 1e30) for token, value in case["penalties"]}
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_vectors_are_worth_something() -> None:
    cases = VECTORS["dry"][1:]
    assert sum(bool(case["penalties"]) for case in cases) > 20
    assert sum(bool(case["penalties"]) for case in cases if case["breakers"]) > 8
    assert any(not case["penalties"] for case in cases if case["breakers"])


@pytest.mark.parametrize("case", VECTORS["filters"], ids=lambda case: f"{case['chain']}")
def test_filters_are_those_of_llama_cpp(case: dict[str, Any]) -> None:
    logits = np.array(case["logits"], np.float32)
    options: dict[str, Any] = {}
    for name, value in case["chain"]:
        if name == "xtc":
            options |= {"xtc_probability": 1.0, "xtc_threshold": value}
        else:
            options[name] = value
    scores = np.full(len(logits), -np.inf)
    for token, logit in case["left"]:
        scores[token] = logit
    order = [name for name, _ in case["chain"]]
    counts = counts_of(logits, 4000, seed=3, samplers=order, **options)
    assert_drawn_from(counts, softmax(scores))
    if order == sorted(order, key=FILTERS.index):  # as it is without an order
        np.testing.assert_array_equal(counts, counts_of(logits, 4000, seed=3, **options))


# ------------------------------------------------------------------------------------------------- DRY


def plain_dry(text: list[int], multiplier: float, base: float, allowed: int) -> dict[int, float]:
    """By the definition: for each earlier place the run that ends before it and at the end."""
    runs: dict[int, int] = {}
    for place in range(1, len(text)):
        run = 0
        while run < place and text[place - 1 - run] == text[-1 - run]:
            run += 1
        if run >= allowed:
            runs[text[place]] = max(run, runs.get(text[place], 0))
    return {token: multiplier * base ** (run - allowed) for token, run in runs.items()}


@settings(max_examples=150, deadline=None)
@given(
    text=st.lists(st.integers(0, 3), max_size=60),
    multiplier=st.sampled_from([0.1, 0.8, 5.0]),
    base=st.sampled_from([1.0, 1.1, 1.75]),
    allowed=st.integers(1, 5),
    cut=st.integers(0, 60),
)
def test_dry_by_its_definition(
    text: list[int], multiplier: float, base: float, allowed: int, cut: int
) -> None:
    handle = sampler(
        4, temperature=0.0, dry_multiplier=multiplier, dry_base=base, dry_allowed_length=allowed
    )
    handle.accept(text[:cut], generated=False)
    handle.accept(text[cut:], generated=True)
    expected = plain_dry(text, multiplier, base, allowed)
    assert penalties(handle, 4) == pytest.approx(expected, rel=1e-5)


def test_tokens_that_are_drawn_count() -> None:
    handle = sampler(3, temperature=0.0, dry_multiplier=1.0, dry_allowed_length=1)
    drawn = [handle.sample(np.array([2.0, 1.9, 1.5], np.float32)).token for _ in range(7)]
    assert drawn == [0, 0, 1, 0, 2, 0, 0]


def test_tokens_that_no_penalty_is_for() -> None:
    bits = np.packbits(np.arange(32) == 1, bitorder="little").view(np.uint32)
    for spared, expected in ((None, {1, 2}), (bits, {2})):
        handle = sampler(
            3, temperature=0.0, dry_multiplier=1.0, dry_allowed_length=1, unpenalized=spared
        )
        handle.accept([0, 1, 0, 2, 0], generated=False)
        assert set(penalties(handle, 3)) == expected


def test_breakers_across_tokens() -> None:
    """A breaker ends in the token that completes it, however it is cut."""
    texts = ["a", "b", "x", "y", "xyz", "z", "qx", "yq"]
    breakers = breakers_of(texts, ["xy", "zz"])

    def penalized(text: list[int]) -> set[int]:
        handle = sampler(
            8, temperature=0.0, dry_multiplier=1.0, dry_allowed_length=1, breakers=breakers
        )
        handle.accept(text, generated=False)
        return set(penalties(handle, 8))

    assert penalized([0, 1, 0]) == {1}
    assert penalized([0, 1, 0, 2]) == set()
    assert penalized([0, 2, 3, 0]) == {2}  # "xy" is complete with "y" only
    assert penalized([0, 2, 3, 0, 2, 3]) == set()
    assert penalized([0, 6, 7, 0, 6, 7]) == set()
    assert penalized([5, 5, 0, 1, 5, 5, 0]) == {1}
    assert penalized([0, 4, 0]) == set()  # it has a breaker in it: nothing is repeated with it
    assert penalized([2, 0, 2]) == {0}


def test_breakers_that_overlap() -> None:
    breakers = breakers_of(["he", "r", "s", "sh", "e", "a"], ["hers", "she", "er"])
    ends = {(3, 4): True, (0, 1): True, (0, 2): False, (4, 1): True, (0, 5): False, (2, 0): True}
    for text, breaks in ends.items():
        handle = sampler(
            6, temperature=0.0, dry_multiplier=1.0, dry_allowed_length=1, breakers=breakers
        )
        handle.accept([5, 5, *text, 5, 5, *text], generated=False)
        assert (penalties(handle, 6) == {}) is breaks, text


@pytest.mark.parametrize("n", [20_000, 40_000])
@pytest.mark.parametrize("kind", ["one", "period", "fibonacci", "many"])
def test_hostile_texts_take_linear_time(n: int, kind: str) -> None:
    if kind == "fibonacci":
        a, b = [1], [0]
        while len(a) < n:
            a, b = [*a, *b], a
        text = a[:n]
    else:
        period = {"one": [5], "period": [*range(99)], "many": [*range(1000), 5]}[kind]
        text = (period * (n // len(period) + 1))[:n]
    handle = sampler(1001, temperature=0.0, dry_multiplier=0.1)
    handle.accept(text, generated=False)
    start = time.process_time()
    for _ in range(10):
        handle.sample(np.zeros(1001, np.float32))
    assert time.process_time() - start < 10 * n * 100e-9 + 0.02  # some 5 ns a token are usual


def test_penalties_stay_finite() -> None:
    handle = sampler(2, temperature=0.0, dry_multiplier=3e38, dry_base=3e38, want_logprob=True)
    handle.accept([0] * 500, generated=False)
    logits = np.array([5.0, -3e38], np.float32)
    result = handle.sample(logits)
    assert result.token == 1
    assert np.isfinite(logits).all()


# ------------------------------------------------------------------------------------------------- XTC


def test_xtc_by_chance() -> None:
    """With probability 0.3 the top choices are left out; the random numbers are defined."""
    p = softmax(LOGITS.astype(np.float64))
    left = p.copy()
    likely = np.flatnonzero(p >= 0.08)
    assert len(likely) > 2
    left[likely[np.argsort(-p[likely])[:-1]]] = 0.0
    mixed = 0.7 * p + 0.3 * left / left.sum()
    options = {"xtc_probability": 0.3, "xtc_threshold": 0.08}
    assert_drawn_from(counts_of(LOGITS, 8000, seed=1, **options), mixed)
    mask, state = 2**64 - 1, 77

    def uniform() -> float:
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return ((z ^ z >> 31) >> 11) / 2**53

    handle = sampler(40, seed=77, **options)
    for _ in range(200):
        weights = left if uniform() < 0.3 else p
        cumulative = np.cumsum(weights) / weights.sum()
        token = handle.sample(LOGITS.copy()).token
        assert token == np.searchsorted(cumulative, uniform(), side="right")


def test_xtc_that_is_off_takes_no_random_number() -> None:
    plain = counts_of(LOGITS, 100, seed=9)
    for options in (
        {"xtc_probability": 0.0, "xtc_threshold": 0.01},
        {"xtc_probability": 1.0, "xtc_threshold": 0.51},
        {"xtc_probability": 1.0, "samplers": ["temperature"]},
    ):
        np.testing.assert_array_equal(counts_of(LOGITS, 100, seed=9, **options), plain)


def test_equal_top_choices() -> None:
    counts = counts_of([1.0, 1.0, 1.0, 0.0], 1000, xtc_probability=1.0, xtc_threshold=0.2)
    assert_drawn_from(counts, softmax(np.array([-np.inf, -np.inf, 1.0, 0.0])))
    counts = counts_of([1.0, 1.0, 1.0, 0.0], 1000, xtc_probability=1.0, xtc_threshold=0.5)
    assert_drawn_from(counts, softmax(np.array([1.0, 1.0, 1.0, 0.0])))


# ----------------------------------------------------------------------------------------- top-n-sigma


@pytest.mark.parametrize("n", [40, 63, 64, 65, 5000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_top_n_sigma_does_not_depend_on_the_temperature(n: int, temperature: float) -> None:
    logits = (np.random.default_rng(n).standard_normal(n) * 3).astype(np.float32)
    logits[::7] = -np.inf
    x = logits[logits > -np.inf].astype(np.float64)
    for sigma in (0.01, 0.7, 1.5):
        scores = np.where(logits >= x.max() - sigma * x.std(), logits, -np.inf) / temperature
        counts = counts_of(logits, 1000, top_n_sigma=sigma, temperature=temperature, seed=1)
        assert_drawn_from(counts, softmax(scores.astype(np.float64)))


def test_top_n_sigma_of_what_a_mask_leaves() -> None:
    logits = np.array([9.0, 3.0, 2.0, -4.0, *[1.0] * 200], np.float32)
    bits = np.isin(np.arange(224), [1, 2, 3])
    mask = np.packbits(bits, bitorder="little").view(np.uint32)
    allowed = np.array([3.0, 2.0, -4.0])
    assert allowed.max() - 0.7 * allowed.std() > -4.0
    handle = sampler(204, top_n_sigma=0.7)
    assert {handle.sample(logits.copy(), mask).token for _ in range(300)} == {1, 2}


# ---------------------------------------------------------------------------------- rewinding, extremes

ALL: dict[str, Any] = {
    "temperature": 1.2,
    "top_p": 0.95,
    "dry_multiplier": 0.8,
    "dry_allowed_length": 1,
    "xtc_probability": 0.5,
    "xtc_threshold": 0.05,
    "top_n_sigma": 2.5,
    "repetition_penalty": 1.1,
    "frequency_penalty": 0.1,
}
ORDERS = [None, ["xtc", "dry", "temperature", "penalties", "top_n_sigma"]]


@pytest.mark.parametrize("order", ORDERS, ids=["default", "another"])
def test_rewinding(order: list[str] | None) -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((60, 40)).astype(np.float32) * 2
    breakers = breakers_of([str(i) for i in range(40)], ["33", "7"])
    plain = sampler(40, samplers=order, breakers=breakers, **ALL)
    expected = [plain.sample(row.copy()).token for row in rows]
    handle = sampler(40, samplers=order, breakers=breakers, **ALL)
    done = 0
    while done < len(rows):
        handle.mark()
        ahead = int(rng.integers(1, 6))
        for row in rows[done : done + ahead]:
            handle.sample(row + np.float32(rng.random()))  # something else
        handle.rewind(0)
        kept = min(int(rng.integers(1, 6)), len(rows) - done)
        drawn = [handle.sample(row.copy()).token for row in rows[done : done + kept]]
        handle.accept([1, 2, 3], generated=True)
        handle.rewind(kept)
        assert drawn == expected[done : done + kept]
        done += kept


@settings(max_examples=150, deadline=None)
@given(
    logits=st.lists(
        st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.just(-np.inf)),
        min_size=1,
        max_size=150,
    ).filter(lambda logits: max(logits) > -np.inf),
    order=st.one_of(
        st.none(), st.lists(st.sampled_from(FILTERS), unique=True, max_size=len(FILTERS))
    ),
    temperature=st.sampled_from([0.0, 1e-30, 0.5, 1.0, 1e30]),
    sigma=st.sampled_from([0.0, 1e-30, 1.0, 1e30]),
    threshold=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    dry=st.sampled_from([0.0, 1.0, 3e38]),
    typical=st.sampled_from([0.01, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.3, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 2**31 - 1]),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_finite_input_draws_a_possible_token(
    logits: list[float],
    order: list[str] | None,
    temperature: float,
    sigma: float,
    threshold: float,
    dry: float,
    typical: float,
    min_p: float,
    top_k: int,
    seed: int,
) -> None:
    handle = sampler(
        len(logits), samplers=order, temperature=temperature, top_n_sigma=sigma, top_k=top_k,
        xtc_probability=0.7, xtc_threshold=threshold, dry_multiplier=dry, dry_allowed_length=1,
        typical_p=typical, min_p=min_p, top_p=0.9, repetition_penalty=1.3, seed=seed,
        want_logprob=True,
    )  # fmt: skip
    handle.accept([0, len(logits) - 1] * 3, generated=True)
    for _ in range(3):
        result = handle.sample(np.array(logits, np.float32))
        assert logits[result.token] > -np.inf
        assert result.logprob <= 1e-5


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        *(("dry_multiplier", value, "0 or more") for value in (-0.1, np.nan, np.inf)),
        *(("dry_base", value, "1 or more") for value in (0.9, np.nan, np.inf)),
        ("dry_allowed_length", 0, "1 or more"),
        *itertools.product(["xtc_probability", "xtc_threshold"], [-0.1, 1.1], ["from 0 to 1"]),
        *(("top_n_sigma", value, "0 or more") for value in (-1.0, np.nan, np.inf)),
    ],
)
def test_options_out_of_range_are_named(name: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*{rule}"):
        sampler(10, **{"dry_multiplier": 1.0, name: value})


def test_orders_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="samplers has filter 4 more than once"):
        sampler(10, samplers=["top_k", "top_k"])


def test_breakers_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="dry_breakers has an empty text"):
        breakers_of(["a"], ["b", ""])
    with pytest.raises(ValueError, match="dry_breakers has 1001 bytes; the most is 1000"):
        breakers_of(["a"], ["b" * 1001])
