"""``Model.aopen``, progress of loading and fetching, and contexts of any size."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import pytest

import pyqwen
from pyqwen import CancelledError, Model
from pyqwen.catalog import acquire
from pyqwen.model import OpenOptions


@pytest.mark.parametrize("context", [1, 2, 3, 4])
@pytest.mark.parametrize("max_sequences", [1, 4, 9])
def test_a_context_may_be_smaller_than_the_number_of_sequences(
    tiny_model_path: Path, context: int, max_sequences: int
) -> None:
    with Model(tiny_model_path, context=context, max_sequences=max_sequences) as model:
        done = model.generate([5] * context, max_tokens=3)
        assert (done.usage.prompt_tokens, done.finish_reason) == (context, "length")
        assert model.logits([5]).shape[0] == 1


def test_aopen_takes_what_model_takes() -> None:
    parameters = inspect.signature(Model).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords == OpenOptions.__annotations__.keys()


def test_aopen(tiny_model_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    async def main() -> str:
        def progress(done: int, total: int) -> None:
            seen.append((done, total))

        with await Model.aopen(tiny_model_path, context=64, progress=progress) as model:
            assert model.context == 64
            return (await model.achat("Hi", max_tokens=3)).finish_reason

    assert asyncio.run(main()) == "length"
    assert seen[-1][0] == seen[-1][1]


def test_a_cancelled_aopen_leaves_no_model(tiny_model_path: Path) -> None:
    loading, go_on = threading.Event(), threading.Event()
    outcome: list[bool | None] = []

    async def main() -> None:
        def progress(done: int, total: int) -> None:
            loading.set()
            go_on.wait(10)

        task = asyncio.ensure_future(Model.aopen(tiny_model_path, progress=progress))
        await asyncio.to_thread(loading.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        for _ in range(200):  # the loading ends by itself
            if not any(t.name == "pyqwen-engine" for t in threading.enumerate()):
                outcome.append(True)
                return
            await asyncio.sleep(0.05)

    asyncio.run(main())
    assert outcome == [True]


def test_pull_and_models_report_the_download(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, offline: object, progress: acquire.Progress | None, say: object) -> object:
        assert progress is not None
        progress(1, 2, "model.gguf")
        return type("Fetched", (), {"name": name, "path": tiny_model_path, "license": None})

    monkeypatch.setattr(acquire, "_fetch_named", fetch)
    monkeypatch.setattr(acquire, "_find", lambda name: None)
    seen: list[tuple[int, int]] = []
    assert pyqwen.pull("a-model", progress=lambda *bytes: seen.append(bytes)) == tiny_model_path
    with Model("a-model", download_progress=lambda *bytes: seen.append(bytes)) as model:
        assert model.path == tiny_model_path
    assert seen == [(1, 2), (1, 2)]
    with pytest.raises(CancelledError, match=r"model\.gguf was stopped after 1 of 2 bytes"):
        pyqwen.pull("a-model", progress=lambda done, total: False)
    with pytest.raises(CancelledError, match="stopped"):
        Model("a-model", download_progress=lambda done, total: False)
