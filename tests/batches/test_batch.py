"""``pyqwen.batch`` in one process: every kind of row, and what a second start finds."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_rows import URL, answers, row, text

import pyqwen
from pyqwen import CancelledError, Model

Write = Callable[..., Path]


def test_answers_are_those_of_the_model(model: Model, write: Write, tmp_path: Path) -> None:
    """Of every url, beside each other, and as the model alone would give them."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    rows = [
        row("chat", "One"),
        row("several", "One", n=3, seed=5, temperature=1.0),
        row("form", "One", response_format={"type": "json_object"}, max_tokens=30),
        row("tools", "One", tools=[tool], tool_choice="required", max_tokens=60),
        row("plain", url="/v1/completions", prompt="The quick", max_tokens=4),
        row("two", url="/v1/completions", prompt=["The", "She"], logprobs=1, echo=True),
        row("responses", url="/v1/responses", input="One"),
        *(row(f"more {i}", f"Number {i}") for i in range(20)),
    ]
    result = pyqwen.batch(write(rows), tmp_path / "out", model, name="tiny")
    found = answers(tmp_path / "out")
    assert found.keys() == {one["custom_id"] for one in rows}
    for one in found.values():
        assert one["error"] is None
        assert one["id"].startswith("batch_req_")
        assert one["response"]["status_code"] == 200
        assert one["response"]["request_id"]
        assert one["response"]["body"]["model"] == "tiny"
    assert (result.rows, result.failed, result.found, result.lost_workers) == (27, 0, 0, 0)
    greedy: dict[str, Any] = {"temperature": 0, "max_tokens": 3}
    for name, content in (("chat", "One"), ("more 7", "Number 7"), ("more 19", "Number 19")):
        assert text(found[name]) == model.chat(content, **greedy).text
    several = found["several"]["response"]["body"]["choices"]
    alone = [model.chat("One", temperature=1.0, max_tokens=3, seed=5 + i).text for i in range(3)]
    assert [choice["message"]["content"] for choice in several] == alone
    form = {"type": "json_object"}
    assert (
        text(found["form"])
        == model.chat("One", response_format=form, temperature=0, max_tokens=30).text
    )
    assert found["tools"]["response"]["body"]["choices"][0]["message"]["tool_calls"]
    plain = found["plain"]["response"]["body"]["choices"][0]["text"]
    assert plain == model.generate("The quick", temperature=0, max_tokens=4).text
    assert len(found["two"]["response"]["body"]["choices"]) == 2
    output = found["responses"]["response"]["body"]["output"][0]["content"][0]["text"]
    assert output == model.chat("One", **greedy).text
    written = sum(
        one["response"]["body"]["usage"].get("completion_tokens")
        or one["response"]["body"]["usage"]["output_tokens"]
        for one in found.values()
    )
    assert result.completion_tokens == written


def test_embeddings(model: Model, write: Write, tmp_path: Path) -> None:
    url = "/v1/embeddings"
    rows = [
        {**row("a"), "url": url, "body": {"input": ["One", "Two"]}},
        {**row("b"), "url": url, "body": {"input": [[]]}},
        *({**row(f"c{i}"), "url": url, "body": {"input": f"Number {i}"}} for i in range(10)),
    ]
    assert pyqwen.batch(write(rows), tmp_path / "out", model).failed == 1
    found = answers(tmp_path / "out")
    assert found["b"]["response"]["status_code"] == 400
    for name, texts in (("a", ["One", "Two"]), ("c7", ["Number 7"])):
        vectors = [one["embedding"] for one in found[name]["response"]["body"]["data"]]
        assert np.array_equal(np.array(vectors, np.float32), model.embed(texts))


