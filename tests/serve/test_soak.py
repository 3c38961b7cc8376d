"""Many clients at once, good and bad ones: nothing leaks, no place stays taken, answers are as they were."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import sys
from typing import Any

import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import create_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="reads the resource usage of POSIX"),
]

BODIES: list[tuple[str, Any]] = [
    ("/v1/chat/completions", b"{"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "word " * 3000}]}),
    ("/v1/chat/completions", {"messages": [[]]}),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "a"}], "grammar": "root ::= ("},
    ),
    ("/v1/completions", {"prompt": [10**12]}),
    ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": {"a": 1}}]}),
    ("/api/chat", {"model": "tiny", "messages": [{"role": "king"}]}),
    ("/v1/responses", {"input": [{"type": "function_call", "arguments": "{"}]}),
    ("/nothing", b"\xff" * 1000),
]


def good_body(number: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"Number {number % 40}"}],
        "seed": number % 40,
        "temperature": 1.1,
        "max_tokens": 12,
    }


def text_of(response: Any, stream: bool) -> str:
    if not stream:
        return str(response.json["choices"][0]["message"]["content"])
    return "".join(
        event["choices"][0]["delta"].get("content") or ""
        for event in response.events
        if event["choices"]
    )


async def visit(client: Client, number: int, chance: random.Random, alone: dict[int, str]) -> None:
    kind = chance.random()
    if kind < 0.15:
        path, body = chance.choice(BODIES)
        response = await client.post(path, body)
        assert 400 <= response.status < 500, (path, response.text)
        return
    stream = chance.random() < 0.5
    body = {**good_body(number), "stream": stream}
    if kind < 0.5:
        body |= {"max_tokens": 400, "ignore_eos": True}
        one = client.visit("POST", "/v1/chat/completions", body)
        await asyncio.sleep(chance.random() * 0.05)
        one.leave()
        await asyncio.wait_for(one.task, 30)
        return
    response = await client.post("/v1/chat/completions", body)
    assert response.status == 200, response.text
    assert text_of(response, stream) == alone[number % 40]


def test_two_thousand_requests(model: Model) -> None:
    app = create_app({"tiny": model}, queue=1000)

    async def wave(numbers: range, seed: int, alone: dict[int, str]) -> None:
        client, chance = Client(app), random.Random(seed)
        places = asyncio.Semaphore(24)

        async def one(number: int) -> None:
            async with places:
                await visit(client, number, chance, alone)

        await asyncio.gather(*(one(number) for number in numbers))

    def counts() -> tuple[int, int]:
        gc.collect()
        return len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def main() -> tuple[tuple[int, int], tuple[int, int]]:
        client = Client(app)
        alone = {}
        for number in range(40):
            response = await client.post("/v1/chat/completions", good_body(number))
            alone[number] = text_of(response, False)
        await wave(range(600), 1, alone)
        before = counts()
        await wave(range(600, 2000), 2, alone)
        assert len(asyncio.all_tasks()) == 1
        return before, counts()

    (objects, peak), (objects_then, peak_then) = asyncio.run(main())
    assert app.registry.all[0].users == 0
    assert app.core.metrics.processing == 0
    assert not model._engine._active
    assert objects_then - objects < 10_000  # six for each request would be more
    assert peak_then - peak < 24 * 1024  # KiB; the allocator's pools settle meanwhile
