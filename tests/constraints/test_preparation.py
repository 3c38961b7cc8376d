"""Compiling happens beside the event loop and the engine; it can be cancelled, is limited, leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyqwen import CancelledError, ClosedError, Constraint, Model
from pyqwen.constraints import grammars
from pyqwen.errors import ConstraintError

SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Lets compilations begin, and end when the event is set."""
    go_on = threading.Event()
    compile_constraint = grammars.compile_constraint

    def waiting(*args: Any) -> Any:
        go_on.wait(20)
        return compile_constraint(*args)

    monkeypatch.setattr(grammars, "compile_constraint", waiting)
    return go_on


def fresh(name: str) -> Constraint:
    return Constraint.json({"type": "object", "properties": {name: {"type": "boolean"}}})


def test_an_event_loop_goes_on(model: Model, slow: threading.Event) -> None:
    async def main() -> None:
        stream = model.astream_chat("x", response_format=fresh("loop"), max_tokens=5)
        answer = asyncio.create_task(model.achat("x", response_format=fresh("loop2"), max_tokens=5))
        beats = 0
        for _ in range(20):
            await asyncio.sleep(0.005)
            beats += 1
        assert beats == 20
        assert model.generate("x", max_tokens=2).usage.completion_tokens  # the engine does, too
        slow.set()
        assert (await stream.result()).text.startswith("{")
        assert (await answer).text.startswith("{")

    asyncio.run(main())


def test_cancelled_while_compiling(model: Model, slow: threading.Event) -> None:
    stream = model.stream_chat("x", response_format=fresh("c1"))
    start = time.monotonic()
    stream.cancel()
    done = stream.result()
    assert time.monotonic() - start < 2  # it is at once, if the machine is not busy
    assert (done.finish_reason, done.text, done.parsed) == ("cancelled", "", None)

    async def main() -> None:
        task = asyncio.create_task(model.achat("x", response_format=fresh("c2")))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = model.astream("x", response_format=fresh("c3"))
        stream.cancel()
        assert (await stream.result()).finish_reason == "cancelled"

    asyncio.run(main())
    slow.set()
    deadline = time.monotonic() + 20
    while any(t.name == "pyqwen-preparation" for t in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not model._engine._active
    assert not model._engine._waiting


def test_closed_while_compiling(tiny_model_path: Path, slow: threading.Event) -> None:
    model = Model(tiny_model_path, threads=1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(model.chat, "x", response_format=SCHEMA)
        time.sleep(0.05)
        model.close()
        slow.set()
        with pytest.raises((ClosedError, CancelledError)):
            answer.result(20)


def test_cancelled_while_writing(model: Model) -> None:
    expected = model.chat("x", response_format={"type": "array"}, seed=5, max_tokens=100)
    for wanted in (1, 3):
        with model.stream_chat("x", response_format={"type": "array"}, seed=5) as stream:
            for i, _ in enumerate(stream):
                if i == wanted:
                    break
        assert stream.finish_reason in ("cancelled", "stop")
        assert expected.text.startswith(stream.completion.text[:10])
    again = model.chat("x", response_format={"type": "array"}, seed=5, max_tokens=100)
    assert again.token_ids == expected.token_ids


HOSTILE: dict[str, Any] = {
    "5,000 properties": {"properties": {f"p{i}": {"type": "string"} for i in range(5000)}},
    "100,000 values": {"enum": [f"value {i}" for i in range(100_000)]},
    "products": {
        "allOf": [
            {"anyOf": [{"properties": {f"a{i}": {"type": kind}}} for kind in ("string", "integer")]}
            for i in range(12)
        ]
    },
    "itself": {"$ref": "#"},
    "many schemas": {"anyOf": [{"items": {"items": {"const": i}}} for i in range(10_000)]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_errors_in_time(model: Model, name: str) -> None:
    model.chat("x", response_format=SCHEMA, max_tokens=1)  # the vocabulary is there
    start = time.process_time()
    with pytest.raises(ConstraintError):
        model.chat("x", response_format=HOSTILE[name], max_tokens=1)
    assert time.process_time() - start < 1.5  # a second on a machine that is not busy


def test_deep_schemas_are_errors(model: Model) -> None:
    for depth in (200, 3000):
        schema: Any = {"type": "integer"}
        for _ in range(depth):
            schema = {"type": "array", "items": schema}
        with pytest.raises(ConstraintError):
            model.chat("x", response_format=schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 100_000},
        {"type": "array", "minItems": 100_000},
        {"type": "string", "pattern": "^(a?){2000}$"},
        {"type": "number"},
    ],
)
def test_endless_answers_are_cut(model: Model, schema: Any) -> None:
    completion = model.chat("x", response_format=schema, max_tokens=20, seed=2)
    assert completion.finish_reason in ("length", "stop")
    assert completion.finish_reason == "stop" or completion.parsed is None


def test_few_grammars_are_kept(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "_MOST_GRAMMARS", 3)
    for i in range(6):
        model.chat("x", response_format=fresh(f"kept{i}"), max_tokens=1)
    assert len(model._grammars._compiled) == 3
    assert model._grammars.find(fresh("kept5")) is not None
    assert model._grammars.find(fresh("kept2")) is None
    monkeypatch.setattr(grammars, "_MOST_TEXT", 10)
    model.chat("x", response_format=fresh("alone"), max_tokens=1)
    assert len(model._grammars._compiled) == 1


def test_one_compiles_for_all(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    compile_constraint = grammars.compile_constraint

    def counting(constraint: Constraint, build: Any) -> Any:
        compiled.append(constraint)
        time.sleep(0.05)
        return compile_constraint(constraint, build)

    monkeypatch.setattr(grammars, "compile_constraint", counting)
    wanted = fresh("shared")
    with ThreadPoolExecutor(8) as pool:
        texts = list(
            pool.map(
                lambda _: model.chat("x", response_format=wanted, seed=1, max_tokens=9), range(8)
            )
        )
    assert len({done.text for done in texts}) == 1
    assert compiled == [wanted]
    assert not model._grammars._turns


def threads() -> int:
    return sum(thread.name == "pyqwen-masks" for thread in threading.enumerate())


def test_nothing_is_left(tiny_model_path: Path) -> None:
    before = threads()
    for _ in range(2):
        with Model(tiny_model_path, threads=1) as model:
            model.chat("x", response_format=SCHEMA, max_tokens=30)
            assert threads() == before + 1
        deadline = time.monotonic() + 20
        while threads() > before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        del model
    gc.collect()


def test_memory_of_many_answers_and_schemas(model: Model) -> None:
    """Matchers, masks and grammars are freed."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def work(n: int) -> None:
        for i in range(n):
            model.chat("x", response_format=fresh(f"m{i % 100}"), max_tokens=4, seed=i)

    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux says how much memory is resident")
    work(150)
    before = resident()
    work(300)
    assert resident() - before < 15 * 2**20