def test_rows_that_fail_are_rows(model: Model, write: Write, tmp_path: Path) -> None:
    rows: list[Any] = [
        row("good"),
        b"no JSON",
        row("moderation", url="/v1/moderations"),
        row("stream", stream=True),
        row("long", "word " * 2500),
        row("fields", messages=7),
        row("role", messages=[{"role": "king", "content": "a"}]),
        row("n", n=1000),
        row("hot", temperature=-1),
        row("schema", response_format={"type": "json_schema", "json_schema": {"schema": 1}}),
        row("regex", response_format={"type": "regex", "pattern": "("}),
        row("half", messages=[{"role": "user", "content": "\ud800"}]),
        row("unknown", url="/v1/completions", prompt=[10**9]),
        row("stored", url="/v1/responses", input="a", previous_response_id="b"),
    ]
    result = pyqwen.batch(write(rows), tmp_path / "out", model)
    assert (result.rows, result.failed) == (14, 13)
    found = answers(tmp_path / "out")
    nobody = found.pop(None)
    assert nobody["response"] is None
    assert nobody["error"]["code"] == "invalid_json_line"
    assert nobody["error"]["line"] == 2
    assert found.pop("moderation")["error"]["code"] == "invalid_url"
    assert found.pop("half")["error"]["code"] == "invalid_json_line"
    assert found.pop("good")["error"] is None
    for name, one in found.items():
        assert one["response"]["status_code"] == 400, name
        inner = one["response"]["body"]["error"]
        assert inner["message"] == one["error"]["message"], name
        assert one["error"]["code"], name
    assert found["long"]["error"]["code"] == "context_length_exceeded"
    assert found["stream"]["response"]["body"]["error"]["param"] == "stream"


def test_a_second_start_goes_on(model: Model, write: Write, tmp_path: Path) -> None:
    rows = [row(f"r{i}", f"Number {i}") for i in range(12)]
    source, out = write([*rows, b"{"]), tmp_path / "out"
    pyqwen.batch(source, out, model)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for torn in (b"", lines[8][:1], lines[8][:40], lines[8][:-1], b"\0" * 100):
        out.write_bytes(b"".join(lines[:8]) + torn)
        result = pyqwen.batch(source, out, model)
        assert result.found == 8
        assert out.read_bytes().startswith(b"".join(lines[:8]))
        assert answers(out).keys() == {None, *(f"r{i}" for i in range(12))}
        assert {name: text(one) for name, one in answers(out).items() if name} == {
            f"r{i}": model.chat(f"Number {i}", temperature=0, max_tokens=3).text for i in range(12)
        }
    result = pyqwen.batch(
        source, out, "no such model", name=model.path.stem
    )  # nothing is to be done
    assert (result.rows, result.found, result.failed) == (13, 13, 1)
    longer = write([b"{", *rows[::-1], b"{", row("late")], "longer")
    with pytest.raises(ValueError, match="not in"):
        pyqwen.batch(write([*rows[1:], b"{"]), out, model)
    assert pyqwen.batch(longer, out, model).found == 13


