"""``pyqwen run``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyqwen import Model


def expected(path: Path, messages: object, **settings: object) -> str:
    with Model(path) as model:
        return model.chat(messages, **settings).text  # type: ignore[arg-type]


def test_the_answer_alone_is_on_stdout(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path, "-n", 20, "--temp", 0, "Hello")
    assert result.code == 0
    assert result.out == expected(tiny_model_path, "Hello", max_tokens=20, temperature=0) + "\n"
    assert "tokens/s" in result.err
    assert "of weights" in result.err


def test_all_sampling_flags_reach_the_model(call, tiny_model_path: Path) -> None:
    flags = [
        "--temp",
        "0.9",
        "--top-k",
        "7",
        "--top-p",
        "0.95",
        "--min-p",
        "0.01",
        "--repeat-penalty",
        "1.2",
    ]
    flags += [
        "--presence-penalty",
        "0.1",
        "--frequency-penalty",
        "0.2",
        "--seed",
        "5",
        "-n",
        "15",
        "-t",
        "1",
        "-c",
        "256",
    ]
    result = call("run", "-m", tiny_model_path, *flags, "--kv-type", "f32", "Hello")
    with Model(tiny_model_path, context=256, threads=1, kv_type="f32") as model:
        reply = model.chat(
            "Hello",
            temperature=0.9,
            top_k=7,
            top_p=0.95,
            min_p=0.01,
            repetition_penalty=1.2,
            presence_penalty=0.1,
            frequency_penalty=0.2,
            seed=5,
            max_tokens=15,
        )
    assert result.out == reply.text + "\n"


def test_flags_of_further_samplers(call, tiny_model_path: Path) -> None:
    flags = ["--seed", "5", "-n", "25", "--temp", "1.1", "--typical", "0.99", "--top-nsigma", "3"]
    flags += ["--dry-multiplier", "0.9", "--dry-base", "1.5", "--dry-allowed-length", "1"]
    flags += ["--dry-sequence-breaker", "e", "--dry-sequence-breaker", "the"]
    flags += ["--xtc-probability", "0.5", "--xtc-threshold", "0.02"]
    flags += ["--samplers", "penalties;dry;top_n_sigma;typ_p;xtc;temperature"]
    result = call("run", "-m", tiny_model_path, *flags, "Hello")
    options = {
        "seed": 5,
        "max_tokens": 25,
        "temperature": 1.1,
        "typical_p": 0.99,
        "top_n_sigma": 3,
        "dry_multiplier": 0.9,
        "dry_base": 1.5,
        "dry_allowed_length": 1,
        "dry_breakers": ["e", "the"],
        "xtc_probability": 0.5,
        "xtc_threshold": 0.02,
        "samplers": ["penalties", "dry", "top_n_sigma", "typical_p", "xtc", "temperature"],
    }
    assert result.out == expected(tiny_model_path, "Hello", **options) + "\n"
    for more, breakers in ((["none"], []), (["none", "a"], ["a"])):
        given = [part for text in more for part in ("--dry-sequence-breaker", text)]
        result = call("run", "-m", tiny_model_path, *flags, *given, "Hello")
        options["dry_breakers"] = breakers
        assert result.out == expected(tiny_model_path, "Hello", **options) + "\n"


def test_samplers_that_do_not_exist(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path, "--samplers", "top_k;mirostat", "Hello")
    assert result.code == 2
    assert "samplers has no 'mirostat'; there are penalties, dry" in result.err


def test_system_prompt(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path, "-s", "Be a pirate.", "-n", 9, "--temp", 0, "Hello")
    messages = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "Hello"},
    ]
    assert result.out == expected(tiny_model_path, messages, max_tokens=9, temperature=0) + "\n"


@pytest.mark.parametrize(
    ("argv", "stdin", "prompt"),
    [
        (["-"], "from stdin\n", "from stdin"),
        (["-f", "FILE"], "", "from a\nfile"),
        (["Explain:", "-f", "FILE"], "", "Explain:\n\nfrom a\nfile"),
        (["-", "-f", "FILE"], "Explain:\n", "Explain:\n\nfrom a\nfile"),
    ],
)
def test_where_the_prompt_comes_from(
    call, tiny_model_path: Path, tmp_path: Path, argv: list[str], stdin: str, prompt: str
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"from a\nfile\n")
    argv = [str(file) if argument == "FILE" else argument for argument in argv]
    result = call("run", "-m", tiny_model_path, "-n", 12, "--temp", 0, *argv, stdin=stdin)
    assert result.out == expected(tiny_model_path, prompt, max_tokens=12, temperature=0) + "\n"


def test_no_prompt_is_wrong_usage(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path)
    assert result.code == 2
    assert "pyqwen chat" in result.err


def test_a_setting_out_of_range_is_wrong_usage(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path, "--top-p", "1.5", "Hello")
    assert result.code == 2
    assert "top_p" in result.err


def test_text_that_is_not_utf8_is_refused(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path, "-", stdin=b"caf\xe9")
    assert result.code == 2
    assert "standard input is not UTF-8 text (see byte 3)" in result.err


def test_a_prompt_beyond_the_context_fails_with_the_numbers(call, tiny_model_path: Path) -> None:
    result = call("run", "-m", tiny_model_path, "-c", 32, "-", stdin="word " * 200)
    assert result.code == 1
    assert "context of 32" in result.err
    assert result.out == ""


def test_progress_is_not_shown_without_a_terminal(start, tiny_model_path: Path) -> None:
    process = start(
        "run",
        "-m",
        tiny_model_path,
        "-n",
        5,
        "--temp",  # drawn at random, control characters might be part of the answer
        0,
        "Hello",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"\x1b" not in out + err
    assert b"\r" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
@pytest.mark.parametrize("verb", ["run", "tokenize"])
def test_a_reader_that_goes_away_ends_it_quietly(start, tiny_model_path: Path, verb: str) -> None:
    argv = ["-n", "400", "--seed", "3"] if verb == "run" else []
    process = start(
        verb,
        "-m",
        tiny_model_path,
        *argv,
        "-",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYQWEN_THREADS": "1"},
    )
    process.stdin.write(b"Hello " * (20 if verb == "run" else 100_000))
    process.stdin.close()
    process.stdout.read(1)
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 141
    assert b"Traceback" not in err
    assert b"Broken" not in err
