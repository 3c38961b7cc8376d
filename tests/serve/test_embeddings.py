"""Embeddings for the clients of OpenAI, Ollama and llama.cpp: the library's vectors in their shapes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import create_app

TEXTS = ["She sells sea shells.", "the shore"]


@pytest.fixture(scope="module")
def embedder(make_tiny_model: Callable[..., Path]) -> Iterator[Model]:
    metadata = {"qwen3.pooling_type": 3, "tokenizer.ggml.add_eos_token": True}
    path = make_tiny_model(architecture="qwen3", head_dim=64, metadata=metadata)
    with Model(path, threads=1) as model:
        yield model


@pytest.fixture
def serve(embedder: Model) -> Callable[..., Any]:
    app = create_app({"tiny": embedder})

    def post(path: str, **body: Any) -> Any:
        return asyncio.run(Client(app).post(path, body))

    return post


def numbers(rows: Any) -> np.ndarray:
    return np.array(rows, np.float32)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_openai(serve: Callable[..., Any], embedder: Model, path: str) -> None:
    found = serve(path, model="tiny", input=TEXTS, user="me").json
    assert (found["object"], found["model"]) == ("list", "tiny")
    assert [(row["object"], row["index"]) for row in found["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
    ]
    rows = numbers([row["embedding"] for row in found["data"]])
    np.testing.assert_array_equal(rows, embedder.embed(TEXTS))
    tokens = sum(map(len, embedder.embed_prompt(TEXTS)))
    assert found["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_openai_base64_as_its_python_client_asks_for_it(
    serve: Callable[..., Any], embedder: Model
) -> None:
    body = {"input": TEXTS[0], "encoding_format": "base64", "dimensions": 16}
    (row,) = serve("/v1/embeddings", **body).json["data"]
    vector = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, embedder.embed(TEXTS[0], dimensions=16)[0])


def test_openai_token_ids(serve: Callable[..., Any], embedder: Model) -> None:
    ids = embedder.embed_prompt(TEXTS)
    for given, texts in ((ids, TEXTS), (ids[0], TEXTS[:1]), ([ids[0], TEXTS[1]], TEXTS)):
        found = serve("/v1/embeddings", input=given).json
        rows = numbers([row["embedding"] for row in found["data"]])
        np.testing.assert_array_equal(rows, embedder.embed(texts))
        assert found["usage"]["prompt_tokens"] == sum(map(len, ids[: len(texts)]))


def test_an_instruction(serve: Callable[..., Any], embedder: Model) -> None:
    (row,) = serve("/v1/embeddings", input="shells", instruction="Find").json["data"]
    expected = embedder.embed("shells", instruction="Find")[0]
    np.testing.assert_array_equal(numbers(row["embedding"]), expected)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "input must be"),
        ({"input": []}, "input must be"),
        ({"input": {}}, "input must be"),
        ({"input": [1.5]}, "input must be"),
        ({"input": [[]]}, "input must be"),
        ({"input": [None]}, "input must be"),
        ({"input": ["a"] * 2049}, "more than 2048"),
        ({"input": [-1]}, "token id -1"),
        ({"input": [10**7]}, "token id"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 10**6}, "dimensions"),
        ({"input": "a", "dimensions": "1"}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "float or base64"),
        ({"input": "x " * 3000}, "maximum context length"),
        ({"input": [1] * 3000}, "maximum context length"),
    ],
)
def test_wrong_requests(serve: Callable[..., Any], body: dict[str, Any], words: str) -> None:
    response = serve("/v1/embeddings", **body)
    assert response.status == 400
    assert words in response.json["error"]["message"]


def test_ollama(serve: Callable[..., Any], embedder: Model) -> None:
    found = serve("/api/embed", model="tiny", input=TEXTS, truncate=True).json
    np.testing.assert_array_equal(numbers(found["embeddings"]), embedder.embed(TEXTS))
    assert found["model"] == "tiny"
    assert found["prompt_eval_count"] == sum(map(len, embedder.embed_prompt(TEXTS)))
    assert found["total_duration"] > 0
    short = serve("/api/embed", model="tiny", input=TEXTS[0], dimensions=8).json
    np.testing.assert_array_equal(
        numbers(short["embeddings"]), embedder.embed(TEXTS[0], dimensions=8)
    )
    for nothing in ("", []):
        assert serve("/api/embed", model="tiny", input=nothing).json["embeddings"] == []


def test_ollama_before_embed(serve: Callable[..., Any], embedder: Model) -> None:
    found = serve("/api/embeddings", model="tiny", prompt=TEXTS[0]).json["embedding"]
    np.testing.assert_array_equal(numbers(found), embedder.embed(TEXTS[0], normalize=False)[0])
    assert serve("/api/embeddings", model="tiny", prompt="").json == {"embedding": []}


@pytest.mark.parametrize("path", ["/embedding", "/embeddings"])
def test_llama(serve: Callable[..., Any], embedder: Model, path: str) -> None:
    found = serve(path, content=TEXTS).json
    assert [row["index"] for row in found] == [0, 1]
    rows = numbers([row["embedding"][0] for row in found])
    np.testing.assert_array_equal(rows, embedder.embed(TEXTS))
    (raw,) = serve(path, content=TEXTS[0], embd_normalize=-1).json
    expected = embedder.embed(TEXTS[0], normalize=False)
    np.testing.assert_array_equal(numbers(raw["embedding"]), expected)
    assert serve(path, content="a", embd_normalize=1).status == 400


def test_a_client_that_leaves_stops_the_model(make_tiny_model: Callable[..., Path]) -> None:
    path = make_tiny_model(context=4096, layers=6, hidden=512, ffn=2048, heads=8)

    async def leave(model: Model) -> Any:
        client = Client(create_app({"tiny": model}))
        visit = client.visit("POST", "/v1/embeddings", {"input": ["x " * 1500] * 100})
        await asyncio.sleep(0.5)
        visit.leave()
        await asyncio.wait_for(visit.task, 2)
        return await asyncio.wait_for(client.post("/v1/embeddings", {"input": "a"}), 2)

    with Model(path, threads=2, isa="scalar") as model:
        assert asyncio.run(leave(model)).status == 200


def test_a_model_that_cannot(make_tiny_model: Callable[..., Path]) -> None:
    with Model(make_tiny_model(metadata={"qwen2.pooling_type": 4}), threads=1) as model:
        app = create_app({"tiny": model})
        response = asyncio.run(Client(app).post("/v1/embeddings", {"input": "a"}))
        assert response.status == 400
        assert "ranks pairs" in response.json["error"]["message"]
