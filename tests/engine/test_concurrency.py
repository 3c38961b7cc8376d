"""Many threads and tasks on one model: every answer is right, none is lost."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pyqwen import Model

PROMPTS = [[random.Random(i).randrange(330) for _ in range(3 + 9 * i)] for i in range(10)]
SETTINGS = {"max_tokens": 12, "seed": 9, "ignore_eos": True}


@pytest.fixture(scope="module")
def expected(tiny_model_path):
    with Model(tiny_model_path) as model:
        return [model.generate(prompt, **SETTINGS).token_ids for prompt in PROMPTS]


def test_threads_and_tasks_at_once(tiny_model_path, expected):
    """8 threads and 40 tasks: completions, streams, scores, and requests that are given up."""

    def work(number):
        chooser = random.Random(number)
        for _ in range(12):
            i = chooser.randrange(len(PROMPTS))
            kind = chooser.randrange(4)
            if kind == 0:
                assert model.generate(PROMPTS[i], **SETTINGS).token_ids == expected[i]
            elif kind == 1:
                tokens = [t for c in model.stream(PROMPTS[i], **SETTINGS) for t in c.token_ids]
                assert tokens == expected[i]
            elif kind == 2:
                assert model.logprobs(PROMPTS[i]).shape == (len(PROMPTS[i]) - 1,)
            else:
                next(model.stream(PROMPTS[i], **SETTINGS))
        return True

    async def task(number):
        i = number % len(PROMPTS)
        if number % 5 == 4:
            stream = model.astream(PROMPTS[i], **SETTINGS)
            await anext(stream)
            return True
        return (await model.agenerate(PROMPTS[i], **SETTINGS)).token_ids == expected[i]

    async def tasks():
        return await asyncio.gather(*(task(number) for number in range(40)))

    with (
        Model(tiny_model_path, threads=2, max_sequences=3, batch=24) as model,
        ThreadPoolExecutor(8) as pool,
    ):
        futures = [pool.submit(work, number) for number in range(8)]
        assert all(asyncio.run(tasks()))
        assert all(future.result() for future in futures)


def test_more_requests_than_sequences_wait_for_their_turn(tiny_model_path):
    with Model(tiny_model_path, max_sequences=1, isa="scalar") as model:
        first = model.stream([1], max_tokens=400, ignore_eos=True)
        others = [model.stream([i + 2], max_tokens=5, ignore_eos=True) for i in range(5)]
        queued = [stream.result().timings.queue_seconds for stream in (first, *others)]
        # Each but the first was submitted while the first, which takes long, was being written.
        assert all(queued[0] < seconds for seconds in queued[1:])
        assert all(len(stream.result().token_ids) == 5 for stream in others)


def test_a_prompt_does_not_stop_the_answers_beside_it(make_tiny_model):
    path = make_tiny_model(
        context=8192, layers=6, hidden=512, ffn=2048, heads=8, tensor_type="Q8_0"
    )
    with Model(path, threads=2, isa="scalar") as model:
        answer = model.stream([1, 2, 3], max_tokens=3000, ignore_eos=True)
        next(answer)
        prompt = model.stream([i % 300 for i in range(4000)], max_tokens=1)
        written = 0
        while prompt.finish_reason is None and written < 8:
            written += len(next(answer).token_ids)
        prompt.cancel()
        answer.cancel()
        assert prompt.result().token_ids == []  # it was still being read
        assert written >= 8


def test_a_model_may_be_called_while_a_stream_is_read(model):
    for chunk in model.stream(PROMPTS[0], max_tokens=5, ignore_eos=True):
        assert chunk.token_ids
        inner = model.generate(PROMPTS[1], max_tokens=2, ignore_eos=True)
        assert len(inner.token_ids) == 2


def test_errors_stay_with_their_request(model):
    """Requests that fail run beside others that do not."""
    forbidden = dict.fromkeys(range(model.config.real_tokens), float("-inf"))
    results = []

    def fail():
        with pytest.raises(ValueError, match="forbids"):
            model.generate(PROMPTS[2], logit_bias=forbidden)
        results.append("failed")

    threads = [threading.Thread(target=fail) for _ in range(4)]
    stream = model.stream(PROMPTS[3], max_tokens=200, ignore_eos=True)
    for thread in threads:
        thread.start()
    assert len(stream.result().token_ids) == 200
    for thread in threads:
        thread.join()
    assert results == ["failed"] * 4
