"""Llamas over the tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyqwen.compat import Llama, notices


@pytest.fixture(autouse=True)
def _all_warnings_are_new() -> Iterator[None]:
    notices._given.clear()
    yield
    notices._given.clear()


@pytest.fixture(scope="module")
def llama(tiny_model_path: Path) -> Iterator[Llama]:
    with Llama(str(tiny_model_path), n_ctx=256, n_threads=1, seed=7) as llama:
        yield llama


@pytest.fixture
def fresh(llama: Llama) -> Llama:
    """The same, with nothing evaluated."""
    llama.reset()
    llama.set_cache(None)
    llama.set_seed(7)
    return llama
