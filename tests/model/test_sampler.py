"""The sampler: against distributions computed in numpy as Hugging Face's generate computes them."""

import itertools

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


def sampler(real_tokens, **options):
    return _native.SamplerHandle(real_tokens, **(NEUTRAL | options))


def draw(handle, logits):
    return handle.sample(np.array(logits, np.float32))


def greedy(logits, prompt=(), output=(), **options):
    handle = sampler(len(logits), temperature=0.0, **options)
    handle.accept(prompt, generated=False)
    handle.accept(output, generated=True)
    return draw(handle, logits).token


def counts_of(logits, draws, real_tokens=None, **options):
    handle = sampler(real_tokens or len(logits), **options)
    tokens = [draw(handle, logits).token for _ in range(draws)]
    return np.bincount(tokens, minlength=len(logits))


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def distribution(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0):
    """Each step sets what it removes to -infinity, and the next one starts from a new softmax."""
    scores = np.array(logits, np.float64) / temperature
    if top_k:
        scores[np.argsort(-scores, kind="stable")[top_k:]] = -np.inf
    if top_p < 1:
        order = np.argsort(-scores, kind="stable")
        sorted_p = softmax(scores)[order]
        before = np.cumsum(sorted_p) - sorted_p
        scores[order[1:][before[1:] >= top_p]] = -np.inf
    if min_p:
        p = softmax(scores)
        scores[p < min_p * p.max()] = -np.inf
    if typical_p < 1:
        p = softmax(scores)
        surprise = -np.log(p, where=p > 0, out=np.full_like(p, -np.inf))
        entropy = (p * np.where(p > 0, surprise, 0)).sum()
        order = np.argsort(np.abs(surprise - entropy), kind="stable")
        sorted_p = p[order]
        before = np.cumsum(sorted_p) - sorted_p
        scores[order[1:][before[1:] >= typical_p]] = -np.inf
    return softmax(scores)


def assert_drawn_from(counts, p):
    """Chi-square, within five standard deviations."""
    assert not counts[p == 0].any()
    possible = p > 0
    expected = counts.sum() * p[possible]
    chi_square = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = possible.sum() - 1
    assert chi_square <= freedom + 5 * np.sqrt(2 * freedom) + 1e-9


LOGITS = np.random.default_rng(0).standard_normal(40).astype(np.float32) * 2


# ------------------------------------------------------------------------------------ distributions


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 5.0},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 40},
        {"top_k": 1000},
        {"top_p": 0.0},
        {"top_p": 0.5},
        {"top_p": 0.95},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"typical_p": 0.2},
        {"typical_p": 0.8},
        {"top_k": 20, "min_p": 0.3},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.7},
        {"temperature": 1.5, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.7},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [1, 2])
def test_draws_follow_hugging_face(options, seed):
    p = distribution(LOGITS, **options)
    counts = counts_of(LOGITS, 5000, seed=seed, **options)
    assert_drawn_from(counts, p)
    likely = p > 0.005  # such a token stays away in 5000 draws with probability e^-25
    assert (counts[likely] > 0).all()


def test_temperature_comes_before_top_p():
    """Hot first: then 0.8 of the mass takes more tokens than it did before."""
    hot = distribution(LOGITS, temperature=3.0, top_p=0.8)
    assert (hot > 0).sum() > (distribution(LOGITS, top_p=0.8) > 0).sum()
    assert_drawn_from(counts_of(LOGITS, 5000, temperature=3.0, top_p=0.8), hot)


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.3}, {}], ids=str)
def test_large_vocabulary(options):
    """152k tokens; draws are compared by groups of tokens with about equal probability."""
    rng = np.random.default_rng(3)
    logits = rng.standard_normal(151_936).astype(np.float32) * 2
    p = distribution(logits, **options)
    counts = counts_of(logits, 400, seed=5, **options)
    assert not counts[p == 0].any()
    order = np.argsort(-p, kind="stable")
    group = np.minimum((np.cumsum(p[order]) * 10).astype(int), 9)
    observed = np.bincount(group, counts[order], minlength=10)
    assert_drawn_from(observed, np.bincount(group, p[order], minlength=10))


