"""Embeddings: OpenAI's /v1/embeddings and Ollama's /api/embed."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
import numpy as np

from pyqwen.model import Model
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError, refusals
from pyqwen.serve.exchange import Exchange

MAX_TEXTS = 2048


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    input: Any = None
    model: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None


class EmbedRequest(msgspec.Struct, kw_only=True):
    model: str
    input: str | list[str]
    dimensions: int | None = None


class Embeddings:
    """Both endpoints."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def openai(self, exchange: Exchange) -> None:
        request = exchange.body(EmbeddingsRequest)
        if request.encoding_format not in (None, "float", "base64"):
            raise ApiError(400, "encoding_format is float or base64", param="encoding_format")
        async with self._core.registry.lease(request.model) as lease:
            texts = _texts(request.input, lease.model)
            rows = await _embed(lease.model, texts, request.dimensions)
            if request.encoding_format == "base64":
                data: list[Any] = [base64.b64encode(row.tobytes()).decode() for row in rows]
            else:
                data = rows.tolist()
            tokens = await asyncio.to_thread(_count, lease.model, texts)
            await exchange.reply(
                {
                    "object": "list",
                    "data": [
                        {"object": "embedding", "index": i, "embedding": row}
                        for i, row in enumerate(data)
                    ],
                    "model": lease.served.name,
                    "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                }
            )

    async def ollama(self, exchange: Exchange) -> None:
        request = exchange.body(EmbedRequest)
        texts = [request.input] if isinstance(request.input, str) else request.input
        async with self._core.registry.lease(request.model) as lease:
            rows = await _embed(lease.model, texts, request.dimensions)
            tokens = await asyncio.to_thread(_count, lease.model, texts)
            await exchange.reply(
                {
                    "model": request.model,
                    "embeddings": rows.tolist(),
                    "total_duration": 0,
                    "load_duration": int(lease.load_seconds * 1e9),
                    "prompt_eval_count": tokens,
                }
            )


def _texts(given: Any, model: Model) -> list[str]:
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(text, str) for text in given):
            return given
        rows = [given] if all(type(token) is int for token in given) else given
        if all(
            isinstance(row, list) and row and all(type(token) is int for token in row)
            for row in rows
        ):
            with refusals():
                return [model.tokenizer.decode(row) for row in rows]
    raise ApiError(400, "input must be a text, token ids, or a list of either", param="input")


async def _embed(model: Model, texts: list[str], dimensions: int | None) -> np.ndarray[Any, Any]:
    if len(texts) > MAX_TEXTS:
        raise ApiError(400, f"there are more than {MAX_TEXTS} texts", param="input")
    embed = getattr(model, "aembed", None)
    if embed is None:
        raise ApiError(501, "embeddings are not supported here", code="unsupported")
    with refusals():
        rows: np.ndarray[Any, Any] = await embed(texts, dimensions=dimensions)
    return rows


def _count(model: Model, texts: list[str]) -> int:
    return sum(len(model.tokenizer.encode(text)) for text in texts)
