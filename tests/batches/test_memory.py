"""Rows wait for room in memory, in their order; one that is too large for all of it runs alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_rows import answers, row

import pyqwen
from pyqwen import Model
from pyqwen.batches.memory import Room, most_tokens, room_for


def test_what_a_row_may_come_to() -> None:
    assert most_tokens(b'{"max_tokens": 50, "prompt": "' + b"x" * 300 + b'"}', 1000) == 50 + 110
    assert most_tokens(b'{"max_tokens": 50, "max_completion_tokens": 10}', 1000) == 10 + 15
    assert most_tokens(b'{"max_output_tokens": 0}', 1000) == 8
    assert most_tokens(b"{}", 1000) == 1000
    assert most_tokens(b'{"n": 3, "max_tokens": -1}', 1000) == 3000
    assert most_tokens(b'{"n": "x"}', 1000) == 0
    assert most_tokens(b"{", 1000) == 0


def test_rows_enter_in_their_order() -> None:
    async def play() -> list[str]:
        room, entered = Room(100), []

        async def run(name: str, tokens: int) -> None:
            await room.enter(tokens)
            entered.append(name)

        tasks = {
            name: asyncio.ensure_future(run(name, tokens))
            for name, tokens in (("a", 60), ("b", 30), ("c", 20), ("huge", 900), ("d", 1), ("e", 1))
        }
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert entered == ["a", "b"]
        room.leave(30)
        await asyncio.sleep(0)
        assert entered == ["a", "b", "c"]
        tasks["d"].cancel()
        room.leave(60)
        await asyncio.sleep(0)
        assert entered == ["a", "b", "c"], "the huge one waits for all"
        room.leave(20)
        await asyncio.sleep(0)
        assert entered == ["a", "b", "c", "huge"], "and is alone"
        room.leave(900)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return entered

    assert asyncio.run(play()) == ["a", "b", "c", "huge", "e"]


def test_little_memory_makes_rows_wait(
    tiny_model_path: Path,
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With room for one context, rows of most of it run one after the other, and small ones together."""
    monkeypatch.setattr("pyqwen.batches.memory.machine", lambda: {"available_bytes": 0})
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    real = Model.achat_n

    async def counted(self: Model, messages: Any, n: int, **options: Any) -> Any:
        kind = "large" if options["max_tokens"] > 100 else "small"
        running[kind] += 1
        most[kind] = max(most[kind], running[kind])
        try:
            return await real(self, messages, n, **options)
        finally:
            running[kind] -= 1

    monkeypatch.setattr(Model, "achat_n", counted)
    rows = [row(f"s{i}", f"{i}", max_tokens=3) for i in range(12)]
    rows += [row(f"l{i}", f"{'x' * 100}{i}", max_tokens=400) for i in range(4)]
    with Model(tiny_model_path, threads=1) as model:
        assert room_for(model) == model.context
        assert pyqwen.batch(write(rows), tmp_path / "out", model).failed == 0
    assert len(answers(tmp_path / "out")) == 16
    assert most["large"] == 1
    assert most["small"] > 2
