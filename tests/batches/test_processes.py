"""Workers in processes: what they answer, what happens when they die, and how machines are shared out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from batch_rows import answers, row, text

import pyqwen
from pyqwen import Model
from pyqwen.batches import processes
from pyqwen.batches.answering import Answer
from pyqwen.batches.driver import Answered, Driver, Failed, Joined, Lost, Tell
from pyqwen.batches.machine_shares import numa_nodes, shares
from pyqwen.batches.messages import Refusal
from pyqwen.batches.output import BatchOutput
from pyqwen.batches.rows import Row, RowFile

Write = Callable[..., Path]
OPTIONS: dict[str, Any] = {"threads": 2, "parallel": 4, "workers": 2}


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that are started, of which none may be left."""
    started: list[int] = []
    real = subprocess.Popen

    def popen(*args: Any, **options: Any) -> Any:
        process = real(*args, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    yield started
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in started):
        assert time.monotonic() < deadline, "a worker was left behind"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return not Path(f"/proc/{pid}/stat").exists() or " Z " not in Path(
        f"/proc/{pid}/stat"
    ).read_text(errors="replace")


def test_two_processes_answer_as_one(
    tiny_model_path: Path,
    write: Write,
    tmp_path: Path,
    pids: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = write([row(str(i), f"Number {i}") for i in range(40)] + [b"{"])
    result = pyqwen.batch(source, tmp_path / "out", tiny_model_path, **OPTIONS)
    assert (result.rows, result.failed, result.lost_workers) == (41, 1, 0)
    assert len(pids) == 2
    time.sleep(0.2)  # for the threads that saw them end
    assert not caplog.records, "they ended because nothing was left to do"
    found = answers(tmp_path / "out")
    with Model(tiny_model_path, threads=1) as alone:
        for i in (0, 17, 39):
            reply = alone.chat(f"Number {i}", temperature=0, max_tokens=3)
            assert text(found[str(i)]) == reply.text


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_processes_are_started_again(
    tiny_model_path: Path, write: Write, tmp_path: Path, pids: list[int]
) -> None:
    """Three kills while rows are running: each row is answered once."""
    source = write([row(str(i), max_tokens=60, ignore_eos=True) for i in range(120)])
    kills: list[int] = []

    def kill(done: int, total: int) -> None:
        if len(kills) < 3 and done >= 20 * (1 + len(kills)) and is_running(pids[-1]):
            os.kill(pids[-1], signal.SIGKILL)
            kills.append(done)

    result = pyqwen.batch(source, tmp_path / "out", tiny_model_path, progress=kill, **OPTIONS)
    assert len(kills) == 3
    assert result.failed == 0
    assert 1 <= result.lost_workers <= 3  # one may have died before it had joined
    assert len(pids) >= 4
    assert answers(tmp_path / "out").keys() == {str(i) for i in range(120)}


def test_a_model_that_cannot_be_opened_is_the_error(
    make_tiny_model: Callable[..., Path], write: Write, tmp_path: Path, pids: list[int]
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF, it says")
    with pytest.raises(pyqwen.UnsupportedModelError, match="bad"):
        pyqwen.batch(write([row("a")]), tmp_path / "out", path, **OPTIONS)
    with pytest.raises(pyqwen.ModelNotFoundError):
        pyqwen.batch(write([row("a")]), tmp_path / "out", tmp_path / "no.gguf", **OPTIONS)


def test_processes_that_end_at_once(
    tiny_model_path: Path, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "command", lambda: [sys.executable, "-c", "exit(7)"])
    with pytest.raises(pyqwen.PyQwenError, match="exit code 7"):
        pyqwen.batch(write([row("a")]), tmp_path / "out", tiny_model_path, **OPTIONS)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_workers_end_with_a_driver_that_is_killed(
    tiny_model_path: Path, write: Write, tmp_path: Path
) -> None:
    source = write([row(str(i), max_tokens=400, ignore_eos=True) for i in range(200)])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pyqwen", "batch", "-m", tiny_model_path, "--workers", "2"]
    driver = subprocess.Popen([*map(str, command), str(source), str(out)], cwd=tmp_path)
    try:
        while not out.exists() or out.read_bytes().count(b"\n") < 2:
            assert driver.poll() is None
            time.sleep(0.01)
        children = [
            int(pid)
            for task in Path(f"/proc/{driver.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
        assert len(children) == 2
    finally:
        driver.kill()
        driver.wait()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in children):
        assert time.monotonic() < deadline, "a worker outlived its driver"
        time.sleep(0.02)


# -------------------------------------------------------- the driver, with workers that are played


class Played:
    """A pool whose workers do what a function says: answer, die, or stay silent."""

    def __init__(self, act: Callable[[Played, str, Row], None], capacity: int = 4) -> None:
        self.act, self.capacity = act, capacity
        self.sent: list[tuple[str, int]] = []
        self.running: dict[str, list[Row]] = {}
        self.number = 0
        self.closed = False

    def start(self, tell: Tell) -> None:
        self.tell = tell
        self.join()
        self.join()

    def join(self) -> None:
        self.number += 1
        name = f"w{self.number}"
        self.running[name] = []
        self.tell(Joined(name, self.capacity))

    def send(self, worker: str, row: Row) -> None:
        if worker in self.running:
            self.sent.append((worker, row.number))
            self.running[worker].append(row)
            self.act(self, worker, row)

    def answer(self, worker: str, row: Row) -> None:
        line = b'{"id":"%s","custom_id":null,"response":null,"error":null}' % row.id.encode()
        self.running.get(worker, []).remove(row)
        self.tell(Answered(worker, Answer(row.number, line, False)))

    def die(self, worker: str) -> None:
        del self.running[worker]
        self.tell(Lost(worker, "played"))
        self.join()

    def close(self) -> None:
        self.closed = True


class Silent:
    def begin(self, rows: RowFile, output: BatchOutput) -> None:
        pass

    def note(self, state: Any) -> None:
        pass


def play(write: Write, tmp_path: Path, pool: Played, rows: int) -> tuple[Any, list[str]]:
    source = write([row(str(i), f"Number {i}") for i in range(rows)])
    with RowFile(source) as file, BatchOutput(tmp_path / "out", file, model="m") as output:
        state = Driver(file, output, lambda: pool, Silent()).run()
        names = [file.ids[i] for i in range(rows)]
    lines = (tmp_path / "out").read_text().splitlines()
    found = [next(name for name in names if f'"{name}"' in line) for line in lines]
    assert sorted(found) == sorted(names), "each row once"
    assert pool.closed
    return state, lines


def test_a_row_that_ends_workers_is_found_out(write: Write, tmp_path: Path) -> None:
    """Row 13 ends every worker that has it; all others are answered, those beside it, too."""

    def act(pool: Played, worker: str, row: Row) -> None:
        if row.number == 13:
            pool.die(worker)
        else:
            pool.answer(worker, row)

    pool = Played(act)
    state, lines = play(write, tmp_path, pool, 40)
    assert (state.done, state.failed) == (40, 1)
    (bad,) = [line for line in lines if "worker_lost" in line]
    assert '"custom_id":"13"' in bad
    assert state.lost == sum(number == 13 for _, number in pool.sent) <= 5


def test_those_beside_it_are_no_suspects_for_long(write: Write, tmp_path: Path) -> None:
    """Workers hold their rows until they have four; the one with row 13 dies with three others."""

    def act(pool: Played, worker: str, row: Row) -> None:
        if any(one.number == 13 for one in pool.running[worker]):
            pool.die(worker)
        for name, rows in list(pool.running.items()):
            for one in list(rows) if len(rows) == 4 or pool.number > 3 else ():
                pool.answer(name, one)

    state, _ = play(write, tmp_path, Played(act), 39)
    assert (state.done, state.failed) == (39, 1)


def test_an_answer_of_a_worker_that_was_lost_counts_once(write: Write, tmp_path: Path) -> None:
    """It comes late, when its row is given out again, or answered by another worker."""
    late: list[tuple[str, Row]] = []

    def act(pool: Played, worker: str, row: Row) -> None:
        if row.number % 5 == 0 and not any(one.number == row.number for _, one in late):
            late.append((worker, row))
            pool.tell(Lost(worker, "out of reach"))
            pool.join()
            if row.number % 2:  # it comes before its row is taken up again
                line = (
                    b'{"id":"%s","custom_id":null,"response":null,"error":null}' % row.id.encode()
                )
                pool.tell(Answered(worker, Answer(row.number, line, False)))
            return
        pool.answer(worker, row)
        for worker, row in late:
            line = b'{"id":"%s","custom_id":null,"response":null,"error":null}' % row.id.encode()
            pool.tell(Answered(worker, Answer(row.number, line, False)))

    state, _ = play(write, tmp_path, Played(act), 30)
    assert (state.done, state.failed) == (30, 0)


def test_stretches_keep_what_begins_alike_on_one_worker(write: Write, tmp_path: Path) -> None:
    pool = Played(lambda pool, worker, row: pool.answer(worker, row), capacity=2)
    play(write, tmp_path, pool, 400)
    changes = sum(a[0] != b[0] for a, b in pairwise(pool.sent))
    order = sorted(range(len(pool.sent)), key=lambda i: pool.sent[i][1])
    workers = [pool.sent[i][0] for i in order]
    pieces = 1 + sum(a != b for a, b in pairwise(workers))
    assert changes > 20, "both worked"
    assert pieces < 60
    shares_of = [workers.count(name) for name in ("w1", "w2")]
    assert min(shares_of) > 150


def test_a_slow_worker_gives_up_what_it_has_not_begun(write: Write, tmp_path: Path) -> None:
    """The first worker answers nothing until all the rest is done by the other."""

    def act(pool: Played, worker: str, row: Row) -> None:
        if worker == "w2":
            pool.answer(worker, row)
            if len(pool.sent) == 100:
                for one in list(pool.running["w1"]):
                    pool.answer("w1", one)

    pool = Played(act, capacity=3)
    state, _ = play(write, tmp_path, pool, 100)
    assert (state.done, state.failed) == (100, 0)
    assert [name for name, _ in pool.sent].count("w1") == 3


def test_without_workers_there_is_no_batch(write: Write, tmp_path: Path) -> None:
    def act(pool: Played, worker: str, row: Row) -> None:
        if pool.sent == [("w1", 0)]:
            pool.tell(Failed(pyqwen.PyQwenError("all are gone")))

    with pytest.raises(pyqwen.PyQwenError, match="all are gone"):
        play(write, tmp_path, Played(act), 3)


# ----------------------------------------------------------------------------- shares of a machine


def test_numa_nodes_are_read(tmp_path: Path) -> None:
    if not hasattr(os, "sched_getaffinity"):
        assert numa_nodes(tmp_path) == []
        return
    mine = sorted(os.sched_getaffinity(0))
    for name, processors in (
        ("node0", f"{mine[0]}"),
        ("node10", f"{mine[-1]}"),
        ("node2", "900-903"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpulist").write_text(processors + "\n")
    assert numa_nodes(tmp_path) == [{mine[0]}, {mine[-1]}]
    assert numa_nodes(tmp_path / "none") == []


def test_shares() -> None:
    nodes = [{0, 1, 2, 3}, {4, 5, 6, 7}]
    assert [(s.processors, s.threads) for s in shares(2, 8, nodes)] == [
        ((0, 1, 2, 3), 4),
        ((4, 5, 6, 7), 4),
    ]
    assert [s.threads for s in shares(3, 8, [])] == [2, 3, 3]
    assert [s.threads for s in shares(4, 2, [])] == [1, 1, 1, 1]
    assert [s.processors for s in shares(2, 8, nodes[:1])] == [None, None]
    assert [s.processors for s in shares(1, 8, nodes)] == [None]
    assert [s.threads for s in shares(4, 10, nodes)] == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pyqwen.ModelFormatError("a"), pyqwen.ModelFormatError),
        (ValueError("a"), ValueError),
        (RuntimeError("a"), pyqwen.PyQwenError),
    ],
)
def test_errors_of_workers_are_those_of_the_caller(error: Exception, kind: type) -> None:
    made = Refusal.of(error).error()
    assert type(made) is kind
    assert "a" in str(made)
