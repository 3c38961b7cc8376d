"""What comes in: text is UTF-8 wherever it enters, standard input is read only where ``-`` stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyqwen import Model

NOT_UTF8 = "caf\udce9"  # what Python makes of the argument b"caf\xe9"
BOM = b"\xef\xbb\xbf"
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX arguments are bytes")


@posix
@pytest.mark.parametrize(
    "argv",
    [
        ["run", NOT_UTF8],
        ["run", "-s", NOT_UTF8, "Hello"],
        ["run", "--stop", NOT_UTF8, "Hello"],
        ["chat", "-s", NOT_UTF8],
        ["tokenize", NOT_UTF8],
    ],
)
def test_an_argument_that_is_no_text_is_wrong_usage(
    call, tiny_model_path: Path, argv: list[str]
) -> None:
    result = call(argv[0], "-m", tiny_model_path, *argv[1:])
    assert result.code == 2
    assert "is not UTF-8 text" in result.err
    assert result.out == ""


@pytest.mark.parametrize(
    ("argv", "stdin"),
    [
        (["run", "-m", "MODEL", "-"], b"caf\xe9"),
        (["tokenize", "-m", "MODEL", "-"], b"caf\xe9"),
        (["chat", "-m", "MODEL"], b"caf\xe9\n"),
        (["run", "-m", "MODEL", "-f", "FILE"], b""),
        (["template", "-m", "MODEL", "FILE"], b""),
        (["template", "-m", "MODEL", "-"], b'[{"role": "user", "content": "\xe9"}]'),
        (["template", "-m", "MODEL", "-"], rb'[{"role": "user", "content": "\ud800"}]'),
        (["perplexity", "MODEL", "-f", "FILE"], b""),
    ],
)
def test_a_text_that_is_no_utf8_is_wrong_usage(
    call, tiny_model_path: Path, tmp_path: Path, argv: list[str], stdin: bytes
) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"caf\xe9")
    names = {"MODEL": str(tiny_model_path), "FILE": str(file)}
    result = call(*(names.get(argument, argument) for argument in argv), stdin=stdin)
    assert result.code == 2
    assert result.out == ""


def test_a_byte_order_mark_is_dropped(call, tiny_model_path: Path, tmp_path: Path) -> None:
    wanted = call("tokenize", "-m", tiny_model_path, "--json", "Hello").json
    assert (
        call("tokenize", "-m", tiny_model_path, "--json", "-", stdin=BOM + b"Hello").json == wanted
    )
    messages = [{"role": "user", "content": "Hello"}]
    file = tmp_path / "messages.json"
    file.write_bytes(BOM + json.dumps(messages).encode())
    assert call("template", "-m", tiny_model_path, file).code == 0
    flags = ["-m", tiny_model_path, "-n", 5, "--temp", 0]
    plain = call("chat", *flags, stdin=b"Hello\n").out
    assert call("chat", *flags, stdin=BOM + b"Hello\n").out == plain


@posix
def test_file_names_of_any_bytes_work_and_are_shown_escaped(
    start, tiny_model_path: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / os.fsdecode(b"caf\xe9.gguf"))
    Path(path).symlink_to(tiny_model_path)
    for encoding in ("utf-8", "latin-1", "ascii"):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        for verb, code in (("inspect", 0), ("plan", 0)):
            process = start(
                verb,
                path,
                "--json",
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            out, err = process.communicate(timeout=60)
            assert process.returncode == code, err
            json.loads(out.decode("utf-8"))
        process = start("inspect", path + "x", stderr=subprocess.PIPE, env=environment)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert b"caf\\udce9.ggufx" in err
        assert b"Traceback" not in err


@posix
@pytest.mark.parametrize("verb", ["run", "tokenize"])
@pytest.mark.parametrize("kind", ["pipe", "file", "empty file", "nothing"])
def test_standard_input_that_is_not_read_is_left_alone(
    start, tiny_model_path: Path, tmp_path: Path, verb: str, kind: str
) -> None:
    argv = ["-n", "3", "--temp", "0"] if verb == "run" else []
    argv = [verb, "-m", str(tiny_model_path), *argv, "Hello"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if kind == "pipe":
        reader, writer = os.pipe()
        os.write(writer, b"more\n")
    elif kind == "nothing":
        reader = os.open(os.devnull, os.O_RDONLY)
    else:
        (tmp_path / "input").write_bytes(b"more\n" if kind == "file" else b"")
        reader = os.open(tmp_path / "input", os.O_RDONLY)
    process = start(*argv, stdin=reader, **options)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    has_text = kind in ("pipe", "file")
    assert (b"standard input is not read" in err) == has_text
    assert os.read(reader, 100) == (b"more\n" if has_text else b"")


def test_run_reads_standard_input_beside_a_prompt(call, tiny_model_path: Path) -> None:
    flags = ["run", "-m", tiny_model_path, "-n", 8, "--temp", 0]
    with Model(tiny_model_path) as model:
        options = {"max_tokens": 8, "temperature": 0.0}
        after = model.chat("Summarize:\n\nthe text", **options).text
        before = model.chat("the text\n\nSummarize.", **options).text
    assert call(*flags, "Summarize:", "-", stdin="the text\n").out == after + "\n"
    assert call(*flags, "-", "Summarize.", stdin="the text\n").out == before + "\n"


@pytest.mark.parametrize("argv", [["a", "b"], ["-", "-"], ["a", "-", "b"]])
def test_several_prompts_are_wrong_usage(call, tiny_model_path: Path, argv: list[str]) -> None:
    result = call("run", "-m", tiny_model_path, *argv, stdin="text")
    assert result.code == 2
    assert "quotes" in result.err


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_an_empty_standard_input_is_named(call, tiny_model_path: Path, stdin: str) -> None:
    result = call("run", "-m", tiny_model_path, "-", stdin=stdin)
    assert result.code == 2
    assert "standard input, which - stands for, is empty" in result.err


def test_a_misspelled_verb_is_corrected(call) -> None:
    result = call("quantise")
    assert result.code == 2
    assert "Did you mean quantize?" in result.err
    assert "The verbs: run, chat" in call("dance").err


def test_run_prints_one_object(call, tiny_model_path: Path) -> None:
    flags = ["run", "-m", tiny_model_path, "-n", 6, "--temp", 0, "--seed", 9]
    result = call(*flags, "--json", "-q", "Hello")
    plain = call(*flags, "-q", "Hello")
    assert result.err == plain.err == ""
    found = result.json
    assert found["text"] + "\n" == plain.out
    assert found["finish_reason"] == "length"
    assert found["stop_reason"] is None
    assert found["seed"] == 9
    assert found["usage"]["completion_tokens"] == 6
    assert found["timings"]["prompt_seconds"] > 0
    text = found["text"]
    stop = next(character for character in text[1:] if text.index(character) > 0)
    stopped = call(*flags, "--json", "--stop", "never", "--stop", stop, "Hello").json
    assert stopped["text"] == text[: text.index(stop)]
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", stop)


def test_minus_one_is_no_limit_and_no_seed(call, tiny_model_path: Path) -> None:
    flags = ["run", "-m", tiny_model_path, "-c", 64, "--temp", 5, "--json", "-q"]
    first, second = (call(*flags, "-n", -1, "--seed", -1, "Hello").json for _ in range(2))
    assert first["seed"] != second["seed"]
    ends = {reply["finish_reason"] for reply in (first, second)}
    assert ends <= {"length", "stop"}
    top_k = call(*flags, "-n", 3, "--top-k", -1, "--seed", 1, "Hello").json
    assert top_k["text"] == call(*flags, "-n", 3, "--top-k", 0, "--seed", 1, "Hello").json["text"]
