"""Masks: a masked token is as if the vocabulary lacked it, in everything but what is reported."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqwen import _native
from pyqwen.errors import NumericError

NEUTRAL = {
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
PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2}
OPTIONS = [
    {"temperature": 0.0},
    {"temperature": 0.0, **PENALTIES},
    {},
    {"top_k": 3},
    {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9, **PENALTIES},
    {"top_p": 0.5},
    {"top_p": 0.95, "logit_bias": {7: 2.0, 8: -np.inf}},
    {"min_p": 0.3},
    {"typical_p": 0.5},
]


def sampler(real_tokens, **options):
    return _native.SamplerHandle(real_tokens, **(NEUTRAL | options))


def mask_of(allowed):
    """The words of a row of booleans; bit t % 32 of word t // 32 is token t."""
    words = np.zeros((len(allowed) + 31) // 32 * 32, bool)
    words[: len(allowed)] = allowed
    return np.packbits(words, bitorder="little").view("<u4").astype(np.uint32)


def random_masks(n, count, rng):
    """Of every kind: few tokens, half of them, all but a few, whole words and chunks of both kinds."""
    for i in range(count):
        share = (0.01, 0.5, 0.99)[i % 3]
        allowed = rng.random(n) < share
        if i % 4 == 3:
            start = rng.integers(0, n)
            allowed[start : start + n // 2] = i % 8 == 3
        allowed[rng.integers(0, n)] = True
        yield allowed


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("n", [33, 64, 65, 96, 1000])
@pytest.mark.parametrize("want_logprob", [False, True])
def test_masked_tokens_are_as_if_impossible(options, n, want_logprob):
    """The same tokens, and so the same random numbers, as from logits of -infinity."""
    rng = np.random.default_rng(n)
    masked = sampler(n, want_logprob=want_logprob, seed=n, **options)
    impossible = sampler(n, seed=n, **options)
    for allowed in random_masks(n, 60, rng):
        allowed[9] |= allowed.sum() == 1 and allowed[8]  # the bias forbids 8
        logits = rng.standard_normal(n).astype(np.float32) * 3
        expected = impossible.sample(np.where(allowed, logits, -np.inf).astype(np.float32))
        result = masked.sample(logits.copy(), mask_of(allowed))
        assert allowed[result.token]
        assert result.token == expected.token


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 4}], ids=str)
def test_a_smaller_vocabulary_gives_the_same(options):
    rng = np.random.default_rng(2)
    allowed = rng.random(500) < 0.3
    ids = np.flatnonzero(allowed)
    whole, small = sampler(500, seed=1, **options), sampler(len(ids), seed=1, **options)
    for _ in range(100):
        logits = rng.standard_normal(500).astype(np.float32)
        token = small.sample(logits[ids]).token
        assert whole.sample(logits, mask_of(allowed)).token == ids[token]


def test_what_is_reported_is_of_the_whole_vocabulary():
    logits = np.linspace(-3, 3, 100).astype(np.float32)
    plain = sampler(100, temperature=0.0, want_logprob=True, top=20)
    handle = sampler(100, temperature=0.0, want_logprob=True, top=20)
    allowed = np.arange(100) < 50
    result = handle.sample(logits.copy(), mask_of(allowed))
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert result.token == 49
    assert result.logprob == pytest.approx(exact[49], abs=1e-6)
    assert result.top == plain.sample(logits).top


def test_a_mask_that_allows_all_changes_nothing():
    rng = np.random.default_rng(4)
    with_mask, without = sampler(1000, want_logprob=True), sampler(1000, want_logprob=True)
    everything = np.full(32, 0xFFFFFFFF, np.uint32)
    for _ in range(50):
        logits = rng.standard_normal(1000).astype(np.float32)
        assert with_mask.sample(logits.copy(), everything) == without.sample(logits)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_mask_without_tokens_is_refused_and_changes_nothing(options):
    rng = np.random.default_rng(5)
    handle, twin = sampler(70, **options), sampler(70, **options)
    nothing = mask_of(np.arange(96) >= 70)  # bits beyond the vocabulary do not count
    for _ in range(10):
        logits = rng.standard_normal(70).astype(np.float32)
        with pytest.raises(ValueError, match="the mask allows no token"):
            handle.sample(logits.copy(), nothing)
        assert handle.sample(logits.copy()) == twin.sample(logits)


def test_a_mask_of_impossible_tokens_is_refused():
    logits = np.array([1.0, -np.inf, 2.0], np.float32)
    handle = sampler(3, logit_bias={0: -np.inf})
    with pytest.raises(ValueError, match="the mask allows only tokens that are impossible or"):
        handle.sample(logits.copy(), mask_of([True, True, False]))
    assert handle.sample(logits, mask_of([True, True, True])).token == 2


def test_numbers_that_are_none_are_found_where_they_count():
    logits = np.zeros(100, np.float32)
    logits[40] = np.nan
    handle = sampler(100)
    assert handle.sample(logits.copy(), mask_of(np.arange(100) >= 64)).token >= 64
    with pytest.raises(NumericError, match="not a number"):
        handle.sample(logits, mask_of(np.arange(100) >= 40))


@settings(max_examples=200, deadline=None)
@given(
    allowed=st.lists(st.booleans(), min_size=1, max_size=300).filter(any),
    options=st.sampled_from(OPTIONS[:6]),
    seed=st.integers(0, 2**64 - 1),
)
def test_only_allowed_tokens_are_drawn(allowed, options, seed):
    logits = np.random.default_rng(len(allowed)).standard_normal(len(allowed)).astype(np.float32)
    handle = sampler(len(allowed), seed=seed, **options)
    for _ in range(3):
        assert allowed[handle.sample(logits.copy(), mask_of(allowed)).token]


@pytest.mark.parametrize(
    "mask",
    [np.zeros(3, np.int32), np.zeros(2, np.uint32), np.zeros((1, 3), np.uint32)],
    ids=["of other numbers", "too short", "of two dimensions"],
)
def test_arrays_that_are_no_masks(mask):
    with pytest.raises(ValueError, match="a mask is a row of 3 or more uint32 words"):
        sampler(96).sample(np.zeros(96, np.float32), mask)
