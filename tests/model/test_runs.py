"""Runs of several outputs through the binding, against sampling token by token; final hidden states."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pyqwen._native import Draw, ModelHandle, Run, SamplerHandle, SessionHandle
from pyqwen.loading.gguf_file import GGUFFile

sys.path.insert(0, str(Path(__file__).parent))
from reference import Reference

REAL_TOKENS = 334  # of the tiny model
LENGTH = 40
SETTINGS = {
    "temperature": 0.9,
    "top_k": 50,
    "top_p": 0.95,
    "min_p": 0.01,
    "typical_p": 1.0,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.3,
    "frequency_penalty": 0.2,
    "logit_bias": {5: 1.0},
    "want_logprob": True,
    "top": 4,
}


@pytest.fixture
def session(make_tiny_model: Callable[..., Path]) -> Iterator[SessionHandle]:
    with (
        GGUFFile(make_tiny_model()) as file,
        closing(ModelHandle(file.handle)) as model,
        closing(SessionHandle(model, sequences=3, threads=2)) as session,
    ):
        yield session


def sampler(seed: int, temperature: float) -> SamplerHandle:
    return SamplerHandle(REAL_TOKENS, seed=seed, **(SETTINGS | {"temperature": temperature}))


def mask(i: int) -> np.ndarray | None:
    """For every other token: two thirds of the vocabulary."""
    bits = np.arange(352) % 3 != i % 3
    return np.packbits(bits, bitorder="little").view(np.uint32) if i % 2 else None


def truth(session: SessionHandle, sequence: int, prompt: list[int], temperature: float) -> list:
    handle, samples = sampler(sequence, temperature), []
    session.rewind(sequence, 0)
    session.eval(prompt, [sequence] * len(prompt), [0] * (len(prompt) - 1) + [1])
    for i in range(LENGTH):
        ((sample,), failure) = session.sample([Run(handle, [Draw(0, mask=mask(i))])])[0]
        assert failure is None
        samples.append(sample)
        session.eval([sample.token], [sequence], [1])
    session.rewind(sequence, 0)
    return samples


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("right", [0.0, 0.8, 1.0], ids=["wrong", "mixed", "true"])
def test_drafts_of_several_sequences(
    session: SessionHandle, temperature: float, right: float
) -> None:
    rng = np.random.default_rng(3)
    prompts = [[7, 8, 9], [40] * 30, [100, 20, 3, 4]]
    expected = [truth(session, i, prompt, temperature) for i, prompt in enumerate(prompts)]
    samplers = [sampler(i, temperature) for i in range(3)]
    texts, samples = [list(prompt) for prompt in prompts], [[], [], []]  # type: ignore[var-annotated]
    while any(len(s) < LENGTH for s in samples):
        tokens, sequences, outputs, runs, owners = [], [], [], [], []  # type: ignore[var-annotated]
        for i in range(3):
            done, held = len(samples[i]), session.length(i)
            if done == LENGTH:
                continue
            most = min(int(rng.integers(0, 20)), LENGTH - done - 1)
            draft = [
                s.token if rng.random() < right else (s.token + 1) % REAL_TOKENS
                for s in expected[i][done : done + most]
            ]
            known = texts[i][held:]
            tokens += known + draft
            sequences += [i] * (len(known) + most)
            first = sum(outputs)
            outputs += [0] * (len(known) - 1) + [1] * (most + 1)
            draws = [Draw(j, token, mask=mask(done + j)) for j, token in enumerate([*draft, -1])]
            runs.append(Run(samplers[i], draws, first))
            owners.append(i)
        session.eval(tokens, sequences, outputs)
        for i, (drawn, failure) in zip(owners, session.sample(runs), strict=True):
            assert failure is None
            samples[i] += drawn
            texts[i] += [sample.token for sample in drawn]
            session.rewind(i, len(texts[i]) - 1)
    assert samples == expected


def test_forced_tokens_take_no_random_number(session: SessionHandle) -> None:
    session.eval([1, 2, 3, 4], [0] * 4, [1] * 4)
    handle, twin = sampler(1, 1.0), sampler(1, 1.0)
    draws = [Draw(0, 9, forced=True), Draw(1, 11, forced=True), Draw(2)]
    first, second, drawn = session.sample([Run(handle, draws)])[0].samples
    assert [first.token, second.token] == [9, 11]
    assert [first.logprob, second.logprob] == list(session.logprobs(0, [9, 11]))
    assert len(first.top) == 4
    twin.accept([9, 11], generated=True)
    assert session.sample([Run(twin, [Draw(2)])]) == [([drawn], None)]


def test_a_draw_that_fails_ends_its_run_alone(session: SessionHandle) -> None:
    session.eval([1, 2, 3, 4], [0, 0, 1, 1], [1] * 4)
    nothing = np.zeros(11, np.uint32)
    runs = [
        Run(sampler(1, 0.0), [Draw(0, 9, forced=True), Draw(1, mask=nothing)]),
        Run(sampler(2, 0.0), [Draw(2, 8, forced=True), Draw(3)]),
    ]
    failed, other = session.sample(runs)
    assert [sample.token for sample in failed.samples] == [9]
    assert isinstance(failed.failure, ValueError)
    assert str(failed.failure) == "the mask allows no token"
    assert (len(other.samples), other.failure) == (2, None)
    with pytest.raises(ValueError, match="outputs 4 to 5; the last evaluation left 4"):
        session.sample([Run(sampler(1, 0.0), [Draw(4)])])
    with pytest.raises(ValueError, match="a mask is a row of 11"):
        session.sample([Run(sampler(1, 0.0), [Draw(0, mask=nothing[:10])])])


def test_rewinding_a_sampler(session: SessionHandle) -> None:
    session.eval([1, 2, 3], [0] * 3, [1] * 3)
    handle = sampler(5, 1.0)
    with pytest.raises(ValueError, match="no mark"):
        handle.rewind()
    handle.mark()
    all_three = [session.sample([Run(handle, [Draw(i)])]) for i in range(3)]
    handle.rewind(1)
    assert [session.sample([Run(handle, [Draw(i)])]) for i in (1, 2)] == all_three[1:]
    handle.rewind()
    assert [session.sample([Run(handle, [Draw(i)])]) for i in range(3)] == all_three
    with pytest.raises(ValueError, match="accepted 3 tokens after its mark, not 4"):
        handle.rewind(4)


def test_hidden_states_are_the_references(make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(tensor_type="F32")
    ids = np.random.default_rng(2).integers(0, 300, 50).tolist()
    wanted = [int(i % 3 == 0) for i in range(50)]
    with (
        GGUFFile(path) as file,
        closing(ModelHandle(file.handle, exact=True)) as model,
        closing(SessionHandle(model, kv_type="f32")) as session,
    ):
        session.eval(ids, [0] * 50, wanted)
        out = np.empty((sum(wanted) - 2, model.config["hidden"]), np.float32)
        session.hidden(2, len(out), out)
        with pytest.raises(ValueError, match="the last evaluation left 17"):
            session.hidden(3, len(out), out)
    expected = Reference(path).hidden(ids)[np.flatnonzero(wanted)[2:]]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(out, expected, atol=2e-3)
