"""Clients that leave: the model stops within 100 ms, whether it was streaming or not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import create_app

BUSY = {"max_tokens": 100_000, "ignore_eos": True}


@pytest.fixture(scope="module")
def slow_model(make_tiny_model: Any) -> Any:
    """A model that needs a while: its answers are as long as its context."""
    path: Path = make_tiny_model(context=32_768, hidden=256, ffn=1024, layers=4)
    with Model(path, threads=1) as model:
        yield model


def is_idle(model: Model) -> bool:
    return not model._engine._active and not model._engine._waiting


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Go on."}], **BUSY}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "n"}], "n": 3, **BUSY}),
        ("/v1/completions", {"prompt": "word " * 5_000, **BUSY}),  # it leaves while it is read
        ("/completion", {"prompt": ["one", "two"], "n_predict": -1, "ignore_eos": True}),
    ],
)
def test_leaving_stops_the_model(
    slow_model: Model, path: str, body: dict[str, Any], stream: bool
) -> None:
    app = create_app({"slow": slow_model})

    async def main() -> float:
        client = Client(app)
        visit = client.visit("POST", path, {**body, "stream": stream})
        while is_idle(slow_model):
            assert not visit.task.done(), visit.response.text
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.15)
        assert not visit.task.done(), "the answer was complete too early"
        left = time.perf_counter()
        visit.leave()
        while not is_idle(slow_model):
            await asyncio.sleep(0.001)
        seconds = time.perf_counter() - left
        await asyncio.wait_for(visit.task, 5)
        return seconds

    # The best of a few: this is no measurement of other programs.
    assert min(asyncio.run(main()) for _ in range(2)) < 0.1
    assert app.registry.all[0].users == 0
    assert app.core.metrics.processing == 0


def test_a_client_that_leaves_before_its_body_is_there(app: Any) -> None:
    async def main() -> None:
        visit = Client(app).visit("POST", "/v1/chat/completions", b"{")
        visit._parts = [b"{", b"never sent"]
        visit._parts.pop()
        visit.leave()
        await asyncio.wait_for(visit.task, 5)

    asyncio.run(main())
    assert app.registry.all[0].users == 0


def test_a_reader_that_takes_nothing_is_given_up(slow_model: Model) -> None:
    app = create_app({"slow": slow_model}, body_seconds=0.2)

    async def main() -> None:
        async def stuck(message: Any) -> None:
            await asyncio.sleep(3600)

        visit = Client(app).visit("GET", "/health")
        await visit.task
        parts = [b'{"messages": [{"role": "user", "content": "a"}], "stream": true}']

        async def receive() -> Any:
            if not parts:
                await asyncio.sleep(3600)
            return {"type": "http.request", "body": parts.pop(), "more_body": False}

        scope = {**visit.scope, "method": "POST", "path": "/v1/chat/completions"}
        await asyncio.wait_for(app(scope, receive, stuck), 5)

    asyncio.run(main())
    assert app.registry.all[0].users == 0


def test_keep_alive_comments_while_a_long_prompt_is_read(slow_model: Model) -> None:
    app = create_app({"slow": slow_model}, keep_alive=0.005)
    body = {"prompt": "other words " * 200, "max_tokens": 1, "stream": True}
    response = asyncio.run(Client(app).post("/v1/completions", body))
    assert ": keep-alive\n\n" in response.text
    assert response.events[-1]["choices"][0]["finish_reason"] == "length"


def test_time_limit(slow_model: Model) -> None:
    app = create_app({"slow": slow_model}, request_seconds=0.3)
    body = {"messages": [{"role": "user", "content": "Go on."}], **BUSY}
    response = asyncio.run(Client(app).post("/v1/chat/completions", body))
    assert response.status == 504
    streamed = asyncio.run(Client(app).post("/v1/chat/completions", {**body, "stream": True}))
    assert streamed.status == 200
    assert streamed.events[-1]["error"]["code"] == "timeout"
    assert streamed.complete
