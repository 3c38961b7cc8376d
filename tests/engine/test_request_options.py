"""Options of single requests: timeouts, log-probabilities of prompts, and functions that change logits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Chunk, Model, PyQwenError
from pyqwen.errors import CancelledError

PROMPT = [int(i) for i in np.random.default_rng(5).integers(0, 300, 90)]
WARM: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 20, "ignore_eos": True}


@pytest.fixture
def model(tiny_model_path: Path) -> Iterator[Model]:
    with Model(tiny_model_path, threads=2, max_sequences=3) as model:
        yield model


@pytest.fixture
def slow(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every evaluation takes 10 ms."""
    evaluate = model._engine._session.eval

    def slowly(*arguments: Any) -> None:
        time.sleep(0.01)
        evaluate(*arguments)

    monkeypatch.setattr(model._engine._session, "eval", slowly)


# ------------------------------------------------------------------------------------------ timeout


def test_time_is_up(model: Model, slow: None) -> None:
    expected = model.generate(PROMPT, temperature=0, max_tokens=400, ignore_eos=True)
    start = time.monotonic()
    cut = model.generate(PROMPT, temperature=0, max_tokens=400, ignore_eos=True, timeout=0.4)
    assert 0.35 < time.monotonic() - start < 3
    assert cut.finish_reason == "timeout"
    assert 1 < len(cut.token_ids) < 400
    assert cut.token_ids == expected.token_ids[: len(cut.token_ids)]
    assert cut.text
    assert cut.stop_reason is None


def test_time_that_is_enough(model: Model) -> None:
    for seconds in (60, 1e300, np.float64(30)):
        assert model.generate(PROMPT, timeout=seconds, **WARM).finish_reason == "length"
    assert (
        model.chat("Hello", timeout=None, max_tokens=2, ignore_eos=True).finish_reason == "length"
    )


def test_waiting_counts(model: Model, slow: None) -> None:
    busy = [model.stream([i] * 9, max_tokens=400, ignore_eos=True) for i in range(3)]
    waited = model.generate(PROMPT, timeout=0.2, **WARM)
    assert (waited.finish_reason, waited.text, waited.token_ids) == ("timeout", "", [])
    assert waited.timings.first_token_seconds is None
    for stream in busy:
        stream.close()


def test_streams_that_time_out(model: Model, slow: None) -> None:
    with model.stream(PROMPT, timeout=0.3, max_tokens=400, ignore_eos=True) as stream:
        chunks = list(stream)
    assert chunks[-1].finish_reason == "timeout"
    assert stream.finish_reason == "timeout"
    assert "".join(chunk.text for chunk in chunks) == stream.completion.text

    async def ask() -> None:
        answers = await asyncio.gather(
            *(model.achat("Hello", timeout=0.2, max_tokens=400, ignore_eos=True) for _ in range(3))
        )
        assert {answer.finish_reason for answer in answers} == {"timeout"}

    asyncio.run(ask())


def test_a_prompt_is_interrupted(make_tiny_model: Any) -> None:
    path = make_tiny_model(tensor_type="F32", hidden=512, ffn=2048, layers=2, context=8192)
    with Model(path, threads=1, isa="scalar", batch=512) as model:
        start = time.monotonic()
        cut = model.generate([1, 2, 3] * 2700, max_tokens=1, timeout=0.3)
        assert time.monotonic() - start < 2
        assert cut.finish_reason == "timeout"


def test_no_thread_is_left(model: Model) -> None:
    def watchers() -> int:
        return sum(thread.name == "pyqwen-deadlines" for thread in threading.enumerate())

    assert model.generate(PROMPT, timeout=0.05, max_tokens=1).finish_reason == "length"
    until = time.monotonic() + 5
    while watchers() and time.monotonic() < until:
        time.sleep(0.02)
    assert watchers() == 0
    model.generate(PROMPT, timeout=3000, max_tokens=1)
    assert watchers() == 1
    model.close()
    while watchers() and time.monotonic() < until:
        time.sleep(0.02)
    assert watchers() == 0


def test_other_ends_come_first(model: Model, slow: None) -> None:
    stream = model.stream(PROMPT, timeout=30, max_tokens=400, ignore_eos=True)
    next(stream)
    stream.cancel()
    assert stream.result().finish_reason == "cancelled"
    stream = model.stream(PROMPT, timeout=30, max_tokens=400, ignore_eos=True)
    next(stream)
    model.close()
    with pytest.raises(CancelledError):
        stream.result()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 10**400])
