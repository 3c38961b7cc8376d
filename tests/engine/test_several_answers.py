"""Several answers to one prompt: each as alone, the prompt read once, whoever of them is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyqwen import ChatCompletion, Completion, Model
from pyqwen.errors import ClosedError, OutOfMemoryError

PROMPT = list(range(40, 140))
WARM: dict[str, Any] = {
    "temperature": 1.0,
    "seed": 2**64 - 3,
    "max_tokens": 24,
    "logprobs": True,
    "ignore_eos": True,
}


@pytest.fixture
def model(tiny_model_path: Path) -> Iterator[Model]:
    with Model(tiny_model_path, threads=2, max_sequences=3) as model:
        yield model


@pytest.fixture
def rows(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each evaluation has."""
    rows: list[int] = []
    evaluate = model._engine._session.eval

    def counting(tokens: list[int], sequences: list[int], outputs: list[int]) -> None:
        rows.append(len(tokens))
        evaluate(tokens, sequences, outputs)

    monkeypatch.setattr(model._engine._session, "eval", counting)
    return rows


def facts(done: Completion) -> tuple[Any, ...]:
    return done.text, done.token_ids, done.finish_reason, done.logprobs, done.seed


def alone(model: Model, n: int, **options: Any) -> list[tuple[Any, ...]]:
    with Model(model.path, threads=1) as fresh:
        return [
            facts(fresh.generate(PROMPT, **{**options, "seed": (options["seed"] + i) % 2**64}))
            for i in range(n)
        ]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_each_is_what_it_is_alone_and_the_prompt_is_read_once(
    model: Model, rows: list[int], n: int
) -> None:
    answers = model.generate_n(PROMPT, n, **WARM)
    assert rows[0] == len(PROMPT)
    assert sum(rows) == len(PROMPT) + n * 24 - 1
    assert [facts(answer) for answer in answers] == alone(model, n, **WARM)
    assert [answer.seed for answer in answers] == [(2**64 - 3 + i) % 2**64 for i in range(n)]
    assert [answer.usage.cached_tokens for answer in answers] == [0] + [99] * (n - 1)
    assert len({answer.text for answer in answers}) == n


def test_the_others_are_written_together(model: Model, rows: list[int]) -> None:
    model.generate_n(PROMPT, 3, **WARM)
    assert rows[1] == 3  # the last token of the prompt for two, the first of the answer for one
    assert len(rows) == 25


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_answers_that_are_short(model: Model, rows: list[int], max_tokens: int) -> None:
    answers = model.generate_n(
        PROMPT, 5, temperature=1.0, seed=1, max_tokens=max_tokens, ignore_eos=True
    )
    assert [len(answer.token_ids) for answer in answers] == [max_tokens] * 5
    assert sum(rows) == len(PROMPT) + 4


def test_chats(model: Model) -> None:
    options = {"max_tokens": 20, "seed": 5, "temperature": 1.0}
    answers = model.chat_n("Hello", 4, **options)
    single = [model.chat("Hello", **{**options, "seed": 5 + i}) for i in range(4)]
    assert all(isinstance(answer, ChatCompletion) for answer in answers)
    assert [(a.text, a.message) for a in answers] == [(a.text, a.message) for a in single]


def test_without_a_seed_the_seeds_follow_each_other(model: Model) -> None:
    seeds = [answer.seed for answer in model.generate_n(PROMPT, 3, max_tokens=1)]
    assert [(seed - seeds[0]) % 2**64 for seed in seeds] == [0, 1, 2]


def test_streams(model: Model, rows: list[int]) -> None:
    told: list[tuple[int, int]] = []
    streams = model.stream_n(PROMPT, 4, on_prompt=lambda *at: told.append(at), **WARM)
    answers = [facts(stream.result()) for stream in reversed(streams)]  # in any order
    assert answers[::-1] == alone(model, 4, **WARM)
    assert told == [(100, 100)]
    assert sum(rows) == len(PROMPT) + 4 * 24 - 1
    texts = [
        "".join(chunk.text for chunk in stream) for stream in model.stream_n(PROMPT, 4, **WARM)
    ]
    assert texts == [text for text, *_ in answers[::-1]]


def test_in_asyncio(model: Model) -> None:
    async def ask() -> None:
        expected = alone(model, 4, **WARM)
        assert [facts(a) for a in await model.agenerate_n(PROMPT, 4, **WARM)] == expected
        streams = model.astream_n(PROMPT, 4, **WARM)
        assert [facts(await stream.result()) for stream in streams] == expected
        chats = await model.achat_n("Hello", 2, max_tokens=9, seed=1)
        streamed = model.astream_chat_n("Hello", 2, max_tokens=9, seed=1)
        assert [chat.text for chat in chats] == [(await s.result()).text for s in streamed]

    asyncio.run(ask())


