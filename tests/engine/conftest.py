"""Fixtures for tests of the engine: an open tiny model, and a way to make it write a given text."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model


@pytest.fixture(autouse=True)
def _same_draws_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests without a seed draw theirs from here: what a tiny model writes is not left to chance."""
    seeds = random.Random(0)
    monkeypatch.setattr("pyqwen.engine.calls.SystemRandom", lambda: seeds)


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> Iterator[Model]:
    """The tiny model, open; shared by the tests of a module."""
    with Model(tiny_model_path, threads=2) as model:
        yield model


@pytest.fixture(scope="session")
def spelling() -> Callable[..., dict[str, Any]]:
    """Settings that make any model write given tokens, all different, in that order, again and again.

    Everything else is forbidden, each token's bias is lower than that of the one before it, and one
    that was written is penalized by more than all of these.
    """

    def settings(model: Model, tokens: Sequence[int]) -> dict[str, Any]:
        assert len(set(tokens)) == len(tokens), "every token may occur only once"
        bias = dict.fromkeys(range(model.config.real_tokens), float("-inf"))
        bias |= {token: -1000.0 * i for i, token in enumerate(tokens)}
        penalty = 1000.0 * (len(tokens) + 1)
        return {"temperature": 0, "logit_bias": bias, "frequency_penalty": penalty}

    return settings


@pytest.fixture(scope="session")
def byte_tokens() -> Callable[[Model, str], list[int]]:
    """Token ids that write a text byte by byte, as no tokenizer would cut it."""

    def ids(model: Model, text: str) -> list[int]:
        by_bytes = {model.tokenizer.token_bytes(i): i for i in range(model.tokenizer.vocab_size)}
        return [by_bytes[bytes([value])] for value in text.encode()]

    return ids
