"""A stream that was cancelled has its completion, however it was cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from pyqwen import AsyncStream, Completion, Model

LONG: dict[str, Any] = {"max_tokens": 5000, "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def model(make_tiny_model) -> Iterator[Model]:
    with Model(make_tiny_model(context=8192), threads=1) as model:
        yield model


def check(completion: Completion | None, reason: str | None) -> None:
    assert completion is not None
    assert completion.finish_reason == reason == "cancelled"
    assert len(completion.token_ids) < LONG["max_tokens"]


def test_leaving_the_loop(model: Model) -> None:
    stream = model.stream("Hello", **LONG)
    for _ in stream:
        break
    check(stream.completion, stream.finish_reason)


def test_cancelling_from_another_thread(model: Model) -> None:
    stream = model.stream("Hello", **LONG)
    threading.Timer(0.05, stream.cancel).start()
    for _ in stream:
        pass
    check(stream.completion, stream.finish_reason)


def test_an_exception_in_the_loop(model: Model) -> None:
    stream = model.stream("Hello", **LONG)

    def fail() -> None:
        for chunk in stream:
            raise RuntimeError(chunk.text)

    with pytest.raises(RuntimeError):
        fail()
    check(stream.completion, stream.finish_reason)


async def read(stream: AsyncStream[Completion]) -> None:
    async for _ in stream:
        pass


def test_a_cancelled_task(model: Model) -> None:
    async def main() -> AsyncStream[Completion]:
        stream = model.astream("Hello", **LONG)
        task = asyncio.create_task(read(stream))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        check(stream.completion, stream.finish_reason)
        return stream

    stream = asyncio.run(main())
    check(stream.completion, stream.finish_reason)


def test_a_timeout(model: Model) -> None:
    async def main() -> None:
        stream = model.astream("Hello", **LONG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await read(stream)
        check(stream.completion, stream.finish_reason)

    asyncio.run(main())


def test_the_scope_of_another_library(model: Model) -> None:
    """A cancelled scope of anyio cancels every further ``await`` in it, cleaning up included."""

    async def main() -> None:
        stream = model.astream("Hello", **LONG)
        with anyio.move_on_after(0.05) as scope:
            async with stream:
                await read(stream)
        assert scope.cancelled_caught
        check(stream.completion, stream.finish_reason)

    anyio.run(main)


def test_a_running_stream_has_no_completion_yet(model: Model) -> None:
    with model.stream("Hello", **LONG) as stream:
        next(iter(stream))
        other = model.stream("Hello", **LONG)
        next(other)
        assert other.completion is None
        assert other.finish_reason is None
        other.cancel()
