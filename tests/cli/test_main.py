"""The program around the verbs: help, versions, errors and exit codes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyqwen import _native
from pyqwen.cli.console import ProgressBar
from pyqwen.cli.options import KV_TYPES

VERBS = [
    "run",
    "chat",
    "pull",
    "list",
    "rm",
    "inspect",
    "plan",
    "tokenize",
    "template",
    "convert",
    "embed",
    "perplexity",
    "bench",
    "doctor",
]


def test_without_arguments_shows_help(call) -> None:
    result = call()
    assert result.code == 2
    assert "usage: pyqwen" in result.out


def test_help_names_every_verb(call) -> None:
    result = call("--help")
    assert result.code == 0
    for verb in VERBS:
        assert f"\n    {verb}" in result.out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example(call, verb: str) -> None:
    result = call(verb, "--help")
    assert result.code == 0
    assert f"\n  pyqwen {verb}" in result.out.partition("examples:")[2] or (
        f"| pyqwen {verb}" in result.out.partition("examples:")[2]
    )


def test_version(call) -> None:
    from importlib.metadata import version

    result = call("--version")
    assert (result.code, result.out) == (0, f"pyqwen {version('pyqwen')}\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["dance"],
        ["run", "--temp", "hot", "Hello"],
        ["run", "-c", "0", "Hello"],
        ["inspect"],
        ["bench", "-o", "xml"],
        ["plan", "model.gguf", "--kv-type", "q3_0"],
        ["plan", "model.gguf", "--kv-type", "q8_0,"],
        ["plan", "model.gguf", "--kv-type", "q8_0,q8_0,q8_0"],
    ],
)
def test_wrong_usage_exits_with_2(call, argv: list[str]) -> None:
    result = call(*argv)
    assert result.code == 2
    assert "usage: pyqwen" in result.err
    assert result.out == ""


def test_an_unknown_flag_shows_the_usage_of_its_verb(call) -> None:
    result = call("plan", "model.gguf", "--loud")
    assert result.code == 2
    assert "usage: pyqwen plan" in result.err
    assert "unrecognized arguments: --loud" in result.err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "-c", "many", "Hello"], "'many' is not a whole number"),
        (["run", "-n", "99999999999999999999", "Hello"], "is more than 2,147,483,647"),
        (["bench", "-p", "5,x"], "'x' is not a whole number"),
    ],
)
def test_what_is_not_a_number_is_said_in_words(call, argv: list[str], words: str) -> None:
    result = call(*argv)
    assert result.code == 2
    assert words in result.err
    assert "_int" not in result.err


def test_an_error_is_one_line_on_stderr(call, tmp_path: Path) -> None:
    path = tmp_path / "not-a-model.gguf"
    path.write_bytes(b"<html>404</html>" * 10)
    result = call("inspect", path)
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("pyqwen: error: ")
    assert result.err.count("\n") == 1
    assert "not-a-model.gguf" in result.err


def test_a_missing_file_is_named(call) -> None:
    result = call("perplexity", "./missing.gguf", "-f", "./missing.txt")
    assert result.code == 1
    assert "missing.txt: No such file" in result.err


def test_an_unknown_model_suggests_near_names(call) -> None:
    result = call("run", "-m", "qwen2.5-coder-1.5", "Hello")
    assert result.code == 1
    assert "Did you mean qwen2.5-coder-1.5b" in result.err


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(call, place: str) -> None:
    argv = ["--debug", "inspect"] if place == "before" else ["inspect", "--debug"]
    result = call(*argv, "./missing.gguf")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "pyqwen: error: " in result.err


def test_log_level_from_the_environment(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYQWEN_LOG", "debug")
    assert "Traceback" in call("inspect", "./missing.gguf").err
    monkeypatch.setenv("PYQWEN_LOG", "loud")
    result = call("list")
    assert result.code == 0
    assert "choose one of debug, info, warning, error" in result.err


def test_a_wrong_environment_variable_is_named(
    call, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQWEN_THREADS", "many")
    result = call("run", "-m", tiny_model_path, "Hello")
    assert result.code == 1
    assert "PYQWEN_THREADS must be a number" in result.err


def test_pipes_get_utf8_whatever_the_locale(start, tiny_model_path: Path) -> None:
    process = start(
        "tokenize",
        "-m",
        tiny_model_path,
        "<tool_call>海",
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    pieces = [line.split()[1] for line in out.decode("utf-8").splitlines()]
    assert pieces == ["<tool_call>", "æ", "µ", "·"]  # bytes as byte-level BPE spells them


# The limits are 100 ms and 200 ms on a quiet machine; a busy one gets twice that.
@pytest.mark.parametrize(
    ("argv", "limit"),
    [(["-c", "import pyqwen"], 0.2), (["-m", "pyqwen", "--help"], 0.4)],
    ids=["import", "help"],
)
def test_starts_quickly(tmp_path: Path, argv: list[str], limit: float) -> None:
    def seconds(argv: list[str]) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *argv], cwd=tmp_path, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begun

    assert min(seconds(argv) for _ in range(5)) < limit


def test_importing_the_program_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["numpy", "pyqwen._native", "tokenizers", "jinja2", "huggingface_hub", "rich"]
    code = f"import sys, pyqwen.__main__; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_a_message_is_not_wrapped_by_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a/path/" + "x" * 100
    with ProgressBar("downloading", "bytes") as bar:
        bar.update(1, 100)
        bar.say(f"in {path}")
        bar.update(2, 100)
        print(f"log of {path}", file=sys.stderr)
    assert f"in {path}\n" in shown.getvalue()
    assert f"log of {path}\n" in shown.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shells")
@pytest.mark.parametrize(
    ("command", "code", "out"),
    [
        ("list --json 2>&-", 0, b"{"),
        ("list >&-", 0, b""),
        ("inspect ./missing.gguf 2>&-", 1, b""),  # the message must not land on stdout
        ("run - <&-", 2, b""),
    ],
)
def test_streams_may_be_closed(tmp_path: Path, command: str, code: int, out: bytes) -> None:
    result = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m pyqwen {command}'],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert result.returncode == code
    assert result.stdout[:1] == out
    assert b"please report" not in result.stderr
    assert b"Exception" not in result.stderr


def test_the_types_of_the_cache_are_those_of_the_core() -> None:
    assert tuple(_native.KV_TYPES) == KV_TYPES
