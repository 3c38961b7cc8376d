"""Embeddings: OpenAI's /v1/embeddings, Ollama's /api/embed and /api/embeddings, llama.cpp's /embedding."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pyqwen.errors import ContextOverflowError
from pyqwen.model import Model
from pyqwen.serve.adapters import refuse_adapter
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError, api_error, refusals
from pyqwen.serve.exchange import Exchange, encode_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

MAX_TEXTS = 2048
"""In one request, as at OpenAI."""

Ids = list[list[int]]


class EmbeddingsRequest(msgspec.Struct, kw_only=True):
    """OpenAI's, and ``instruction`` for models that want one before queries."""

    input: Any = None
    content: Any = None  # llama.cpp's word for it
    model: str | None = None
    dimensions: int | None = None
    encoding_format: str | None = None
    instruction: str | None = None
    embd_normalize: int = 2


class EmbedRequest(msgspec.Struct, kw_only=True):
    model: str
    input: str | list[str] = ""
    dimensions: int | None = None
    instruction: str | None = None


class OldEmbedRequest(msgspec.Struct, kw_only=True):
    model: str
    prompt: str = ""


class Embeddings:
    """The endpoints."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def openai(self, exchange: Exchange) -> None:
        request = exchange.body(EmbeddingsRequest)
        if request.encoding_format not in (None, "float", "base64"):
            raise ApiError(400, "encoding_format is float or base64", param="encoding_format")
        texts = _texts(request.input)
        async with self._core.registry.lease(request.model) as lease:
            refuse_adapter(lease)
            ids = await _read(lease.model, texts, request.instruction)
            vectors = await _embed(lease.model, ids, dimensions=request.dimensions)
            is_base64 = request.encoding_format == "base64"
            write: Callable[[Vectors], list[Any]] = _as_base64 if is_base64 else _as_numbers
            rows = await asyncio.to_thread(write, vectors)
            tokens = sum(map(len, ids))
            await exchange.reply(
                {
                    "object": "list",
                    "data": [
                        {"object": "embedding", "index": i, "embedding": row}
                        for i, row in enumerate(rows)
                    ],
                    "model": lease.served.name,
                    "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
                }
            )

    async def llama(self, exchange: Exchange) -> None:
        """llama.cpp's shape: a list, with a list of vectors for each text."""
        request = exchange.body(EmbeddingsRequest)
        if request.embd_normalize not in (-1, 2):
            raise ApiError(
                400, "embd_normalize is -1 (off) or 2 (Euclidean)", param="embd_normalize"
            )
        texts = _texts(request.input if request.content is None else request.content, "content")
        async with self._core.registry.lease(request.model) as lease:
            refuse_adapter(lease)
            ids = await _read(lease.model, texts, request.instruction)
            vectors = await _embed(
                lease.model,
                ids,
                dimensions=request.dimensions,
                normalize=request.embd_normalize == 2,
            )
            rows = await asyncio.to_thread(_as_numbers, vectors)
            await exchange.reply([{"index": i, "embedding": [row]} for i, row in enumerate(rows)])

    async def openai_or_llama(self, exchange: Exchange) -> None:
        """``/embeddings``: OpenAI's where the base of its client's addresses lacks /v1."""
        is_llama = exchange.body(EmbeddingsRequest).content is not None
        await (self.llama if is_llama else self.openai)(exchange)

    async def ollama(self, exchange: Exchange) -> None:
        request = exchange.body(EmbedRequest)
        begun = time.perf_counter()
        texts = [request.input] if isinstance(request.input, str) else request.input
        async with self._core.registry.lease(request.model) as lease:
            refuse_adapter(lease)
            ids: Ids = []
            rows: Sequence[Any] = []
            if texts not in ([], [""]):  # these only load the model
                ids = await _read(lease.model, texts, request.instruction)
                vectors = await _embed(lease.model, ids, dimensions=request.dimensions)
                rows = await asyncio.to_thread(_as_numbers, vectors)
            await exchange.reply(
                {
                    "model": request.model,
                    "embeddings": rows,
                    "total_duration": int((time.perf_counter() - begun) * 1e9),
                    "load_duration": int(lease.load_seconds * 1e9),
                    "prompt_eval_count": sum(map(len, ids)),
                }
            )

    async def old_ollama(self, exchange: Exchange) -> None:
        """Of one text, and as long as the vector is."""
        request = exchange.body(OldEmbedRequest)
        async with self._core.registry.lease(request.model) as lease:
            refuse_adapter(lease)
            rows: Sequence[Any] = [[]]
            if request.prompt:
                ids = await _read(lease.model, [request.prompt], None)
                vectors = await _embed(lease.model, ids, normalize=False)
                rows = await asyncio.to_thread(_as_numbers, vectors)
            await exchange.reply({"embedding": rows[0]})


def _texts(given: Any, name: str = "input") -> list[Any]:
    """One text or several, or the token ids of one or several."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        texts = [given] if all(type(token) is int for token in given) else given
        if len(texts) > MAX_TEXTS:
            raise ApiError(400, f"there are more than {MAX_TEXTS} texts", param=name)
        if all(_is_text(text) for text in texts):
            return texts
    raise ApiError(400, f"{name} must be a text, token ids, or a list of either", param=name)


def _is_text(given: Any) -> bool:
    return isinstance(given, str) or (
        isinstance(given, list) and bool(given) and all(type(token) is int for token in given)
    )


async def _read(model: Model, texts: list[Any], instruction: str | None) -> Ids:
    """The tokens of each text, cut beside the event loop."""
    with refusals():
        try:
            return await asyncio.to_thread(model.embed_prompt, texts, instruction=instruction)
        except ContextOverflowError as error:
            refusal = api_error(error)
            refusal.param = "input"
            raise refusal from error


async def _embed(
    model: Model, ids: Ids, *, dimensions: int | None = None, normalize: bool = True
) -> Vectors:
    with refusals():
        return await model.aembed(ids, dimensions=dimensions, normalize=normalize)


def _as_numbers(vectors: Vectors) -> list[msgspec.Raw]:
    """JSON, row by row: so that other threads have their turns."""
    return [msgspec.Raw(encode_json(row.tolist())) for row in vectors]


def _as_base64(vectors: Vectors) -> list[str]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
