"""``pyqwen batch`` killed at random instants, and started again until it is done: each row is there once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_rows import answers, row, text

from pyqwen import Model

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")

Write = Callable[..., Path]
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world")


def start(model: Path, source: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pyqwen", "batch", "-t", "2", "-m", model, source, out]
    return subprocess.Popen([*map(str, command)], cwd=out.parent, stderr=subprocess.DEVNULL)


def lines_of(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def kill_and_resume(model: Path, source: Path, out: Path, rows: int, kills: int, seed: int) -> int:
    """Run to the end, killed so many times before; return how often the last line was torn."""
    chance = random.Random(seed)
    torn = 0
    for left in range(kills, 0, -1):
        before = lines_of(out)
        share = (rows - before) / (left + 1)
        target = before + chance.uniform(0, 2 * share)
        process = start(model, source, out)
        while lines_of(out) < target and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait()
        data = out.read_bytes() if out.exists() else b""
        torn += not data.endswith(b"\n") and bool(data)
        for line in data.splitlines()[: data.count(b"\n")]:
            json.loads(line)  # whole lines are whole
        assert data.count(b"\n") >= before, "rows that were written are gone"
    process = start(model, source, out)
    assert process.wait() == 0
    return torn


def check(model: Path, source: Path, out: Path, rows: list[dict[str, object]]) -> None:
    found = answers(out)
    assert found.keys() == {one["custom_id"] for one in rows}
    assert all(one["error"] is None for one in found.values())
    with Model(model, threads=2) as alone:
        for one in rows[:: max(1, len(rows) // 20)]:
            body = dict(one["body"])  # type: ignore[call-overload]
            reply = alone.chat(body["messages"], temperature=0, max_tokens=body["max_tokens"])
            assert text(found[str(one["custom_id"])]) == reply.text


def test_two_kills(tiny_model_path: Path, write: Write, tmp_path: Path) -> None:
    rows = [row(str(i), f"Number {i}", max_tokens=10, ignore_eos=True) for i in range(150)]
    source, out = write(rows), tmp_path / "out"
    kill_and_resume(tiny_model_path, source, out, len(rows), 2, seed=1)
    assert answers(out).keys() == {str(i) for i in range(150)}


@pytest.mark.slow
@pytest.mark.smollm
@pytest.mark.timeout(3000)
def test_thirty_kills_of_two_thousand_rows(smollm_path: Path, write: Write, tmp_path: Path) -> None:
    chance = random.Random(2)
    rows = [
        row(f"r{i}", f"{i}: {' '.join(chance.choices(WORDS, k=chance.randrange(3, 20)))}")
        for i in range(2000)
    ]
    source, out = write(rows), tmp_path / "out"
    begin = time.monotonic()
    torn = kill_and_resume(smollm_path, source, out, len(rows), 30, seed=3)
    check(smollm_path, source, out, rows)
    print(
        f"2,000 rows, 30 kills, {torn} torn lines, {time.monotonic() - begin:.0f} s: each row once"
    )
