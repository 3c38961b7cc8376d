"""Trained models against a float32 reference of their own weights (tests/data/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyqwen import Model

DATA = Path(__file__).parent.parent / "data"
SMOLLM = pytest.param(("smollm_path", "smollm2"), marks=pytest.mark.smollm, id="smollm2")
QWEN = pytest.param(("qwen_path", "qwen2.5-coder-1.5b"), marks=pytest.mark.qwen, id="qwen2.5")


@pytest.fixture(scope="module", params=[SMOLLM, QWEN])
def trained(request):
    """The path of a trained model, and what the reference says of it."""
    fixture, name = request.param
    known = json.loads((DATA / f"golden-{name}.json").read_text(encoding="utf-8"))
    return request.getfixturevalue(fixture), known


@pytest.fixture(scope="module")
def exact(trained):
    with Model(trained[0], exact=True, context=1024) as model:
        yield model


@pytest.fixture(scope="module")
def normal(trained):
    with Model(trained[0], context=1024) as model:
        yield model


def test_text_becomes_the_same_tokens(normal, trained):
    known = trained[1]
    assert normal.tokenizer.encode(known["text"]) == known["ids"]
    for chat in known["chats"]:
        rendered = normal.chat_template.render(chat["user"])
        assert normal.tokenizer.encode_segments(rendered.segments) == chat["prompt_ids"]


def test_exact_mode_equals_the_reference(exact, trained):
    known = trained[1]
    difference = np.abs(exact.logprobs(known["ids"]) - known["next_token_logprob"])
    assert difference.max() <= 2e-3
    assert difference.mean() <= 2e-4


def test_exact_mode_finds_the_same_likeliest_tokens(exact, trained):
    known = trained[1]
    logits = exact.logits(known["ids"][:64])[:, : exact.config.real_tokens]
    for row, ids, logprobs in zip(logits, known["top5_ids"], known["top5_logprobs"], strict=False):
        shifted = row.astype(np.float64) - row.max()
        values = shifted - np.log(np.exp(shifted).sum())
        np.testing.assert_allclose(values[ids], logprobs, atol=2e-3)
        assert np.argmax(row) == ids[0]


@pytest.mark.parametrize("number", range(3))
def test_exact_mode_would_write_the_same_answers(exact, trained, number):
    """At every place of the reference's answer its token is the likeliest.

    That is what writing greedily needs, and reading a text at once is far quicker than writing it;
    that both compute the same is tested on the tiny models.
    """
    chat = trained[1]["chats"][number]
    prompt, answer = chat["prompt_ids"], _up_to_the_end(exact, chat["greedy_ids"])
    logits = exact.logits(prompt + answer)[len(prompt) - 1 :, : exact.config.real_tokens]
    assert np.argmax(logits, axis=1)[: len(answer)].tolist() == answer


@pytest.mark.smollm
def test_exact_mode_writes_the_same_answer(smollm_path):
    known = json.loads((DATA / "golden-smollm2.json").read_text(encoding="utf-8"))
    chat = known["chats"][0]
    with Model(smollm_path, exact=True) as model:
        reply = model.chat(chat["user"], temperature=0, repetition_penalty=1)
        assert reply.finish_reason == "stop"
        answer = _up_to_the_end(model, chat["greedy_ids"])
        assert [*reply.token_ids, model.tokenizer.eos_id] == answer


def _up_to_the_end(model, ids):
    """The ids up to the first end token, that one included."""
    ends = [i for i, token in enumerate(ids) if token in model.tokenizer.eog_ids]
    return ids[: ends[0] + 1] if ends else ids


def test_normal_mode_is_near_the_reference(normal, trained):
    known = trained[1]
    logprobs = normal.logprobs(known["ids"])
    difference = np.abs(logprobs - known["next_token_logprob"])
    assert difference.mean() <= 0.06
    assert np.exp(-logprobs.mean()) == pytest.approx(known["perplexity"], rel=0.01)