def test_random_numbers_are_splitmix64():
    """One number per token, tokens in ascending order along the unit interval: portable seeds."""
    mask, state = 2**64 - 1, 0xDEADBEEFCAFE
    handle = sampler(len(LOGITS), seed=state)
    cumulative = np.cumsum(softmax(LOGITS.astype(np.float64)))
    for _ in range(300):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        u = ((z ^ z >> 31) >> 11) / 2**53
        assert draw(handle, LOGITS).token == np.searchsorted(cumulative, u, side="right")


def test_equal_seeds_draw_equally_and_others_do_not():
    def sequence(seed):
        handle = sampler(len(LOGITS), seed=seed, top_p=0.9)
        return [draw(handle, LOGITS).token for _ in range(50)]

    assert sequence(7) == sequence(7)
    assert len({tuple(sequence(seed)) for seed in (0, 1, 2, 2**63, 2**64 - 1)}) == 5


# ---------------------------------------------------------------------------------------- penalties


def test_greedy_takes_the_lowest_of_equals():
    assert greedy([1.0, 3.0, 2.0, 3.0]) == 1
    assert greedy([0.0] * 200) == 0
    assert greedy([-np.inf, -5.0]) == 1


def test_repetition_penalty_divides_positive_and_multiplies_negative():
    assert greedy([3.0, 2.0], prompt=[0], repetition_penalty=2.0) == 1  # 1.5 < 2
    assert greedy([3.0, 2.0], output=[0], repetition_penalty=2.0) == 1
    assert greedy([-1.0, -1.5], prompt=[0], repetition_penalty=2.0) == 1  # -2 < -1.5
    assert greedy([3.0, 2.0], prompt=[0], repetition_penalty=1.4) == 0  # 2.14 > 2
    assert greedy([2.0, 3.0], prompt=[0], repetition_penalty=0.5) == 0  # 4 > 3


def test_repetition_penalty_counts_a_token_once():
    assert greedy([3.0, 2.0], prompt=[0, 0, 0], output=[0, 0], repetition_penalty=1.4) == 0


def test_presence_and_frequency_count_output_only():
    assert greedy([3.0, 2.0], prompt=[0] * 9, presence_penalty=2.0, frequency_penalty=2.0) == 0
    assert greedy([3.0, 2.0], output=[0], presence_penalty=1.5) == 1
    assert greedy([3.0, 2.0], output=[0] * 9, presence_penalty=0.9) == 0
    assert greedy([3.0, 2.0], output=[0, 0], frequency_penalty=0.6) == 1  # 3 - 1.2
    assert greedy([3.0, 2.0], output=[0], frequency_penalty=0.6) == 0  # 3 - 0.6
    assert greedy([2.0, 3.0], output=[0], presence_penalty=-1.5) == 0


def test_drawn_tokens_are_output():
    handle = sampler(3, temperature=0.0, presence_penalty=1.0)
    assert [draw(handle, [2.5, 2.0, 1.8]).token for _ in range(4)] == [0, 1, 2, 0]


def test_bias_is_added_after_the_penalties():
    assert greedy([3.0, 2.0], logit_bias={1: 1.5}) == 1
    assert greedy([3.0, 2.0], logit_bias={0: -np.inf}) == 1
    # 3 / 2 + 1 = 2.5 wins against 2.4; (3 + 1) / 2 = 2 would lose
    assert greedy([3.0, 2.4], prompt=[0], repetition_penalty=2.0, logit_bias={0: 1.0}) == 0


def test_many_distinct_tokens_are_remembered():
    n = 20_000
    logits = np.full(n, 1.0)
    logits[12_345] = 0.9
    prompt = [i for i in range(n) if i != 12_345]
    assert greedy(logits, prompt=prompt, repetition_penalty=1.5) == 12_345


def test_padding_tokens_are_ignored_in_the_text():
    assert greedy([3.0, 2.0], prompt=[5, 2, 151_935], repetition_penalty=1.1) == 0


# ----------------------------------------------------------------------- padding, log-probabilities


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {}, {"top_k": 3}, {"top_p": 0.5}], ids=str
)
def test_padding_rows_are_never_drawn(options):
    logits = np.concatenate([LOGITS, np.full(24, 99.0)])
    assert not counts_of(logits, 200, real_tokens=40, **options)[40:].any()
    handle = sampler(40, want_logprob=True, top=20, **options)
    logits[40] = np.nan  # not even read
    result = draw(handle, logits)
    exact = np.log(softmax(LOGITS.astype(np.float64)))
    assert max(token for token, _ in result.top) < 40
    assert result.logprob == pytest.approx(exact[result.token], abs=1e-6)


