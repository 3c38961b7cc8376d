"""Drafts of trained models: the same answers, and far fewer passes where text is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pyqwen import Model
from pyqwen.engine.ngrams import RecentAnswers

pytestmark = pytest.mark.qwen

FUNCTION = '''\
def mean_of_columns(rows, names):
    """Return the mean of each named column."""
    means = {}
    for name in names:
        values = [float(row[name]) for row in rows if row[name] not in ("", None)]
        if not values:
            raise ValueError(f"column {name} holds no numbers")
        means[name] = sum(values) / len(values)
    return means
'''
PROMPTS = {
    "edit": f"Add type hints, change nothing else, answer with the code only.\n\n```python\n{FUNCTION}```",
    "chat": "In two sentences: what is the difference between a process and a thread?",
}


@pytest.fixture(scope="module")
def models(
    qwen_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[tuple[Model, Model, Model]]:
    """The 1.5B without drafts, with look-ups, and with the 0.5B besides."""
    small = qwen_path.with_name("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
    if not small.is_file():
        unavailable(f"{small} is not there")
    options: dict[str, Any] = {"context": 2048, "max_sequences": 2}
    with (
        Model(qwen_path, **options) as plain,
        Model(qwen_path, draft="ngram", **options) as looking_up,
        Model(qwen_path, draft=small, **options) as with_model,
    ):
        yield plain, looking_up, with_model


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("name", PROMPTS)
def test_answers_are_the_same(
    models: tuple[Model, Model, Model], name: str, temperature: float
) -> None:
    plain, *drafting = models
    options: dict[str, Any] = {"temperature": temperature, "seed": 1, "max_tokens": 120}
    expected = plain.chat(PROMPTS[name], logprobs=True, **options)
    for model in drafting:
        model._engine._speculator.recent = RecentAnswers()  # else the last answer is looked up
        done = model.chat(PROMPTS[name], logprobs=True, **options)
        assert (done.text, done.token_ids) == (expected.text, expected.token_ids)
        assert done.logprobs == expected.logprobs
        if name == "edit":
            assert done.timings.accepted > 20
            assert done.timings.accepted > 0.5 * done.timings.drafted
