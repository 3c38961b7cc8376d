"""DRY, XTC, top-n-sigma and orders of filters as settings of a model's calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Model, SamplingParams
from pyqwen._native import FILTERS
from pyqwen.sampling import DRY_BREAKERS, SAMPLERS

PROMPT = [int(i) for i in np.random.default_rng(5).integers(0, 300, 60)]
WARM: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 40, "ignore_eos": True}


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> Iterator[Model]:
    with Model(tiny_model_path, threads=1) as model:
        yield model


def test_names_are_those_of_the_core() -> None:
    assert SAMPLERS == FILTERS


def test_what_is_off(model: Model) -> None:
    expected = model.generate(PROMPT, **WARM).token_ids
    for options in (
        {"dry_multiplier": 0, "dry_base": 3, "dry_allowed_length": 1, "dry_breakers": ["a"]},
        {"xtc_probability": 0, "xtc_threshold": 0.01},
        {"top_n_sigma": -1},
        {"samplers": SAMPLERS},
        {"samplers": ["temperature"]},
    ):
        assert model.generate(PROMPT, **WARM, **options).token_ids == expected


@pytest.mark.parametrize(
    "options",
    [
        {"dry_multiplier": 4.0, "dry_allowed_length": 1},
        {"xtc_probability": 1.0, "xtc_threshold": 0.01},
        {"top_n_sigma": 0.5},
        {"top_k": 3, "temperature": 9.0, "samplers": ["top_k"]},
    ],
    ids=str,
)
def test_what_is_on(model: Model, options: dict[str, Any]) -> None:
    settings = {**WARM, **options}
    done = model.generate(PROMPT, **settings)
    assert done.token_ids != model.generate(PROMPT, **WARM).token_ids
    assert done.token_ids == model.generate(PROMPT, SamplingParams(**settings)).token_ids
    rows = model.logits(PROMPT + done.token_ids)[len(PROMPT) - 1 : -1, : model.config.real_tokens]
    if "top_n_sigma" in options:
        for row, token in zip(rows.astype(np.float64), done.token_ids, strict=True):
            assert row[token] >= row.max() - 0.5 * row.std() - 1e-3
    if "samplers" in options:
        for row, token in zip(rows, done.token_ids, strict=True):
            assert token in np.argsort(-row, kind="stable")[:3]


def test_loops_are_left(model: Model) -> None:
    """A model that can only say one thing says it again and again, unless DRY is on."""
    bias = dict.fromkeys(range(model.config.real_tokens), -1000.0) | {40: 20.0, 41: 10.0, 42: 0.0}
    greedy: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 60}
    loop = model.generate(PROMPT, logit_bias=bias, **greedy).token_ids
    assert set(loop) == {40}
    dry = model.generate(PROMPT, logit_bias=bias, dry_multiplier=5.0, **greedy).token_ids
    assert set(dry) == {40, 41, 42}
    runs = "".join(map(chr, dry)).replace(chr(41), " ").replace(chr(42), " ").split()
    assert max(map(len, runs)) < 12


def test_breakers(model: Model, byte_tokens: Any, spelling: Any) -> None:
    """What stands before a breaker may be repeated behind it."""
    text = byte_tokens(model, "k:v\nk")
    after = byte_tokens(model, ":v\n")
    bias = {after[0]: 50.0}
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 1, "repetition_penalty": 1.0}
    options |= {"dry_multiplier": 100.0, "dry_allowed_length": 1, "logit_bias": bias}
    assert model.generate(text, dry_breakers=[], **options).token_ids != after[:1]
    assert model.generate(text, **options).token_ids == after[:1]  # a colon is a breaker itself
    assert model.generate(text, dry_breakers=DRY_BREAKERS, **options).token_ids == after[:1]
    assert model.generate(text, dry_breakers="\n", **options).token_ids != after[:1]
    assert model.generate(text, dry_breakers=["\nk"], **options).token_ids == after[:1]


def test_many_sets_of_breakers(model: Model) -> None:
    for i in range(20):
        model.generate(PROMPT, max_tokens=1, dry_multiplier=1.0, dry_breakers=[f"<{i}>"])
    assert len(model._calls._breakers._made) == 4
