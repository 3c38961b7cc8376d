"""Drafts, masks and forced tokens: the same answers, chunks and caches as token by token, in fewer passes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pyqwen import ChatCompletion, Chunk, Completion, Model
from pyqwen.engine.stream import Waiter
from pyqwen.errors import CancelledError, OutOfMemoryError

IDS = [int(i) for i in np.random.default_rng(5).integers(0, 300, 40)]
PENALTIES = {"repetition_penalty": 1.2, "presence_penalty": 0.3, "frequency_penalty": 0.2}
FURTHER = {"temperature": 1.3, "dry_multiplier": 0.8, "xtc_probability": 0.5, "xtc_threshold": 0.02}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "greedy with penalties": {"temperature": 0, **PENALTIES},
    "warm": {"temperature": 1.0},
    "warm with all": {
        "temperature": 1.3,
        "top_k": 100,
        "top_p": 0.97,
        "min_p": 0.001,
        "typical_p": 0.98,
        "logit_bias": {7: 2.0, 9: -float("inf")},
        **PENALTIES,
    },
    "greedy with DRY": {"temperature": 0, "dry_multiplier": 1.0, "dry_allowed_length": 1},
    "warm with DRY, XTC and top-n-sigma": {**FURTHER, "dry_breakers": ["e"], "top_n_sigma": 2.5},
    "another order": {
        **FURTHER,
        "samplers": ["xtc", "dry", "penalties", "temperature"],
        **PENALTIES,
    },
}


def kept_texts(model: Model) -> list[list[int]]:
    """The texts whose keys and values an idle model keeps, those that others begin with left out."""
    texts: list[list[int]] = []
    nodes = [(root, list[int]()) for root in model._engine._cache._tree._roots.values()]
    while nodes:
        node, before = nodes.pop()
        text = before + np.frombuffer(node.key, ">u4").tolist()
        nodes += [(block, text) for block in node.below]
        if not node.below:
            texts.append(text)
    return texts


def forget_kept(model: Model) -> None:
    while model._engine._cache._tree.evict():
        pass


class Guesses:
    """Proposes what comes next in a known text, some tokens of it wrong."""

    def __init__(self, text: list[int], right: float, longest: int = 12) -> None:
        self._text, self._right, self._longest = text, right, longest
        self._random = np.random.default_rng(len(text))

    def propose(self, tokens: list[int]) -> list[int]:
        draft = self._text[len(tokens) :][: self._random.integers(0, self._longest + 1)]
        wrong = self._random.random(len(draft)) >= self._right
        return [(token + int(w)) % 300 for token, w in zip(draft, wrong, strict=True)]


class Rules:
    """Where in a pattern of seven tokens an answer is: two of them are forced, two of three drawn by mask."""

    def __init__(
        self, forced_end: int | None = None, length: int = 10**6, last: int | None = None
    ) -> None:
        self.accepted: list[int] = []
        self._forced_end, self._length, self._last = forced_end, length, last

    def mask(self) -> np.ndarray | None:
        at = len(self.accepted)
        if at % 7 in (0, 4):
            return None
        return np.packbits(np.arange(352) % 3 == at % 3, bitorder="little").view(np.uint32)

    def forced(self) -> list[int]:
        at = len(self.accepted)
        if at >= self._length and self._forced_end is not None:
            return [self._forced_end]
        return [30 + at % 50, 31 + at % 50] if at % 7 == 5 else [31 + (at - 1) % 50] * (at % 7 == 6)

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def rewind(self, n: int) -> None:
        assert 0 < n <= len(self.accepted)
        del self.accepted[-n:]

    def finished(self) -> bool:
        return self._last is not None and len(self.accepted) >= self._last


Result = tuple[Completion, list[Chunk]]


def write(
    model: Model, prompt: list[int], draft: Any = None, constraint: Any = None, **options: Any
) -> Result:
    """The completion of a guided request and its chunks."""
    waiter = Waiter(model._engine)
    options = {"seed": 0, **options}
    request = model._calls.continuation(prompt, None, options, waiter.deliver, True)
    request.draft, request.constraint = draft, constraint
    model._engine.submit(request)
    chunks: list[Chunk] = []
    while True:
        event = waiter.next_event()
        if isinstance(event, Chunk):
            chunks.append(event)
        elif isinstance(event, BaseException):
            raise event
        elif isinstance(event, Completion):
            assert_true_cache(model)
            return event, chunks


def assert_same(result: Result, expected: Result) -> None:
    (a, chunks), (b, expected_chunks) = result, expected
    assert (a.text, a.token_ids, a.finish_reason) == (b.text, b.token_ids, b.finish_reason)
    assert (a.stop_reason, a.logprobs, a.seed) == (b.stop_reason, b.logprobs, b.seed)
    assert a.usage.completion_tokens == b.usage.completion_tokens
    assert chunks == expected_chunks


def assert_true_cache(model: Model) -> None:
    engine = model._engine
    for slot in engine._cache.slots:
        if not slot.in_use:
            assert engine._session.length(slot.index) == len(slot.tokens)


@pytest.fixture
def passes(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each evaluation."""
    rows: list[int] = []
    evaluate = model._engine._session.eval

    def counting(tokens: list[int], sequences: list[int], outputs: list[int]) -> None:
        rows.append(len(tokens))
        evaluate(tokens, sequences, outputs)

    monkeypatch.setattr(model._engine._session, "eval", counting)
    return rows


