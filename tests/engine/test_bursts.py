"""Bursts: several steps of one answer at once. The same answers, and nobody waits for them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Chunk, Completion, Model, OutOfMemoryError
from pyqwen.engine.stream import Waiter

IDS = [int(i) for i in np.random.default_rng(5).integers(0, 300, 40)]
OPTIONS: dict[str, Any] = {"temperature": 1.0, "seed": 3, "ignore_eos": True}


def write(model: Model, **options: Any) -> tuple[Completion, list[Chunk]]:
    with model.stream(IDS, **options) as stream:
        chunks = list(stream)
    for slot in model._engine._cache.slots:
        assert model._engine._session.length(slot.index) == len(slot.tokens)
    return stream.completion, chunks


@pytest.fixture(params=[0.0, 60.0], ids=["one by one", "all at once"])
def burst(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("pyqwen.engine.bursts.BURST_SECONDS", request.param)
    return float(request.param)


def test_steps_that_take_long_stay_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the clock is all that bursts cost models that are not small."""
    asked = []
    advance = model._engine._advance
    monkeypatch.setattr(
        model._engine,
        "_advance",
        lambda request, step, sampled: (
            asked.append(len(sampled.samples)),
            advance(request, step, sampled),
        ),
    )
    monkeypatch.setattr("pyqwen.engine.bursts.BURST_SECONDS", 0.0)
    model.generate(IDS, max_tokens=20, **OPTIONS)
    assert asked == [1] * 20
    asked.clear()
    monkeypatch.setattr("pyqwen.engine.bursts.BURST_SECONDS", 60.0)
    model.generate(IDS, max_tokens=20, **OPTIONS)
    assert asked == [1, 19]  # the first token is waited for


EXPECTED: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("warm", {"max_tokens": 60}),
        ("one token", {"max_tokens": 1}),
        ("two tokens", {"max_tokens": 2}),
        ("penalties", {"max_tokens": 60, "repetition_penalty": 1.2, "top_logprobs": 2}),
        ("stop string", {"max_tokens": 200, "stop": ["e", "th"]}),
        ("to the end of the context", {}),
    ],
)
def test_answers_are_the_same(
    model: Model, burst: float, name: str, options: dict[str, Any]
) -> None:
    done, chunks = write(model, **{**OPTIONS, **options})
    facts = (done.token_ids, done.text, done.finish_reason, done.stop_reason, done.logprobs, chunks)
    assert facts == EXPECTED.setdefault(name, facts)


def test_end_tokens(model: Model, burst: float, spelling: Any, byte_tokens: Any) -> None:
    letters = byte_tokens(model, "abcdefgh")
    settings = {**spelling(model, [*letters, model.tokenizer.eos_id]), "max_tokens": 50}
    done, _ = write(model, **settings)
    assert (done.finish_reason, done.token_ids) == ("stop", letters)
    done, _ = write(model, **settings, stop_token_ids=[letters[3]])
    assert (done.stop_reason, done.token_ids) == (letters[3], letters[:3])
    again, _ = write(model, **settings)
    assert again.token_ids == letters


def test_others_do_not_wait(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that arrives ends a burst, and so does a cancel."""
    monkeypatch.setattr("pyqwen.engine.bursts.BURST_SECONDS", 60.0)
    with Model(tiny_model_path, max_sequences=2) as model:
        evaluate = model._engine._session.eval

        def slowly(*rows: Any) -> None:
            time.sleep(0.005)
            evaluate(*rows)

        monkeypatch.setattr(model._engine._session, "eval", slowly)
        waiter = Waiter(model._engine)
        long = model._calls.continuation(IDS, None, {**OPTIONS, "max_tokens": 400}, waiter.deliver)
        model._engine.submit(long)
        while len(long.placed.tokens if long.slot else ()) < len(IDS) + 5:
            time.sleep(0.001)
        short = model.generate(IDS[::-1], max_tokens=3, **OPTIONS)
        assert len(short.token_ids) == 3
        assert not long.done
        time.sleep(0.05)  # alone again: in a burst
        start = time.monotonic()
        threading.Thread(target=model._engine.cancel, args=(long,)).start()
        event = waiter.next_event()
        assert time.monotonic() - start < 0.5
        assert isinstance(event, Completion)
        assert event.finish_reason == "cancelled"


def test_a_failure_in_the_middle(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before it was delivered, and the request ends with it as it would otherwise."""
    monkeypatch.setattr("pyqwen.engine.bursts.BURST_SECONDS", 60.0)
    expected = model.generate(IDS, max_tokens=40, **OPTIONS).token_ids
    evaluate, steps = model._engine._session.eval, 0

    def failing(*rows: Any) -> None:
        nonlocal steps
        steps += 1
        if steps > 10:
            raise OutOfMemoryError("out of memory: a test")
        evaluate(*rows)

    monkeypatch.setattr(model._engine._session, "eval", failing)
    written: list[int] = []

    def read() -> None:
        for chunk in model.stream(IDS, max_tokens=40, **OPTIONS):
            written.extend(chunk.token_ids)

    with pytest.raises(OutOfMemoryError):
        read()
    assert written == expected[: len(written)]
    assert len(written) >= 9  # the last ones may have made no text yet
    monkeypatch.undo()
    assert model.generate(IDS, max_tokens=40, **OPTIONS).token_ids == expected
