"""``pyqwen batch``: what is said, exit codes, an interrupt, and what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


def write_rows(path: Path, count: int, **body: Any) -> Path:
    messages = [{"role": "user", "content": "Hello!"}]
    whole = {"messages": messages, "max_tokens": 3, "temperature": 0, **body}
    url = "/v1/chat/completions"
    rows = [
        {"custom_id": str(i), "method": "POST", "url": url, "body": whole} for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_batch(call: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in", 5, model="gpt-4o")
    with source.open("a") as file:
        file.write("no JSON\n")
    result = call(
        "batch", "-m", tiny_model_path, "--parallel", 2, "-t", 1, source, tmp_path / "out"
    )
    assert (result.code, result.out) == (0, "")
    assert "line 6 is no request: the line is not JSON" in result.err
    assert f"rows ask for gpt-4o; {tiny_model_path.stem} answers all of them" in result.err
    assert "6 rows, 1 failed" in result.err
    assert "15 tokens written" in result.err
    rows = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert len(rows) == 6
    again = call("batch", "-m", tiny_model_path, source, tmp_path / "out")
    assert again.code == 0
    assert "6 of 6 rows are answered already" in again.err
    assert "nothing is left to do; 1 failed" in again.err


def test_progress_where_there_is_no_terminal(
    call: Any, tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyqwen.cli.batch._LINE_SECONDS", 0.0)
    source = write_rows(tmp_path / "in", 30)
    result = call("batch", "-m", tiny_model_path, "-t", 1, source, tmp_path / "out")
    assert "20 of 30 rows, 0:0" in result.err
    assert "left" in result.err


def test_what_is_wrong_is_said_before_a_model_is_looked_for(call: Any, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in", 2)
    for arguments, code, message in (
        ((source, source), 1, "is the input"),
        ((tmp_path / "missing", tmp_path / "out"), 1, "No such file"),
        ((source, tmp_path), 1, "not a regular file"),
        (("--workers", 2, "--ray", source, tmp_path / "out"), 2, "has its own"),
        (("--parallel", 0, source, tmp_path / "out"), 2, "not 1 or more"),
        (("--parallel", 5000, source, tmp_path / "out"), 2, "from 1 to 1,024"),
        (("", tmp_path / "out"), 2, "no path"),
        ((source,), 2, "required"),
    ):
        result = call("batch", "-m", "no/such-model", *arguments)
        assert (result.code, result.out) == (code, ""), result.err
        assert message in result.err
        assert "no/such-model" not in result.err
    source.write_text(source.read_text() * 2)
    result = call("batch", "-m", "no/such-model", source, tmp_path / "out")
    assert "line 1 and again in line 3" in result.err


@pytest.mark.parametrize(("module", "extra"), [("msgspec", "batch"), ("ray", "ray")])
def test_what_is_not_installed_is_named(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "pyqwen.batches.public.find_spec", lambda name: None if name == module else real(name)
    )
    result = call("batch", "--ray", write_rows(tmp_path / "in", 1), tmp_path / "out")
    assert result.code == 2
    assert f"pip install 'pyqwen[{extra}]'" in result.err


def test_msgspec_is_all_that_is_needed(tiny_model_path: Path, tmp_path: Path) -> None:
    """Neither the web framework nor the server."""
    source = write_rows(tmp_path / "in", 2)
    code = """
import sys
for name in ("starlette", "uvicorn", "h11", "ray"):
    sys.modules[name] = None
import pyqwen
print(pyqwen.batch(*sys.argv[1:], threads=1).rows)
"""
    command = [sys.executable, "-c", code, source, tmp_path / "out", tiny_model_path]
    result = subprocess.run(map(str, command), capture_output=True, text=True, check=True)
    assert result.stdout == "2\n"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["here", "processes"])
def test_an_interrupt(
    start: Any, tiny_model_path: Path, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    source = write_rows(tmp_path / "in", 200, max_tokens=300, ignore_eos=True)
    out = tmp_path / "out"
    process = start(
        *("batch", "-m", tiny_model_path, *workers, source, out),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    while not out.exists() or b"\n" not in out.read_bytes():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(20) == -signal.SIGINT
    assert process.stderr.read() == b""
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert 0 < len(rows) < 200
    assert all(row["error"] is None for row in rows)
