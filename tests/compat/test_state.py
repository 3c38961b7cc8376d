"""eval, sample, generate, reset and states: what programs do step by step is what a call does at once."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen.compat import Llama, LlamaGrammar
from pyqwen.errors import ContextOverflowError, SessionFileError

PROMPT = b"The quick brown fox"


@pytest.fixture
def ids(fresh: Llama) -> list[int]:
    return fresh.tokenize(PROMPT)


def taken(llama: Llama, tokens: list[int], count: int, **options: Any) -> list[int]:
    return list(itertools.islice(llama.generate(tokens, **options), count))


def test_step_by_step(fresh: Llama, ids: list[int]) -> None:
    at_once = taken(fresh, ids, 6, temp=0.0)
    assert fresh.n_tokens == len(ids) + 5
    fresh.reset()
    fresh.eval(ids)
    written = []
    for _ in range(6):
        written.append(fresh.sample(temp=0.0))
        fresh.eval(written[-1:])
    assert written == at_once
    assert list(fresh.eval_tokens) == [*ids, *written]
    assert fresh.input_ids[: fresh.n_tokens].tolist() == [*ids, *written]
    assert fresh.input_ids.shape == (fresh.n_ctx(),)
    assert fresh.sample(temp=0.0, idx=len(ids) - 1) == written[0]


def test_scores(fresh: Llama, ids: list[int], tiny_model_path: Path) -> None:
    fresh.eval(ids)
    logits = fresh.pyqwen_model.logits(ids)
    assert fresh.scores.shape == (len(ids), fresh.n_vocab())
    assert np.array_equal(fresh.scores[-1], logits[-1])
    assert not fresh.scores[:-1].any()
    assert [len(row) for row in fresh.eval_logits] == [fresh.n_vocab()]
    with Llama(str(tiny_model_path), n_ctx=256, n_threads=1, logits_all=True) as every:
        assert every.scores.shape == (0, every.n_vocab())
        every.eval(ids)
        assert np.array_equal(every.scores, logits)
        assert len(every.eval_logits) == len(ids)
    probabilities = np.exp(Llama.logits_to_logprobs(logits))
    assert np.allclose(probabilities.sum(axis=-1), 1, atol=1e-5)


def test_tokens_can_be_sent_into_a_generator(fresh: Llama, ids: list[int]) -> None:
    generator = fresh.generate(ids, temp=0.0)
    first = next(generator)
    second = generator.send([5, 6])
    third = next(generator)
    generator.close()
    assert fresh.n_tokens == len(ids) + 4
    assert [second, third] == taken(fresh, [*ids, first, 5, 6], 2, temp=0.0)


def test_generate_goes_on_behind_what_was_evaluated(fresh: Llama, ids: list[int]) -> None:
    whole = taken(fresh, ids, 3, temp=0.0)
    fresh.reset()
    fresh.eval(ids[:2])
    assert taken(fresh, ids[2:], 3, temp=0.0, reset=False) == whole


def test_generate_ends_with_the_context(fresh: Llama, ids: list[int]) -> None:
    written = list(fresh.generate(ids * 20, temp=0.0))
    assert len(written) == fresh.n_ctx() - 20 * len(ids)
    assert fresh.n_tokens == fresh.n_ctx()


def test_generate_with_criteria(fresh: Llama, ids: list[int]) -> None:
    whole = taken(fresh, ids, 4, temp=0.0)
    end = len(ids) + 4
    criteria = [lambda tokens, _: len(tokens) >= end]
    assert list(fresh.generate(ids, temp=0.0, stopping_criteria=criteria)) == whole


def test_a_state_comes_back(fresh: Llama, ids: list[int], tiny_model_path: Path) -> None:
    fresh.eval(ids)
    fresh.set_seed(5)
    state = pickle.loads(pickle.dumps(fresh.save_state()))
    drawn = [fresh.sample(temp=2.0) for _ in range(2)]
    assert drawn[0] == drawn[1]  # the same state
    fresh.set_seed(9)
    fresh.reset()
    assert fresh.n_tokens == 0
    logits = fresh.pyqwen_model.logits(ids)[-1]
    with Llama(str(tiny_model_path), n_ctx=256, n_threads=1) as other:
        for llama in (fresh, other):
            llama.load_state(state)
            assert llama.n_tokens == len(ids)
            session = llama._session
            assert session is not None
            assert session.tokens == ids  # nothing is read again
            assert np.array_equal(llama.scores[-1], logits)
            assert llama._session is session
            assert llama.sample(temp=2.0) == drawn[0]
    with pytest.raises(TypeError, match="LlamaState"):
        fresh.load_state(b"state")  # type: ignore[arg-type]


def test_states_that_do_not_fit(
    fresh: Llama, ids: list[int], make_tiny_model: Callable[..., Path]
) -> None:
    fresh.eval(ids)
    state = fresh.save_state()
    with Llama(str(make_tiny_model(seed=1)), n_ctx=256, n_threads=1) as other:
        with pytest.raises(SessionFileError):
            other.load_state(state)
        assert other.n_tokens == 0
    state.input_ids = state.input_ids[::-1].copy()
    with pytest.raises(ValueError, match="the state is damaged"):
        fresh.load_state(state)
    state.llama_state = state.llama_state[:-9]
    with pytest.raises(SessionFileError):
        fresh.load_state(state)
    assert list(fresh.eval_tokens) == ids


def test_a_state_brings_its_seed_back(fresh: Llama) -> None:
    grammar = LlamaGrammar.from_string('root ::= "1" | "2" | "3" | "4" | "5" | "6" | "7"')

    def number() -> Any:
        answer: Any = fresh("A number:", temperature=1.0, max_tokens=4, grammar=grammar)
        return answer["choices"][0]["text"]

    fresh.set_seed(1337)
    state = fresh.save_state()
    first = [number() for _ in range(8)]
    assert len(set(first)) > 1
    fresh.load_state(state)
    assert [number() for _ in range(8)] == first


def test_what_cannot_be_done(fresh: Llama, ids: list[int]) -> None:
    with pytest.raises(ValueError, match="no place"):
        fresh.sample()
    with pytest.raises(ContextOverflowError, match="exceed context window"):
        fresh.eval([5] * 300)
    assert fresh.n_tokens == 0
    fresh.eval(ids)
    with pytest.raises(ContextOverflowError):
        fresh.eval([5] * fresh.n_ctx())
    assert fresh.n_tokens == len(ids)
    fresh.n_tokens = 2
    assert list(fresh.eval_tokens) == ids[:2]
    with pytest.raises(ValueError, match="from 0 to 2"):
        fresh.n_tokens = 3
    for wrong in ([-1], [10**6], [1.5], "text"):
        with pytest.raises((ValueError, TypeError)):
            fresh.eval(wrong)  # type: ignore[arg-type]
