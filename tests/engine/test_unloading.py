"""``unload_after``: an idle model gives its memory back, and answers as if nothing had been."""

import asyncio
import gc
import os
import shutil
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pyqwen
from pyqwen import Model, _native
from pyqwen.loading import packed_cache

IDS = list(range(40, 90))
GREEDY = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}


@pytest.fixture
def path(make_tiny_model, tmp_path):
    """A model of some megabytes that tests may change."""
    made = make_tiny_model(tied=False, layers=3, hidden=512, ffn=2048, context=2048)
    return Path(shutil.copy2(made, tmp_path / "model.gguf"))


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.002)


def wait_until_unloaded(model):
    wait_for(lambda: not model.loaded)


def is_open(path):
    """Whether this process maps the file or has a descriptor of it."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    opened = [str(link.readlink()) for link in links if link.is_symlink()]
    return str(path) in opened or str(path) in Path("/proc/self/maps").read_text()


def test_the_same_answers_and_nothing_cached(path):
    with Model(path) as kept:
        expected = kept.generate(IDS, **GREEDY)
        assert kept.generate(IDS, **GREEDY).usage.cached_tokens == len(IDS) - 1
        logits = kept.logits(IDS)
    with Model(path, unload_after=0.01) as model:
        for _ in range(3):
            wait_until_unloaded(model)
            assert model.kv_bytes == 0
            reply = model.generate(IDS, **GREEDY)
            assert reply.token_ids == expected.token_ids
            assert reply.usage.cached_tokens == 0
        wait_until_unloaded(model)
        assert model.logits(IDS).tobytes() == logits.tobytes()
        wait_until_unloaded(model)
        assert model.chat("Hello", max_tokens=3).usage.completion_tokens <= 3  # renders a template
        assert model.chat_template.source
        assert not model.closed
    assert model.closed
    with pytest.raises(pyqwen.ClosedError):
        model.generate(IDS)


def test_it_is_kept_while_it_is_used(path):
    with Model(path, unload_after=0.5) as model:
        for _ in range(8):
            assert model.loaded
            reply = model.generate(IDS, **GREEDY)
            time.sleep(0.01)
        assert reply.usage.cached_tokens == len(IDS) - 1


def test_it_comes_from_the_packed_cache(path, tmp_path, monkeypatch):
    if _native.isas().keys() == {"scalar"}:
        pytest.skip("the scalar kernels take rows as they are")
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packed_cache, "SMALLEST", 0)
    with Model(path, unload_after=0.0) as model:
        assert model._residence.writer is not None
        expected = model.generate(IDS, **GREEDY).token_ids
        wait_until_unloaded(model)  # not before the cache was written, which would take a second
        (file,) = (tmp_path / "cache" / "packed").glob("*.packed")
        assert model.generate(IDS, **GREEDY).token_ids == expected
        assert model._residence.writer is None  # nothing to write: it was mapped
        wait_until_unloaded(model)
        file.unlink()  # by `pyqwen rm`, for example
        assert model.generate(IDS, **GREEDY).token_ids == expected
        assert model._residence.writer is not None


@pytest.mark.parametrize("load", ["mmap", "copy"])
def test_the_file_is_closed_meanwhile(path, load):
    with Model(path, unload_after=0.0, load=load) as model:
        wait_until_unloaded(model)
        if sys.platform == "linux":
            wait_for(lambda: not is_open(path))
        assert model.generate(IDS, **GREEDY).token_ids


def test_a_file_that_vanished_or_changed(path, tmp_path):
    with Model(path, unload_after=0.0) as model:
        wait_until_unloaded(model)
        elsewhere = path.rename(tmp_path / "elsewhere.gguf")
        for _ in range(2):
            with pytest.raises(pyqwen.ModelNotFoundError, match=r"model\.gguf was removed while"):
                model.generate(IDS, **GREEDY)
        with pytest.raises(pyqwen.ModelNotFoundError, match="unload_after"):
            list(model.stream_chat("Hello"))
        elsewhere.rename(path)
        assert model.generate(IDS, **GREEDY).token_ids  # nothing was lost
        wait_until_unloaded(model)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        with pytest.raises(pyqwen.ModelChangedError, match=r"model\.gguf was changed while"):
            model.generate(IDS, **GREEDY)


def test_a_relative_path_and_another_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with Model(path.name, unload_after=0.0) as model:
        wait_until_unloaded(model)
        (tmp_path / "folder").mkdir()
        monkeypatch.chdir(tmp_path / "folder")
        assert model.generate(IDS, **GREEDY).token_ids


def test_all_that_wait_get_the_error(path):
    with Model(path, unload_after=0.0) as model, ThreadPoolExecutor(6) as pool:
        wait_until_unloaded(model)
        path.unlink()
        calls = [pool.submit(model.generate, IDS, **GREEDY) for _ in range(6)]
        for call in calls:
            assert isinstance(call.exception(30), pyqwen.ModelNotFoundError)


def slow_to_load(model, monkeypatch, seconds=20.0):
    """Make the next load take its time, as that of a large model would; return when it has begun."""
    begun = threading.Event()
    load = model._residence.load

    def slowly(progress):
        begun.set()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if progress(0, 1) is False:
                raise pyqwen.CancelledError("loading was cancelled")
            time.sleep(0.005)
        return load(progress)

    monkeypatch.setattr(model._residence, "load", slowly)
    return begun


def test_cancelling_and_closing_while_it_is_loaded(path, monkeypatch):
    with Model(path, unload_after=0.0) as model:
        wait_until_unloaded(model)
        begun = slow_to_load(model, monkeypatch)
        stream, other = model.stream(IDS, **GREEDY), model.stream(IDS, **GREEDY)
        assert begun.wait(10)
        start = time.monotonic()
        stream.cancel()  # the other one is still wanted
        assert stream.result().finish_reason == "cancelled"
        other.cancel()
        assert other.result().finish_reason == "cancelled"
        assert time.monotonic() - start < 1.0
        assert not model.loaded
        waiting = model.stream(IDS, **GREEDY)
        time.sleep(0.05)
        start = time.monotonic()
        model.close()
        assert time.monotonic() - start < 1.0
        with pytest.raises(pyqwen.CancelledError):
            waiting.result()


def test_asyncio(path, monkeypatch):
    async def main():
        with Model(path, unload_after=0.0) as model:
            first = await model.agenerate(IDS, **GREEDY)
            wait_until_unloaded(model)
            again = await asyncio.gather(*(model.agenerate(IDS, **GREEDY) for _ in range(5)))
            assert all(reply.token_ids == first.token_ids for reply in again)
            wait_until_unloaded(model)
            begun = slow_to_load(model, monkeypatch)
            task = asyncio.create_task(model.agenerate(IDS, **GREEDY))
            assert await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            start = time.monotonic()
            model.close()
            assert time.monotonic() - start < 1.0

    asyncio.run(main())


def test_letting_go_and_closing_of_an_unloaded_model(path):
    model = Model(path, unload_after=0.0)
    wait_until_unloaded(model)
    gone = weakref.ref(model)
    del model
    assert gone() is None
    with Model(path, unload_after=0.0) as model:
        wait_until_unloaded(model)
    model.close()


def test_many_threads_that_come_and_go(path):
    """Requests at all moments of unloading and loading."""
    with Model(path) as kept:
        expected = kept.generate(IDS, **GREEDY).token_ids
    with Model(path, unload_after=0.0, threads=2) as model, ThreadPoolExecutor(4) as pool:

        def ask(i):
            time.sleep(i % 7 * 0.001)
            return model.generate(IDS, **GREEDY).token_ids

        assert all(ids == expected for ids in pool.map(ask, range(120)))


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True, [1]])
def test_wrong_times(tiny_model_path, value):
    with pytest.raises((TypeError, ValueError), match="unload_after"):
        Model(tiny_model_path, unload_after=value)


# ------------------------------------------------------------------------------- several in one process


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_models_share_the_pool(path, tiny_model_path):
    def threads():
        return sum(1 for _ in Path("/proc/self/task").iterdir())

    with Model(tiny_model_path, threads=3) as warm:  # whatever threads there are once for all
        expected = warm.generate(IDS, **GREEDY).token_ids
        before = threads()
        with Model(path, threads=3, unload_after=60) as second, ThreadPoolExecutor(2) as pool:
            other = second.generate(IDS, **GREEDY).token_ids
            assert threads() == before + 1  # the engine of the second model
            both = [
                pool.submit(model.generate, IDS, **GREEDY)
                for _ in range(10)
                for model in (warm, second)
            ]
            answers = [call.result().token_ids for call in both]
            assert threads() == before + 1 + 2  # the executor's
            assert answers == [expected, other] * 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_where_it_was(path):
    def resident():
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def rounds(n):
        for _ in range(n):
            with Model(path, unload_after=0.0) as model:
                for _ in range(2):
                    model.chat("Hello", max_tokens=8)
                    wait_until_unloaded(model)

    size = path.stat().st_size
    assert size > 8_000_000
    rounds(4)
    before = resident()
    rounds(20)
    assert resident() - before < size / 4  # of 60 loads
