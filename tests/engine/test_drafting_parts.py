"""Looking up what may follow, and deciding whether to draft: the parts of speculation by themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqwen.engine.ngrams import ORDER, RECENT_TOKENS, NgramIndex, RecentAnswers
from pyqwen.engine.speculation import Speculator
from pyqwen.engine.step_costs import MOST_ROWS, StepCosts

TEXTS = st.lists(st.integers(0, 3), max_size=60)

# ------------------------------------------------------------------------------------------ n-grams


def agreement(text: list[int], at: int) -> int:
    n = 0
    while n < min(at, 32) and text[at - 1 - n] == text[len(text) - 1 - n]:
        n += 1
    return n


@given(TEXTS)
def test_the_longest_agreement_is_found(text: list[int]) -> None:
    """But for texts with more places than are compared, where it is one of the last."""
    index = NgramIndex(text)
    index.index_to(len(text) - 1)
    match = index.find(text)
    lengths = {at: agreement(text, at) for at in range(1, len(text))}
    places = [at for at, length in lengths.items() if length >= ORDER][-12:]
    if not places:
        assert match is None
        return
    best = max(places, key=lambda at: (lengths[at], at))
    assert (match.at, match.length) == (best, lengths[best])


@given(TEXTS, st.integers(1, 5))
def test_an_index_may_grow_in_steps(text: list[int], step: int) -> None:
    whole, grown = NgramIndex(text), NgramIndex(text)
    whole.index_to(len(text))
    for end in range(0, len(text), step):
        grown.index_to(end)
    grown.index_to(len(text))
    for end in range(len(text)):
        a, b = whole.find(text[:end]), grown.find(text[:end])
        assert (a and (a.at, a.length)) == (b and (b.at, b.length))


def test_a_text_that_repeats_itself_goes_on() -> None:
    text = [9, 1, 2, 3, 1, 2, 3, 1]
    index = NgramIndex(text)
    index.index_to(len(text) - 1)
    match = index.find(text)
    assert index.following(match.at, 7) == [2, 3, 1, 2, 3, 1, 2]


def test_coming_back_to_a_path() -> None:
    """One token was written in place of another: the next one tells where to go on."""
    text = [*range(10, 30), 5, 6, *range(10, 15), 77, 16]
    index = NgramIndex(text)
    index.index_to(len(text) - 1)
    assert index.find(text) is None
    match = index.return_to(text, 5)
    assert index.following(match.at, 3) == [17, 18, 19]


def test_memory_of_a_long_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyqwen.engine.ngrams.MOST_INDEXED", 1000)
    text = [int(i) for i in np.random.default_rng(0).integers(0, 7, 20_000)]
    index = NgramIndex(text)
    for end in range(0, len(text), 10):
        index.index_to(end)
        assert len(index._heads) + len(index._links) <= 2100
    assert index.find(text[:-5]) is not None


def test_recent_answers_are_few_and_apart() -> None:
    recent = RecentAnswers()
    recent.add([1, 2, 3, 4])
    recent.add([5, 6, 7])
    match = recent.find([9, 2, 3, 4])
    assert match.source.following(match.at, 2)[0] == -1  # not the beginning of the next answer
    assert recent.find([4, 5, 6]) is None
    for start in range(0, 300_000, 700):
        recent.add(list(range(start, start + 700)))
        assert sum(len(half.tokens) for half in recent._halves) <= RECENT_TOKENS
    assert recent.find([1, 2, 3]) is None
    assert recent.find([299_100, 299_101, 299_102]) is not None
    recent.add(list(range(10**6)))
    assert sum(len(half.tokens) for half in recent._halves) <= RECENT_TOKENS


# -------------------------------------------------------------------------------------------- costs


def test_costs_between_what_was_measured() -> None:
    costs = StepCosts()
    assert costs.curve(0) == [0.0] * (MOST_ROWS + 1)
    costs.note(1, 0, 1.0)
    assert costs.seconds(5, 0) == pytest.approx(2.0)  # nothing else is known
    for _ in range(3):
        costs.note(5, 0, 1.4)
    assert costs.seconds(3, 0) == pytest.approx(1.2)
    assert costs.seconds(5, 0) == pytest.approx(1.4)
    costs.note(9, 0, 0.2)  # more rows never take less time
    assert costs.seconds(9, 0) == pytest.approx(1.4)
    costs.note(1, 0, 50.0)  # someone else had the core
    assert costs.seconds(1, 0) < 60
    for _ in range(4):
        costs.note(1, 0, 1.0)
    assert costs.seconds(1, 0) == 1.0
    assert costs.curve(100_000)[5] == pytest.approx(1.4)  # as at the depth that is known


def test_costs_are_measured_again_after_a_while() -> None:
    costs = StepCosts()
    costs.note(1, 0, 1.0)
    costs.note(2, 0, 9.0)
    assert costs.seconds(2, 0) == 9.0
    for _ in range(500):
        costs.note(1, 0, 1.0)
    assert costs.seconds(2, 0) == pytest.approx(1.25)


# ------------------------------------------------------------------------------------------ account


class Written:
    """A request whose text is known from the start, and a machine whose steps cost what they are told."""

    drafts = True

    def __init__(self, prompt: list[int], answer: list[int]) -> None:
        self.tokens = list(prompt)
        self.text = prompt + answer
        self.speculation = None
        self.steps = 0

    @property
    def most_drafted(self) -> int:
        return len(self.text) - len(self.tokens) - 1

    @property
    def is_done(self) -> bool:
        return len(self.tokens) == len(self.text)

    def advance(self) -> int:
        """Take what was drafted and right, and one token more; return the rows that were run."""
        draft = self.speculation.propose(self.tokens) if self.speculation is not None else []
        right = 0
        while right < len(draft) and draft[right] == self.text[len(self.tokens) + right]:
            right += 1
        self.tokens += self.text[len(self.tokens) :][: right + 1]
        return 1 + len(draft)


def seconds_to_write(speculator: Speculator, requests: list[Written], cost: list[float]) -> float:
    total = 0.0
    for request in requests:
        speculator.begin(request)
    while active := [request for request in requests if not request.is_done]:
        speculator.allot(active, 256, 0)
        rows = sum([request.advance() for request in active])
        seconds = cost[min(rows, len(cost) - 1)]
        for request in active:
            request.steps += 1
        speculator.costs.note(rows, 100, seconds)
        total += seconds
    for request in requests:
        speculator.ended(request)
    return total


FLAT = [0.0] + [1 + 0.08 * i for i in range(40)]
STEEP = [0.0] + [1 + 0.9 * i for i in range(40)]
RANDOM = np.random.default_rng(3)
PROMPT = [int(i) for i in RANDOM.integers(0, 5000, 300)]
FRESH = [int(i) for i in RANDOM.integers(5000, 9000, 300)]
# Many places to look up, and what follows them is never the same: the worst that drafts can meet.
TRAPS = [token for i in range(100) for token in (*PROMPT[i % 9 : i % 9 + 3], 9000 + i)]


@pytest.mark.parametrize("cost", [FLAT, STEEP], ids=["flat", "steep"])
@pytest.mark.parametrize(
    "answer", [FRESH, TRAPS, PROMPT[5:], FRESH[:50] + TRAPS + PROMPT[:100], PROMPT[5:70] + FRESH]
)
def test_drafts_cost_no_more_than_they_may(cost: list[float], answer: list[int]) -> None:
    plain = len(answer) * cost[1]
    speculator = Speculator(looks_up=True)
    first = seconds_to_write(speculator, [Written(PROMPT, answer)], cost)
    assert first <= 1.025 * plain + 1.5  # a draft of a few rows before anything is known
    for _ in range(3):
        again = seconds_to_write(speculator, [Written(PROMPT[1:], [*answer[:100], 7])], cost)
        assert again <= 1.03 * (101 * cost[1]) + 1.5


def test_copies_are_drafted_where_rows_are_cheap() -> None:
    plain = len(PROMPT[5:]) * FLAT[1]
    assert seconds_to_write(Speculator(looks_up=True), [Written(PROMPT, PROMPT[5:])], FLAT) < (
        0.25 * plain
    )


def test_an_answer_is_looked_up_in_those_before_it() -> None:
    speculator = Speculator(looks_up=True)
    plain = len(FRESH) * FLAT[1]
    assert seconds_to_write(speculator, [Written(PROMPT, FRESH)], FLAT) > 0.9 * plain
    assert seconds_to_write(speculator, [Written(PROMPT[:9], FRESH)], FLAT) < 0.3 * plain


def test_drafts_of_one_do_not_stop_the_others() -> None:
    """A request that finds nothing loses little to those that do, and all together gain."""
    copying, fresh = Written(PROMPT, PROMPT[5:]), Written(PROMPT[::-1], FRESH)
    steps = 0

    def cost_until_fresh_ends(draft: bool) -> float:
        nonlocal steps
        speculator = Speculator(looks_up=draft)
        requests = [Written(PROMPT, PROMPT[5:] * 9), Written(PROMPT[::-1], FRESH)]
        for request in requests:
            speculator.begin(request)
        total = 0.0
        while not requests[1].is_done:
            speculator.allot(requests, 256, 0)
            rows = sum([request.advance() for request in requests])
            steps += rows
            speculator.costs.note(rows, 100, FLAT[rows])
            total += FLAT[rows]
        return total

    assert cost_until_fresh_ends(True) <= 1.13 * cost_until_fresh_ends(False)
    together = seconds_to_write(Speculator(looks_up=True), [copying, fresh], FLAT)
    alone = [Written(PROMPT, PROMPT[5:]), Written(PROMPT[::-1], FRESH)]
    assert together < seconds_to_write(Speculator(looks_up=False), alone, FLAT)


def test_a_step_that_did_not_run_costs_nothing() -> None:
    speculator = Speculator(looks_up=True)
    request = Written(PROMPT, PROMPT[5:])
    speculator.begin(request)
    speculator.costs.note(1, 100, 1.0)
    while not request.speculation.is_drafting:
        speculator.allot([request], 256, 0)
        if not request.speculation.is_drafting:
            request.advance()
    account, proposed = request.speculation.account, request.speculation.proposed
    for _ in range(5):
        speculator.allot([request], 256, 0)
    assert request.speculation.proposed == proposed
    assert request.speculation.account == pytest.approx(account)