def test_no_time(model: Model, seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout must be a finite number above 0"):
        model.generate(PROMPT, timeout=seconds)


# ---------------------------------------------------------------------------------- prompt_logprobs


def exact(model: Model, ids: list[int]) -> np.ndarray:
    return model.logprobs(ids)


@pytest.mark.parametrize("batch", [3, 7, 256])
@pytest.mark.parametrize("n", [1, 2, 3, 90])
def test_scores_of_a_prompt(tiny_model_path: Path, batch: int, n: int) -> None:
    prompt = PROMPT[:n]
    with Model(tiny_model_path, batch=batch, max_sequences=2) as model:
        logits = model.logits(prompt)[:, : model.config.real_tokens].astype(np.float64)
        for _ in range(2):  # the second time all is in the cache
            plain = model.generate(prompt, logprobs=True, **WARM)
            scored = model.generate(prompt, top_logprobs=4, prompt_logprobs=True, **WARM)
            assert scored.token_ids == plain.token_ids
            entries = scored.prompt_logprobs
            assert entries is not None
            assert entries[0] is None
            rest = [entry for entry in entries if entry is not None]
            assert [entry.token_id for entry in rest] == prompt[1:]
            np.testing.assert_array_equal([e.logprob for e in rest], model.logprobs(prompt))
            for entry, row in zip(rest, logits, strict=False):
                best = np.argsort(-row, kind="stable")[:4]
                assert [top.token_id for top in entry.top] == list(best)
                assert entry.bytes == model.tokenizer.token_bytes(entry.token_id)
            assert plain.prompt_logprobs is None


def test_scores_leave_the_cache(model: Model) -> None:
    first = model.generate(PROMPT, prompt_logprobs=True, max_tokens=0)
    assert first.usage.cached_tokens == 0
    assert len(first.prompt_logprobs or ()) == len(PROMPT)
    assert all(entry.top == () for entry in first.prompt_logprobs[1:])  # type: ignore
    assert model.generate(PROMPT, max_tokens=1).usage.cached_tokens == len(PROMPT) - 1


def test_scores_of_chats_and_streams(model: Model) -> None:
    chat = model.chat("Hello", prompt_logprobs=True, max_tokens=3)
    assert len(chat.prompt_logprobs or ()) == chat.usage.prompt_tokens
    with model.stream(PROMPT, prompt_logprobs=True, **WARM) as stream:
        chunks = list(stream)
    scores = [entry.logprob for entry in stream.completion.prompt_logprobs[1:]]
    np.testing.assert_array_equal(scores, model.logprobs(PROMPT))
    assert "".join(chunk.text for chunk in chunks) == model.generate(PROMPT, **WARM).text


def test_scores_for_several_answers(model: Model) -> None:
    """They are computed once, also if the first that reads ends early."""
    answers = model.generate_n(PROMPT, 4, prompt_logprobs=True, **WARM)
    expected = model.logprobs(PROMPT)
    for answer in answers:
        np.testing.assert_array_equal([e.logprob for e in answer.prompt_logprobs[1:]], expected)  # type: ignore
    assert [answer.usage.cached_tokens for answer in answers] == [0, 89, 89, 89]
    streams = model.stream_n(PROMPT, 3, prompt_logprobs=True, **WARM)
    streams[0].cancel()
    for stream in streams[1:]:
        entries = stream.result().prompt_logprobs
        np.testing.assert_array_equal([e.logprob for e in entries[1:]], expected)  # type: ignore


def test_padding_has_no_score(model: Model) -> None:
    assert model.generate([*PROMPT, 340], max_tokens=1).usage.prompt_tokens == 91
    with pytest.raises(ValueError, match="token id 340 is padding"):
        model.generate([*PROMPT, 340], prompt_logprobs=True)


# --------------------------------------------------------------------------------- logits_processor


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0, "repetition_penalty": 1.2},
        {"top_k": 20, "logit_bias": {4: 3.0}, "presence_penalty": 0.5, "top_logprobs": 3},
    ],
    ids=str,
)
def test_a_function_that_changes_nothing(model: Model, options: dict[str, Any]) -> None:
    expected = model.generate(PROMPT, **{**WARM, **options})
    for function in (lambda ids, row: None, lambda ids, row: row, lambda ids, row: row + 0.0):
        got = model.generate(PROMPT, logits_processor=function, **{**WARM, **options})
        assert (got.text, got.token_ids) == (expected.text, expected.token_ids)
        assert got.logprobs == expected.logprobs


def test_what_a_function_sees(model: Model) -> None:
    seen: list[tuple[list[int], np.ndarray]] = []

    def note(ids: list[int], logits: np.ndarray) -> None:
        seen.append((list(ids), logits.copy()))
        assert threading.current_thread().name == "pyqwen-engine"
        ids.clear()

    done = model.generate(PROMPT, logits_processor=note, **WARM)
    assert [ids for ids, _ in seen] == [PROMPT + done.token_ids[:i] for i in range(20)]
    text = PROMPT + done.token_ids[:-1]
    rows = model.logits(text)[len(PROMPT) - 1 :, : model.config.real_tokens]
    np.testing.assert_array_equal([row for _, row in seen], rows)
    assert seen[0][1].dtype == np.float32