# ------------------------------------------------------------------------------------------ drafts


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("right", [0.0, 0.8, 1.0], ids=["wrong", "mixed", "true"])
def test_drafts_change_nothing(
    model: Model, passes: list[int], settings: dict[str, Any], right: float
) -> None:
    options = {"max_tokens": 60, "seed": 3, "ignore_eos": True, "top_logprobs": 3, **settings}
    expected = write(model, IDS, **options)
    assert len(passes) == 60
    passes.clear()
    text = IDS + expected[0].token_ids
    assert_same(write(model, IDS, Guesses(text, right), **options), expected)
    assert len(passes) < 15 if right == 1 else len(passes) < 50 if right else len(passes) == 60
    # What the cache holds now is what it should.
    longer = [*text, 5]
    following = model.generate(longer, max_tokens=5, temperature=0, logprobs=True)
    assert following.usage.cached_tokens >= len(text) - 1
    with Model(model.path, threads=1) as fresh:
        assert (
            fresh.generate(longer, max_tokens=5, temperature=0, logprobs=True).logprobs
            == following.logprobs
        )


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 3, 7, 8])
def test_max_tokens_inside_a_run(model: Model, passes: list[int], max_tokens: int) -> None:
    text = IDS + model.generate(IDS, max_tokens=20, temperature=0, ignore_eos=True).token_ids
    options = {"max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    expected = write(model, IDS, **options)
    assert expected[0].finish_reason == "length"
    passes.clear()
    assert_same(write(model, IDS, Guesses(text, 1.0), **options), expected)
    assert sum(passes) <= max_tokens + 1


def test_the_context_ends_inside_a_run(model: Model) -> None:
    prompt = [i % 300 for i in range(model.context - 9)]
    expected = write(model, prompt, temperature=0, ignore_eos=True)
    assert len(expected[0].token_ids) == 9
    text = prompt + expected[0].token_ids
    result = write(model, prompt, Guesses(text + [1] * 20, 1.0), temperature=0, ignore_eos=True)
    assert_same(result, expected)


@pytest.mark.parametrize("right", [0.5, 1.0])
def test_stop_strings_inside_a_run(
    model: Model, spelling: Any, byte_tokens: Any, right: float
) -> None:
    letters = byte_tokens(model, "abcdefghijklmnop")
    settings = {**spelling(model, letters), "max_tokens": 50, "logprobs": True}
    text = model.tokenizer.decode(letters)
    for stop in (text[4:6], text[9], text[5:12], text[-1]):
        expected = write(model, IDS, stop=["zzz", stop], **settings)
        assert expected[0].stop_reason == stop
        forget_kept(model)
        result = write(model, IDS, Guesses(IDS + letters, right), stop=["zzz", stop], **settings)
        assert_same(result, expected)
        tokens = IDS + expected[0].token_ids
        [held] = kept_texts(model)
        assert held[:40] == IDS
        assert held == tokens[: len(held)]
        assert_same(write(model, IDS, stop=["zzz", stop], **settings), expected)


@pytest.mark.parametrize("right", [0.5, 1.0])
def test_end_tokens_inside_a_run(
    model: Model, spelling: Any, byte_tokens: Any, right: float
) -> None:
    end = model.tokenizer.eos_id
    letters = byte_tokens(model, "abcde")
    settings = {**spelling(model, [*letters, end]), "max_tokens": 50}
    guesses = [*IDS, *letters, end, 3, 4, 5]
    expected = write(model, IDS, **settings)
    assert (expected[0].finish_reason, expected[0].token_ids) == ("stop", letters)
    assert_same(write(model, IDS, Guesses(guesses, right), **settings), expected)
    options = {**settings, "stop_token_ids": [letters[2]]}
    expected = write(model, IDS, **options)
    assert expected[0].stop_reason == letters[2]
    assert_same(write(model, IDS, Guesses(guesses, right), **options), expected)


def test_several_requests_together(model: Model) -> None:
    """Guided and plain ones, each as alone."""
    jobs = []
    for i, settings in enumerate(list(SETTINGS.values()) * 2):
        options = {"max_tokens": 30 + i, "seed": i, "top_logprobs": 2, **settings}
        expected = write(model, IDS[i:], **options)
        text = IDS[i:] + expected[0].token_ids
        draft = Guesses(text, 0.7, longest=25) if i % 3 else None
        jobs.append((IDS[i:], draft, options, expected))
    with ThreadPoolExecutor(len(jobs)) as pool:
        results = list(pool.map(lambda job: write(model, job[0], job[1], **job[2]), jobs))
    for result, (*_, expected) in zip(results, jobs, strict=True):
        assert_same(result, expected)


def test_a_small_batch(tiny_model_path: Any) -> None:
    with Model(tiny_model_path, batch=3, max_sequences=2) as model:
        options = {"max_tokens": 30, "seed": 1, "logprobs": True}
        expected = write(model, IDS, **options)
        text = IDS + expected[0].token_ids
        assert_same(write(model, IDS, Guesses(text, 0.9), **options), expected)


# ------------------------------------------------------------------------ constraints, forced tokens


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("logprobs", [False, True])
def test_constraints_with_and_without_drafts(
    model: Model, passes: list[int], settings: dict[str, Any], logprobs: bool
) -> None:
    options = {"max_tokens": 50, "seed": 4, "ignore_eos": True, **settings}
    options |= {"top_logprobs": 2} if logprobs else {}
    rules = Rules()
    expected = write(model, IDS, constraint=rules, **options)
    tokens = expected[0].token_ids
    assert rules.accepted == tokens
    assert len(tokens) == 50
    for at, token in enumerate(tokens):
        if at % 7 >= 5:
            assert token == 30 + at % 50 if at % 7 == 5 else token == 31 + (at - 1) % 50
        elif at % 7 not in (0, 4):
            assert token % 3 == at % 3
    assert len(passes) < 40  # two of seven cost no pass of their own
    for right in (0.0, 0.8, 1.0):
        passes.clear()
        draft = Guesses(IDS + tokens, right)
        assert_same(write(model, IDS, draft, Rules(), **options), expected)
    assert len(passes) < 15
    if logprobs:
        exact = model.logprobs(IDS + tokens)[len(IDS) - 1 :]
        np.testing.assert_array_equal([entry.logprob for entry in expected[0].logprobs], exact)


def test_forced_tokens_are_what_a_mask_of_one_gives(model: Model) -> None:
    """But for the random numbers, of which there are none at temperature 0."""

    class Masked(Rules):
        def forced(self) -> list[int]:
            return []

        def mask(self) -> np.ndarray | None:
            forced = super().forced()
            if not forced:
                return super().mask()
            return np.packbits(np.arange(352) == forced[0], bitorder="little").view(np.uint32)

    options = {"max_tokens": 50, "temperature": 0, "top_logprobs": 3, **PENALTIES}
    expected = write(model, IDS, constraint=Masked(), **options)
    assert_same(write(model, IDS, constraint=Rules(), **options), expected)


def test_a_forced_end(model: Model) -> None:
    end = model.tokenizer.eos_id
    for length in (0, 5, 6, 12):
        rules = Rules(forced_end=end, length=length)
        completion, _ = write(model, IDS, constraint=rules, max_tokens=40, temperature=0)
        assert completion.finish_reason == "stop"
        assert length <= len(completion.token_ids) <= length + 2
        assert end not in completion.token_ids


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_finished_constraint_ends_the_answer(
    model: Model, passes: list[int], logprobs: bool
) -> None:
    """Behind its last token, without another pass; forced ones at the end take none, either."""
    options = {"max_tokens": 40, "seed": 2, "ignore_eos": True, "logprobs": logprobs}
    free = write(model, IDS, constraint=Rules(), **options)[0]
    for last in range(1, 22):
        passes.clear()
        result = write(model, IDS, constraint=Rules(last=last), **options)
        assert (result[0].token_ids, result[0].finish_reason) == (free.token_ids[:last], "stop")
        assert result[0].stop_reason is None
        # One pass for each token that is sampled, or of whose output the log-probability is wanted.
        sampled = sum(at % 7 < 5 for at in range(last))
        assert len(passes) == sampled + (logprobs and (last - 1) % 7 >= 5)
        guesses = Guesses(IDS + free.token_ids, 0.8)
        assert_same(write(model, IDS, guesses, Rules(last=last), **options), result)


def test_stop_strings_and_limits_in_forced_tokens(model: Model) -> None:
    free = write(model, IDS, constraint=Rules(), max_tokens=40, temperature=0)[0]
    for limit in range(1, 15):
        completion, _ = write(model, IDS, constraint=Rules(), max_tokens=limit, temperature=0)
        assert (completion.token_ids, completion.finish_reason) == (
            free.token_ids[:limit],
            "length",
        )
    stop = model.tokenizer.decode([free.token_ids[5]])
    first = next(i for i, t in enumerate(free.token_ids) if stop in model.tokenizer.decode([t]))
    completion, _ = write(model, IDS, constraint=Rules(), max_tokens=40, temperature=0, stop=stop)
    assert completion.token_ids == free.token_ids[: first + 1]


# ----------------------------------------------------------------------------------------- failures


def test_cancel_in_the_middle(model: Model) -> None:
    expected = model.generate(IDS, max_tokens=200, temperature=0, ignore_eos=True)
    text = IDS + expected.token_ids
    for wanted in (1, 5, 30):
        waiter = Waiter(model._engine)
        options = {"max_tokens": 400, "temperature": 0, "ignore_eos": True}
        request = model._calls.continuation(IDS, None, options, waiter.deliver, True)
        request.draft, request.constraint = Guesses(text, 0.9), None
        model._engine.submit(request)
        chunks = 0
        while not isinstance(event := waiter.next_event(), Completion):
            chunks += isinstance(event, Chunk)
            if chunks == wanted:
                model._engine.cancel(request)
        assert event.finish_reason == "cancelled"
        assert (event.token_ids[:200] == expected.token_ids[: len(event.token_ids)]) is True
        assert_true_cache(model)
        again = model.generate(IDS, max_tokens=200, temperature=0, ignore_eos=True)
        assert again.token_ids == expected.token_ids


def test_no_memory_for_a_draft(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer goes on without it, as it would have without a draft."""
    options = {"max_tokens": 40, "seed": 2, "logprobs": True, "ignore_eos": True}
    expected = write(model, IDS, **options)
    refused = []
    evaluate = model._engine._session.eval

    def eval_of_few(tokens: list[int], sequences: list[int], outputs: list[int]) -> None:
        if 1 < len(tokens) < len(IDS):
            refused.append(len(tokens))
            raise OutOfMemoryError("out of memory: a test")
        evaluate(tokens, sequences, outputs)

    monkeypatch.setattr(model._engine._session, "eval", eval_of_few)
    draft = Guesses(IDS + expected[0].token_ids, 1.0)
    assert_same(write(model, IDS, draft, **options), expected)
    assert len(refused) > 20


def test_failures_of_sampling_end_one_request(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens before the failure were delivered; the cache holds nothing that is not true."""

    class Impossible(Rules):
        def mask(self) -> np.ndarray | None:
            return np.zeros(11, np.uint32) if len(self.accepted) == 9 else super().mask()

    text = IDS + write(model, IDS, constraint=Rules(), max_tokens=30, temperature=0)[0].token_ids
    for draft in (None, Guesses(text, 1.0)):
        with pytest.raises(ValueError, match="the mask allows no token"):
            write(model, IDS, draft, Impossible(), max_tokens=30, temperature=0)
        assert_true_cache(model)
        assert model.generate(IDS, max_tokens=5, temperature=0).usage.cached_tokens == len(IDS) - 1

    def no_memory(runs: Any) -> Any:
        raise OutOfMemoryError("out of memory: a test")

    with monkeypatch.context() as patch:
        patch.setattr(model._engine._session, "sample", no_memory)
        with pytest.raises(OutOfMemoryError):
            write(model, IDS, Guesses(text, 1.0), max_tokens=30, temperature=0)
        assert_true_cache(model)
    assert model.generate(IDS, max_tokens=30, temperature=0).token_ids


@pytest.mark.parametrize("where", ["mask", "forced", "accept", "propose"])
def test_what_guides_an_answer_may_fail(
    model: Model, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    rules, draft = Rules(), Guesses(IDS + [5] * 40, 1.0)
    guide = draft if where == "propose" else rules
    calls = []
    works = getattr(guide, where)

    def fails(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 9:
            raise RuntimeError("a bug of someone else")
        return works(*arguments)

    monkeypatch.setattr(guide, where, fails)
    with pytest.raises(RuntimeError, match="a bug of someone else"):
        write(model, IDS, draft, rules, max_tokens=60, temperature=0)
    assert_true_cache(model)
    assert len(model.generate(IDS, max_tokens=5, ignore_eos=True).token_ids) == 5


def test_a_call_that_is_interrupted_is_made_again(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a cancel that came too late, and meant another request."""
    options = {"max_tokens": 40, "seed": 2, "temperature": 1.0, "logprobs": True}
    expected = write(model, IDS, constraint=Rules(), **options)
    session, calls = model._engine._session, []
    originals = {"eval": session.eval, "sample": session.sample}

    def interrupted(name: str) -> Any:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            if len(calls) % 3 == 0:
                raise CancelledError("too late")
            return originals[name](*arguments)

        return call

    for name in originals:
        monkeypatch.setattr(session, name, interrupted(name))
    draft = Guesses(IDS + expected[0].token_ids, 0.8)
    assert_same(write(model, IDS, draft, Rules(), **options), expected)
    assert len(calls) > 15


def test_chats_are_guided_too(model: Model) -> None:
    expected = model.chat("Hello", max_tokens=30, seed=1, ignore_eos=True)
    waiter = Waiter(model._engine)
    options = {"max_tokens": 30, "seed": 1, "ignore_eos": True}
    request = model._calls.answer("Hello", None, options, waiter.deliver)
    request.draft = Guesses(request.tokens + expected.token_ids, 0.8)
    answer = waiter.last_event(request)
    assert isinstance(answer, ChatCompletion)
    assert (answer.message, answer.token_ids) == (expected.message, expected.token_ids)