def test_logprobs_are_of_the_models_own_distribution():
    options = {"temperature": 0.5, "top_k": 2, "repetition_penalty": 3.0, "presence_penalty": 1.0}
    handle = sampler(40, want_logprob=True, top=5, logit_bias={3: 50.0}, **options)
    exact = np.log(softmax(LOGITS.astype(np.float64)))
    for _ in range(5):
        result = draw(handle, LOGITS)
        assert result.token == 3
        assert result.logprob == pytest.approx(exact[3], abs=1e-6)
        assert [token for token, _ in result.top] == list(np.argsort(-exact)[:5])
        assert [p for _, p in result.top] == pytest.approx(sorted(exact)[:-6:-1], abs=1e-6)


@pytest.mark.parametrize("n", [1, 5, 63, 64, 65, 1000, 151_665])
def test_top_logprobs_of_many_equals(n):
    """Logits with few distinct values: the order is by value, then by token."""
    logits = np.random.default_rng(n).integers(0, 5, n).astype(np.float32)
    expected = np.argsort(-logits, kind="stable")[:20]
    result = draw(sampler(n, want_logprob=True, top=20), logits)
    assert [token for token, _ in result.top] == list(expected)


def test_impossible_tokens_are_not_among_the_top():
    result = draw(sampler(4, want_logprob=True, top=3), [-np.inf, 1.0, -np.inf, -np.inf])
    assert result.top == [(1, 0.0)]
    assert result.logprob == 0.0


def test_nothing_is_reported_unless_wanted():
    assert draw(sampler(40, top=5), LOGITS).top == []


# ----------------------------------------------------------------------------------------- extremes

SAMPLED = [
    {},
    {"top_k": 3},
    {"top_p": 0.5},
    {"min_p": 0.5},
    {"typical_p": 0.5},
    {"top_k": 5, "typical_p": 0.9},
    {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.9},
]


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_one_possible_token(options):
    logits = np.full(300, -np.inf)
    logits[211] = -1e30
    assert counts_of(logits, 20, **options)[211] == 20
    assert counts_of([0.5], 20, **options)[0] == 20


@pytest.mark.parametrize("options", SAMPLED, ids=str)
@pytest.mark.parametrize("temperature", [1e-45, 1e-10, 0.01])
def test_cold_is_greedy(options, temperature):
    logits = [0.0, 5.0, -3e38, 3.0, 4.0]
    assert counts_of(logits, 20, temperature=temperature, **options)[1] == 20


def test_hot_is_uniform():
    logits = [0.0, 5.0, -100.0, 3.0, -np.inf]
    expected = np.array([0.25, 0.25, 0.25, 0.25, 0.0])
    assert_drawn_from(counts_of(logits, 4000, temperature=1e30), expected)


def test_equal_logits_are_uniform_and_top_k_takes_the_lowest():
    assert_drawn_from(counts_of(np.zeros(100), 4000), np.full(100, 0.01))
    assert counts_of(np.zeros(100), 500, top_k=4)[:4].sum() == 500


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
logit_lists = st.lists(
    st.one_of(numbers, st.just(-np.inf), st.sampled_from([0.0, 1.0, -1.0])),
    min_size=1,
    max_size=200,
).filter(lambda logits: max(logits) > -np.inf)


@settings(max_examples=300, deadline=None)
@given(
    logits=logit_lists,
    temperature=st.sampled_from([0.0, 1e-30, 0.1, 1.0, 3.0, 1e30]),
    top_k=st.sampled_from([0, 1, 2, 10, 2**31 - 1]),
    top_p=st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.2, 1.0]),
    typical_p=st.sampled_from([0.01, 0.5, 1.0]),
    penalty=st.sampled_from([1.0, 1.1, 1e-30, 1e30]),
    bias=st.dictionaries(st.integers(0, 5), numbers, max_size=3),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_finite_input_draws_a_possible_token(
    logits, temperature, top_k, top_p, min_p, typical_p, penalty, bias, seed
):
    bias = {token: value for token, value in bias.items() if token < len(logits)}
    handle = sampler(
        len(logits), temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        typical_p=typical_p, repetition_penalty=penalty, frequency_penalty=penalty,
        logit_bias=bias, seed=seed, want_logprob=True, top=20,
    )  # fmt: skip
    handle.accept([0, len(logits) - 1], generated=True)
    for _ in range(2):
        result = draw(handle, logits)
        assert logits[result.token] > -np.inf
        assert result.logprob <= 1e-5
        assert result.top[0][0] == np.argmax(np.array(logits, np.float32))