def test_a_function_decides(model: Model) -> None:
    def one_up(ids: list[int], logits: np.ndarray) -> np.ndarray | None:
        """Every token is the next higher id; in place and as a new array."""
        changed = logits if len(ids) % 2 else logits.astype(np.float64)
        changed[:] = -np.inf
        changed[(ids[-1] + 1) % 300] = 0.0
        return None if len(ids) % 2 else changed

    done = model.generate(PROMPT, logits_processor=one_up, logprobs=True, **WARM)
    assert done.token_ids == [(PROMPT[-1] + 1 + i) % 300 for i in range(20)]
    own = model.logprobs(PROMPT + done.token_ids)[len(PROMPT) - 1 :]
    assert done.logprobs is not None
    np.testing.assert_array_equal([entry.logprob for entry in done.logprobs], own)
    chunks = list(model.stream(PROMPT, logits_processor=one_up, **WARM))
    assert [token for chunk in chunks for token in chunk.token_ids] == done.token_ids
    assert all(isinstance(chunk, Chunk) for chunk in chunks)


def test_a_function_that_fails_ends_its_request(model: Model) -> None:
    calls = []

    def fails(ids: list[int], logits: np.ndarray) -> None:
        calls.append(ids)
        if len(calls) == 5:
            raise KeyError("a bug of the caller")

    other = model.stream([1] * 20, temperature=0, max_tokens=200, ignore_eos=True)
    next(other)
    with pytest.raises(KeyError, match="a bug of the caller"):
        model.generate(PROMPT, logits_processor=fails, **WARM)
    assert other.result().finish_reason == "length"

    def leaves(ids: list[int], logits: np.ndarray) -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="logits_processor raised SystemExit"):
        model.generate(PROMPT, logits_processor=leaves, **WARM)
    assert model.generate(PROMPT, **WARM).finish_reason == "length"


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ("a text", TypeError, "must return None or an array of floats, not str"),
        (np.arange(334), TypeError, "must return None or an array of floats, not int64"),
        (np.zeros(3, np.float32), ValueError, r"returned \(3,\) logits, not \(334,\)"),
        (np.full(334, np.nan, np.float32), ValueError, "largest logit .* is nan"),
        (np.full(334, np.inf), ValueError, "largest logit .* is inf"),
        (np.full(334, -np.inf), ValueError, "largest logit .* is -inf"),
    ],
    ids=str,
)
def test_what_a_function_may_not_return(
    model: Model, result: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        model.generate(PROMPT, logits_processor=lambda ids, row: result, **WARM)  # type: ignore


def test_a_function_that_calls_its_model(model: Model) -> None:
    def asks(ids: list[int], logits: np.ndarray) -> None:
        model.generate("Hello", max_tokens=1)

    with pytest.raises(PyQwenError, match="logits_processor called its own model"):
        model.generate(PROMPT, logits_processor=asks, **WARM)


def test_a_function_beside_a_constraint(model: Model) -> None:
    """The function comes first, then the mask; forced tokens ask neither."""
    from pyqwen.engine.stream import Waiter

    class Rules:
        def __init__(self) -> None:
            self.accepted: list[int] = []

        def mask(self) -> np.ndarray:
            return np.packbits(np.arange(352) % 2 == 0, bitorder="little").view(np.uint32)

        def forced(self) -> list[int]:
            return {3: [77, 79], 4: [79]}.get(len(self.accepted), [])

        def accept(self, token: int) -> None:
            self.accepted.append(token)

        def rewind(self, n: int) -> None:
            del self.accepted[len(self.accepted) - n :]

        def finished(self) -> bool:
            return False

    answers = []
    for options in (WARM, {**WARM, "logits_processor": lambda ids, row: None}):
        waiter = Waiter(model._engine)
        request = model._calls.continuation(
            PROMPT,
            None,
            {**options, "logprobs": True},
            waiter.deliver,  # type: ignore
        )
        request.constraint = Rules()
        answers.append(waiter.last_event(request))
    assert answers[0].token_ids[3:5] == [77, 79]
    assert all(token % 2 == 0 for token in answers[0].token_ids[:3] + answers[0].token_ids[5:])
    assert answers[0].token_ids == answers[1].token_ids
    assert answers[0].logprobs == answers[1].logprobs


def test_cancelling_a_slow_function(model: Model) -> None:
    def slow(ids: list[int], logits: np.ndarray) -> None:
        time.sleep(0.02)

    stream = model.stream(PROMPT, logits_processor=slow, **{**WARM, "max_tokens": 300})
    next(stream)
    start = time.monotonic()
    stream.cancel()
    assert stream.result().finish_reason == "cancelled"
    assert time.monotonic() - start < 1