def test_streams_are_left_one_by_one(model: Model) -> None:
    """Also the one that reads the prompt: another goes on with it."""
    expected = alone(model, 4, **WARM)
    for left in range(4):
        streams = model.stream_n([left, *PROMPT], 4, **WARM)
        streams[left].cancel()
        results = [stream.result() for stream in streams]
        assert results[left].finish_reason == "cancelled"
        assert [r.finish_reason for r in results].count("length") == 3
        streams = model.stream_n(PROMPT, 4, **WARM)
        del streams[left]
        results = [stream.result() for stream in streams]
        assert [facts(r) for r in results] == expected[:left] + expected[left + 1 :]


def test_among_other_requests(model: Model) -> None:
    expected = alone(model, 5, **WARM)
    others = [model.generate([i] * 30, max_tokens=10, seed=i).token_ids for i in range(6)]
    with ThreadPoolExecutor(8) as pool:
        several = [pool.submit(model.generate_n, PROMPT, 5, **WARM) for _ in range(2)]
        single = [pool.submit(model.generate, [i] * 30, max_tokens=10, seed=i) for i in range(6)]
        assert [[facts(a) for a in job.result()] for job in several] == [expected] * 2
        assert [job.result().token_ids for job in single] == others


def test_with_drafts(tiny_model_path: Path) -> None:
    """They look up what the others wrote; the answers stay."""
    greedy: dict[str, Any] = {"temperature": 0, "seed": 1, "max_tokens": 60, "ignore_eos": True}
    with Model(tiny_model_path, threads=1, draft="ngram") as model:
        for options in (greedy, {**greedy, "temperature": 0.3, "logprobs": True}):
            answers = [facts(answer) for answer in model.generate_n(PROMPT, 5, **options)]
            assert answers == alone(model, 5, **options)


def test_cancelling_the_task_cancels_all(model: Model) -> None:
    async def ask() -> None:
        options = {**WARM, "max_tokens": 400}
        task = asyncio.ensure_future(model.agenerate_n(PROMPT, 6, **options))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer = await asyncio.wait_for(model.agenerate(PROMPT, max_tokens=1), 5)
        assert answer.usage.cached_tokens == 99

    asyncio.run(ask())


def test_a_trained_model(smollm_path: Path) -> None:
    """Also where positions are cut into blocks in the middle of the prompt."""
    options: dict[str, Any] = {"seed": 7, "temperature": 1.0, "max_tokens": 12}
    with Model(smollm_path, context=1024, max_sequences=3) as model:
        question = "Describe this place in one sentence: " + "the sea shore, " * 20
        answers = model.chat_n(question, 4, **options)
        assert len({answer.text for answer in answers}) == 4
        assert [answer.usage.cached_tokens > 90 for answer in answers] == [False, True, True, True]
    with Model(smollm_path, context=1024, max_sequences=1) as model:
        for i, answer in enumerate(answers):
            again = model.chat(question, **{**options, "seed": 7 + i})
            assert (again.text, again.token_ids) == (answer.text, answer.token_ids)


def test_no_memory_for_a_copy(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the prompt is read again."""

    def no_memory(*_arguments: int) -> None:
        raise OutOfMemoryError("out of memory: a test")

    monkeypatch.setattr(model._engine._session, "fork", no_memory)
    assert [facts(a) for a in model.generate_n(PROMPT, 3, **WARM)] == alone(model, 3, **WARM)


def test_one_that_fails_ends_all(model: Model) -> None:
    with pytest.raises(ValueError, match="forbids every token"):
        model.generate_n(
            PROMPT, 3, logit_bias=dict.fromkeys(range(model.config.real_tokens), -float("inf"))
        )
    assert model.generate_n(PROMPT, 2, **WARM)[1].usage.cached_tokens == 99


@pytest.mark.parametrize("n", [0, -1, 1025, 10**30])
def test_how_many(model: Model, n: int) -> None:
    with pytest.raises(ValueError, match=r"n must be from 1 to 1,024 answers"):
        model.generate_n(PROMPT, n)
    with pytest.raises(TypeError, match="n must be an integer"):
        model.chat_n("Hello", 2.0)  # type: ignore[arg-type]


def test_a_closed_model(model: Model) -> None:
    model.close()
    with pytest.raises(ClosedError):
        model.generate_n(PROMPT, 2)
