"""Results are the same bits whatever the threads, the chunks, the cache and the company."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pyqwen import Model

RANDOM = np.random.default_rng(1)
IDS = RANDOM.integers(0, 334, 200).tolist()

MODELS = [
    {"tensor_type": "Q8_0"},
    {"tensor_type": "Q4_0", "tied": False},
    {"tensor_type": "F16", "architecture": "llama"},
    {"tensor_type": "F32"},
    {"tensor_type": "Q8_0", "architecture": "qwen3", "head_dim": 64},
]


@pytest.fixture(scope="module", params=MODELS, ids=lambda p: "-".join(map(str, p.values())))
def path(request, make_tiny_model):
    return make_tiny_model(**request.param)


@pytest.fixture(scope="module")
def reference(path):
    with Model(path, threads=1) as model:
        return model.logits(IDS)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 8, 9, 31, 33, 64, 65, 100])
def test_prefix(path, reference, n):
    with Model(path, threads=2) as model:
        np.testing.assert_array_equal(model.logits(IDS[:n]), reference[:n])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(path, reference, threads):
    with Model(path, threads=threads) as model:
        np.testing.assert_array_equal(model.logits(IDS), reference)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 16, 50, 200])
def test_chunks(path, reference, batch):
    with Model(path, threads=2, batch=batch, max_sequences=1) as model:
        np.testing.assert_array_equal(model.logits(IDS), reference)


@pytest.mark.parametrize("kv_type", ["f16", "f32", "q8_0", ("q8_0", "q5_1"), "q4_0"])
def test_chunks_and_threads_with_every_cache(path, kv_type):
    with Model(path, threads=1, kv_type=kv_type) as model:
        expected = model.logits(IDS)
    with Model(path, threads=3, kv_type=kv_type, batch=13) as model:
        np.testing.assert_array_equal(model.logits(IDS), expected)


def test_load_modes(path, reference):
    with Model(path, threads=2, load="copy") as model:
        np.testing.assert_array_equal(model.logits(IDS), reference)


def _answer(model, prompt):
    settings = {"max_tokens": 24, "seed": 5, "temperature": 1.0, "ignore_eos": True}
    reply = model.generate(prompt, logprobs=True, **settings)
    return reply.token_ids, [entry.logprob for entry in reply.logprobs]


def test_company(path):
    """The same answers alone and beside others, which come and go with prompts of many lengths."""
    prompts = [IDS[i : i + 1 + 11 * i] for i in range(12)]
    with Model(path, threads=1, max_sequences=1) as model:
        alone = [_answer(model, prompt) for prompt in prompts]
    with (
        Model(path, threads=2, max_sequences=5, batch=32) as model,
        ThreadPoolExecutor(len(prompts)) as pool,
    ):
        together = list(pool.map(lambda prompt: _answer(model, prompt), prompts))
    assert together == alone


def test_cache(path):
    """The same answers from a cache that holds a part of the prompt as from an empty one."""
    prompts = [IDS[:50], IDS[:80], IDS[:80], IDS[:33] + IDS[100:130], IDS[:64], IDS[:51]]
    fresh = []
    for prompt in prompts:
        with Model(path, threads=2) as model:
            fresh.append(_answer(model, prompt))
    with Model(path, threads=2) as model:
        cached = [_answer(model, prompt) for prompt in prompts]
        assert model.generate(IDS[:80], max_tokens=1).usage.cached_tokens == 79
    assert cached == fresh


def test_answer_equals_its_evaluation(path):
    """Tokens drawn one by one have the log-probabilities of the text read at once."""
    with Model(path, threads=2) as model:
        tokens, logprobs = _answer(model, IDS[:30])
        expected = model.logprobs(IDS[:30] + tokens)[29:]
    np.testing.assert_array_equal(logprobs, expected)
