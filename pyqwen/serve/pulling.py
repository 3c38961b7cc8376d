"""Ollama's /api/pull: fetching a model that is served then, where whoever started the server allows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError, refusals
from pyqwen.serve.exchange import NDJSON, Exchange, encode_json


class PullRequest(msgspec.Struct, kw_only=True):
    model: str | None = None
    name: str | None = None
    stream: bool = True


class Pulling:
    """The endpoint."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.body(PullRequest)
        name = request.model or request.name
        if not self._core.settings.allow_pull:
            raise ApiError(403, "this server fetches no models; --allow-pull lets it")
        if not name:
            raise ApiError(400, "model is missing", param="model")
        steps: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        is_over = False

        def progress(done: int, total: int) -> bool:
            loop.call_soon_threadsafe(steps.put_nowait, (done, total))
            return not is_over

        fetching = asyncio.ensure_future(asyncio.to_thread(_pull, name, progress))
        try:
            if request.stream:
                await exchange.start(200, NDJSON)
                await exchange.write(_line(status="pulling manifest"))
                await self._tell(exchange, name, fetching, steps)
            with refusals():
                path = await asyncio.shield(fetching)
        finally:
            is_over = True  # a client that leaves stops the download
        self._core.registry.add(name, path)
        if request.stream:
            await exchange.end(_line(status="success"))
        else:
            await exchange.reply({"status": "success"})

    async def _tell(
        self, exchange: Exchange, name: str, fetching: Any, steps: asyncio.Queue[tuple[int, int]]
    ) -> None:
        """Tell at most a few times in a second how far it is."""
        while not fetching.done():
            await asyncio.wait((fetching,), timeout=0.25)
            step = None
            while not steps.empty():
                step = steps.get_nowait()
            if step is not None:
                done, total = step
                status = f"pulling {name}"
                await exchange.write(_line(status=status, digest=name, total=total, completed=done))


def _pull(name: str, progress: Any) -> Path:
    from pyqwen.catalog.public import pull

    return pull(name, progress=progress)


def _line(**fields: Any) -> bytes:
    return encode_json(fields) + b"\n"
