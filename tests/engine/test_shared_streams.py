"""One stream used by several threads or tasks: its end ends the wait of all of them."""

import asyncio
import threading
import time

import pytest

import pyqwen
from pyqwen import Model

IDS = list(range(40, 60))
ENDLESS = {"max_tokens": 100_000, "ignore_eos": True}
SOON = 5  # far below what the answer would take; a wait without an end fails here


@pytest.fixture
def model(make_tiny_model):
    """A model with a context that takes long to fill."""
    with Model(make_tiny_model(context=32768), threads=1) as model:
        yield model


class _Reader(threading.Thread):
    """Iterates over a stream; ``ended`` says how that came to its end."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.chunks, self.ended = stream, [], None
        self.start()

    def run(self):
        try:
            for chunk in self.stream:
                self.chunks.append(chunk)
            self.ended = "whole"
        except pyqwen.PyQwenError as error:
            self.ended = error

    def end(self):
        self.join(SOON)
        assert not self.is_alive(), "a thread waits for an event that another one took"
        return self.ended


def _wait_for_chunks(*readers):
    deadline = time.monotonic() + SOON
    while not all(reader.chunks for reader in readers):
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("repeat", range(5))
def test_close_ends_the_thread_that_iterates(model, repeat):
    stream = model.stream(IDS, **ENDLESS)
    reader = _Reader(stream)
    _wait_for_chunks(reader)
    closer = threading.Thread(target=stream.close, daemon=True)
    closer.start()
    assert reader.end() == "whole"
    closer.join(SOON)
    assert not closer.is_alive()
    assert stream.completion.finish_reason == "cancelled"


def test_two_threads_share_the_chunks(model):
    stream = model.stream(IDS, max_tokens=300, ignore_eos=True)
    readers = [_Reader(stream), _Reader(stream)]
    assert [reader.end() for reader in readers] == ["whole", "whole"]
    tokens = [token for reader in readers for chunk in reader.chunks for token in chunk.token_ids]
    assert sorted(tokens) == sorted(stream.completion.token_ids)
    assert len(tokens) == 300


def test_closing_the_model_ends_all_threads(model):
    stream = model.stream(IDS, **ENDLESS)
    readers = [_Reader(stream) for _ in range(3)]
    _wait_for_chunks(readers[0])
    model.close()
    assert all(isinstance(reader.end(), pyqwen.CancelledError) for reader in readers)


@pytest.mark.parametrize("method", ["_plan_step", "_use_outputs"])
def test_a_worker_that_dies_ends_all_threads(model, monkeypatch, method):
    def fail(*_arguments):
        raise AssertionError("a bug of this test")

    stream = model.stream(IDS, **ENDLESS)
    waiting = [model.stream(IDS, **ENDLESS) for _ in range(5)]
    readers = [_Reader(stream), _Reader(stream), *map(_Reader, waiting)]
    _wait_for_chunks(readers[0])
    monkeypatch.setattr(model._engine, method, fail)
    for reader in readers:
        assert "a bug of this test" in str(reader.end())
    with pytest.raises(pyqwen.ClosedError):
        model.generate(IDS)
    assert model.kv_bytes == 0


async def _ended(*tasks):
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SOON)


async def _read(stream, chunks):
    async for chunk in stream:
        chunks.append(chunk)


def test_async_close_ends_the_task_that_iterates(model):
    async def main():
        stream, chunks = model.astream(IDS, **ENDLESS), []
        task = asyncio.create_task(_read(stream, chunks))
        while not chunks:
            await asyncio.sleep(0.001)
        await asyncio.wait_for(stream.close(), SOON)
        assert await _ended(task) == [None]
        return stream.finish_reason

    assert asyncio.run(main()) == "cancelled"


def test_two_tasks_share_the_chunks(model):
    async def main():
        stream = model.astream(IDS, max_tokens=300, ignore_eos=True)
        chunks = []
        assert await _ended(*(_read(stream, chunks) for _ in range(2))) == [None, None]
        assert sum(len(chunk.token_ids) for chunk in chunks) == 300
        assert (await stream.result()).finish_reason == "length"

    asyncio.run(main())


def test_closing_the_model_ends_all_tasks(model):
    async def main():
        stream, chunks = model.astream(IDS, **ENDLESS), []
        tasks = [asyncio.create_task(_read(stream, chunks)) for _ in range(2)]
        while not chunks:
            await asyncio.sleep(0.001)
        model.close()
        return await _ended(*tasks)

    assert [type(error) for error in asyncio.run(main())] == [pyqwen.CancelledError] * 2