# Equal, or so far apart that their probabilities differ in float32, too.
HUNDREDTHS = st.integers(-2000, 2000).map(lambda n: n / 100)


@settings(max_examples=200, deadline=None)
@given(
    logits=st.lists(HUNDREDTHS, min_size=2, max_size=300),
    top_k=st.integers(0, 20),
    top_p=st.floats(0, 1, width=32),
    min_p=st.floats(0, 1, width=32),
    seed=st.integers(0, 1000),
)
def test_each_limit_holds(logits, top_k, top_p, min_p, seed):
    x = np.array(logits, np.float32).astype(np.float64)
    handle = sampler(len(x), top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    for _ in range(5):
        token = draw(handle, logits).token
        better = (x > x[token]) | ((x == x[token]) & (np.arange(len(x)) < token))
        assert top_k == 0 or better.sum() < top_k
        p = distribution(x, top_k=top_k)
        assert p[better].sum() < max(top_p, 1e-6) + 1e-6 or not better.any()
        assert p[token] >= min_p * p.max() * (1 - 1e-5)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(
            ["temperature", "top_p", "min_p", "typical_p", "repetition_penalty"],
            [-0.1, np.nan, np.inf],
        ),
        *itertools.product(["presence_penalty", "frequency_penalty"], [np.nan, -np.inf]),
        *itertools.product(["top_p", "min_p", "typical_p"], [1.1]),
        ("typical_p", 0.0),
        ("repetition_penalty", 0.0),
        ("top_k", -1),
    ],
)
def test_options_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be "):
        sampler(10, **{name: value})


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ({10: 1.0}, "names token 10; the vocabulary has 0 to 9"),
        ({-1: 1.0}, "names token -1"),
        ({0: np.nan}, "token 0 must be finite or -infinity"),
        ({0: np.inf}, "token 0 must be finite or -infinity"),
    ],
)
def test_bad_bias_is_refused(bias, message):
    with pytest.raises(ValueError, match=message):
        sampler(10, logit_bias=bias)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, *SAMPLED], ids=str)
@pytest.mark.parametrize("want_logprob", [False, True])
@pytest.mark.parametrize(
    ("bad", "message"),
    [(np.nan, "is not a number"), (np.inf, "is infinite")],
)
def test_logits_that_are_no_numbers(options, want_logprob, bad, message):
    for at in (0, 63, 64, 99):
        logits = np.zeros(100)
        logits[at] = bad
        handle = sampler(100, want_logprob=want_logprob, logit_bias={at: -np.inf}, **options)
        with pytest.raises(NumericError, match=message):
            draw(handle, logits)


def test_all_impossible():
    with pytest.raises(NumericError, match="-infinity"):
        draw(sampler(100, logit_bias={5: -np.inf}), np.full(100, -np.inf))
    with pytest.raises(ValueError, match="logit_bias forbids every token"):
        draw(sampler(3, logit_bias={0: -np.inf, 2: -np.inf}), [1.0, -np.inf, 2.0])


def test_a_failed_draw_changes_nothing():
    handle, twin = sampler(40, seed=3), sampler(40, seed=3)
    with pytest.raises(NumericError):
        draw(handle, np.full(40, np.nan))
    assert draw(handle, LOGITS).token == draw(twin, LOGITS).token


def test_wrong_calls():
    with pytest.raises(ValueError, match="39 logits for 40 tokens"):
        draw(sampler(40), LOGITS[:39])
    with pytest.raises(ValueError, match="at most 20 top log-probabilities"):
        draw(sampler(40, want_logprob=True, top=21), LOGITS)
    with pytest.raises(ValueError, match="number 1 is -7"):
        sampler(40).accept([1, -7], generated=False)
    with pytest.raises(ValueError, match="0 tokens"):
        sampler(0)