def test_an_output_of_another_batch_is_refused(model: Model, write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pyqwen.batch(write([row("a"), row("b")]), out, model)
    before = out.read_bytes()
    for rows, match in (
        ([row("c")], "answers the custom_id '.', which is not in"),
        ([row("a"), row("b", "other")], "answers another request with the custom_id 'b'"),
    ):
        with pytest.raises(ValueError, match=match):
            pyqwen.batch(write(rows), out, model)
    source = write([row("a"), row("b"), row("c")])
    with pytest.raises(ValueError, match="is by the model"):
        pyqwen.batch(source, out, model, name="other")
    assert out.read_bytes() == before
    for foreign in (b"my notes", b"my notes\n", b'{"a": 1}\n', b"\xff\xfe\n", before * 2):
        out.write_bytes(foreign)
        with pytest.raises(ValueError, match="name another output"):
            pyqwen.batch(source, out, model)
        assert out.read_bytes() == foreign


def test_files_that_are_no_output(model: Model, write: Write, tmp_path: Path) -> None:
    source = write([row("a")])
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(source)
    os.link(source, hard)
    for out in (source, link, hard):
        with pytest.raises(ValueError, match="is the input"):
            pyqwen.batch(source, out, model)
    for out in (tmp_path, Path(os.devnull)):
        with pytest.raises(ValueError, match="not a regular file"):
            pyqwen.batch(source, out, model)
    with pytest.raises(pyqwen.FileAccessError):
        pyqwen.batch(source, tmp_path / "no" / "folder", model)
    target = tmp_path / "target"
    (tmp_path / "to-target").symlink_to(target)
    pyqwen.batch(source, tmp_path / "to-target", model)
    assert answers(target)
    assert (tmp_path / "to-target").is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_two_runs_do_not_write_one_file(model: Model, write: Write, tmp_path: Path) -> None:
    source, out = write([row(str(i), max_tokens=50) for i in range(40)]), tmp_path / "out"
    begun, refused = threading.Event(), []

    def first(done: int, total: int) -> None:
        if done and not begun.is_set():
            begun.set()
            with pytest.raises(pyqwen.FileAccessError, match="another process is writing"):
                pyqwen.batch(source, out, model)
            refused.append(True)

    pyqwen.batch(source, out, model, progress=first)
    assert refused
    assert len(answers(out)) == 40


def test_stopping(model: Model, write: Write, tmp_path: Path) -> None:
    """Within a tenth of a second, and nothing that was running is left in the engine."""
    source = write([row(str(i), max_tokens=400, ignore_eos=True) for i in range(30)])
    out = tmp_path / "out"
    asked: list[float] = []

    def stop(done: int, total: int) -> bool | None:
        if done < 2:
            return None
        asked.append(time.monotonic())
        return False

    with pytest.raises(CancelledError, match="goes on"):
        pyqwen.batch(source, out, model, progress=stop)
    assert time.monotonic() - asked[0] < 1
    assert 2 <= len(answers(out)) < 30
    assert model.chat("Hi", max_tokens=1).timings.queue_seconds < 1
    assert pyqwen.batch(source, out, model).found >= 2
    assert len(answers(out)) == 30


def test_a_model_that_is_closed_ends_the_batch(
    tiny_model_path: Path, write: Write, tmp_path: Path
) -> None:
    """What was running is no failed row."""
    source = write([row(str(i), max_tokens=300, ignore_eos=True) for i in range(30)])
    out = tmp_path / "out"
    with Model(tiny_model_path, threads=1) as model:

        def close(done: int, total: int) -> None:
            if done:
                model.close()

        with pytest.raises(pyqwen.PyQwenError, match="closed"):
            pyqwen.batch(source, out, model, progress=close)
    assert all(one["error"] is None for one in answers(out).values())


def test_common_beginnings_are_read_once(
    tiny_model_path: Path, write: Write, tmp_path: Path
) -> None:
    """Three groups that are mixed in the file: nearly all of their beginnings come from the cache."""
    starts = [f"{word} sells sea shells by the sea shore. " * 5 for word in ("She", "He", "It")]
    source = write([row(str(i), f"{starts[i % 3]} {i}") for i in range(60)])
    with Model(tiny_model_path, threads=1, max_sequences=4) as model:
        shared = min(len(model.chat_prompt(start)) for start in starts) - 12
        result = pyqwen.batch(source, tmp_path / "out", model)
    assert result.cached_tokens > 0.9 * 57 * shared


def test_a_full_disk_is_an_error_and_leaves_whole_lines(
    model: Model, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write([row(str(i)) for i in range(10)]), tmp_path / "out"
    calls: list[int] = []
    real = os.write

    def scarce(descriptor: int, data: bytes) -> int:
        if data.startswith(b'{"id":"batch_req'):
            calls.append(len(data))
            if len(calls) == 4:
                return real(descriptor, data[:20])
        return real(descriptor, data)

    monkeypatch.setattr("pyqwen.batches.output.os.write", scarce)
    with pytest.raises(pyqwen.FileAccessError, match="No space") as caught:
        pyqwen.batch(source, out, model)
    assert caught.value.filename == str(out)
    assert len(answers(out)) == 3
    assert pyqwen.batch(source, out, model).found == 3


def test_arguments_that_cannot_be(model: Model, write: Write, tmp_path: Path) -> None:
    source, out = write([row("a")]), tmp_path / "out"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"model": model, "workers": 2}, "open model"),
        ({"model": model, "ray": True}, "open model"),
        ({"model": model, "context": 64}, "open already"),
        ({"model": model, "parallel": 64}, "open already"),
        ({"model": "x", "workers": 2, "ray": True}, "has its own"),
        ({"model": "x", "workers": 2, "draft": model}, "other processes"),
        ({"parallel": 0}, "from 1"),
        ({"workers": 10**9}, "from 1"),
        ({"name": ""}, "name is"),
    ]
    for options, match in wrong:
        with pytest.raises(ValueError, match=match):
            pyqwen.batch(source, out, **options)
    with pytest.raises(TypeError, match="unknown option unload_after"):
        pyqwen.batch(source, out, unload_after=3)  # type: ignore[call-arg]
    with pytest.raises(pyqwen.ModelNotFoundError):
        pyqwen.batch(source, out, tmp_path / "missing.gguf")
    assert json.loads(source.read_bytes())["url"] == URL
