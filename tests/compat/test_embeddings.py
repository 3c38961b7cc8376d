"""embed and create_embedding: Model.embed in llama-cpp-python's shape."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyqwen.compat as llama_cpp
from pyqwen.compat import Llama
from pyqwen.errors import ContextOverflowError

TEXTS = ["The quick brown fox", "a lazy dog"]


def test_vectors(fresh: Llama) -> None:
    expected = fresh.pyqwen_model.embed(TEXTS, normalize=False)
    rows = fresh.embed(TEXTS)
    assert np.array_equal(np.array(rows, np.float32), expected)
    assert fresh.embed(TEXTS[0]) == rows[0]
    unit, count = fresh.embed(TEXTS, normalize=True, return_count=True)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1)
    assert count == sum(len(fresh.tokenize(text.encode())) for text in TEXTS)
    assert fresh.embed([]) == []


def test_the_shape(fresh: Llama) -> None:
    for given in (TEXTS, TEXTS[0]):
        answer: Any = fresh.create_embedding(given, model="a name")
        assert set(answer) == set(typing.get_type_hints(llama_cpp.CreateEmbeddingResponse))
        assert (answer["object"], answer["model"]) == ("list", "a name")
        texts = [given] if isinstance(given, str) else given
        assert [row["index"] for row in answer["data"]] == list(range(len(texts)))
        assert [row["embedding"] for row in answer["data"]] == fresh.embed(texts)
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_what_does_not_fit_is_cut(fresh: Llama) -> None:
    long = "x " * 400
    assert fresh.embed(long) == fresh.embed("x " * 500)
    with pytest.raises(ContextOverflowError, match="exceed context window of 256"):
        fresh.embed(long, truncate=False)


def test_poolings(tiny_model_path: Path, fresh: Llama) -> None:
    for number, name in ((1, "mean"), (2, "cls"), (3, "last")):
        with Llama(str(tiny_model_path), n_threads=1, pooling_type=number) as llama:
            expected = fresh.pyqwen_model.embed(TEXTS, pooling=name, normalize=False)
            assert llama.embed(TEXTS) == expected.tolist()
            assert llama.pooling_type() == number
    none = llama_cpp.LLAMA_POOLING_TYPE_NONE
    with (
        Llama(str(tiny_model_path), n_threads=1, pooling_type=none) as llama,
        pytest.raises(ValueError, match="one vector for each text"),
    ):
        llama.embed(TEXTS)
