"""The verbs imatrix and compare."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyqwen.quantize import compare, read_imatrix

TEXT = "The quick brown fox jumps over the lazy dog, she sells sea shells by the sea shore. " * 12
KEYS = {
    "mean_kld",
    "mean_kld_error",
    "kld_median",
    "kld_99",
    "kld_99_9",
    "kld_max",
    "same_top_p",
    "ppl",
    "ppl_reference",
    "ppl_ratio",
    "ppl_ratio_error",
    "n_tokens",
    "n_chunks",
    "n_ctx",
    "reference",
    "model",
    "seconds",
}


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n")
    return path


@pytest.fixture
def pair(make_tiny_model: Callable[..., Path]) -> tuple[Path, Path]:
    return make_tiny_model(tensor_type="BF16"), make_tiny_model(tensor_type="Q4_0")


def test_compare_json(call, pair: tuple[Path, Path], text_file: Path) -> None:
    argv = ("-f", text_file, "-c", 64, "--chunks", 2, "--json")
    result = call("compare", *pair, *argv).json
    assert set(result) >= KEYS
    expected = compare(*pair, TEXT, context=64, chunks=2)
    assert result["mean_kld"] == expected.mean_kld > 0
    assert result["kld_99_9"] == expected.kld_99_9
    assert result["same_top_p"] == expected.same_top_p
    assert result["ppl_ratio"] == expected.ppl_ratio
    assert (result["n_tokens"], result["n_chunks"], result["n_ctx"]) == (62, 2, 64)


def test_compare_agrees_with_perplexity(call, pair: tuple[Path, Path], text_file: Path) -> None:
    argv = ("-f", text_file, "-c", 64, "--json")
    both = call("compare", *pair, *argv).json
    for path, key in zip(pair, ("ppl_reference", "ppl"), strict=True):
        alone = call("perplexity", path, *argv).json
        assert both[key] == pytest.approx(alone["ppl"], rel=1e-6)
        assert both["n_tokens"] == alone["n_tokens"]


def test_compare_in_words(call, pair: tuple[Path, Path]) -> None:
    result = call("compare", *pair, "-f", "-", "-c", 64, stdin=TEXT)
    assert result.code == 0
    assert result.out.startswith("Mean KLD ")
    assert "PPL ratio" in result.out
    assert "positions compared" in result.err


def test_imatrix(call, tiny_model_path: Path, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.gguf"
    result = call("imatrix", tiny_model_path, "-f", text_file, "-o", out, "-c", 64, "--chunks", 2)
    assert result.code == 0
    assert result.out.strip() == str(out)
    assert "2 chunks of 64 tokens read, 15 matrices measured" in result.err
    matrix = read_imatrix(out)
    assert (matrix.chunks, matrix.chunk_size) == (2, 64)
    assert matrix.datasets == (str(text_file),)


@pytest.mark.parametrize("verb", ["imatrix", "compare"])
def test_a_short_text_is_one_line(call, verb: str, tiny_model_path: Path, tmp_path: Path) -> None:
    models = (tiny_model_path,) if verb == "imatrix" else (tiny_model_path, tiny_model_path)
    output = ("-o", tmp_path / "i.gguf") if verb == "imatrix" else ()
    result = call(verb, *models, "-f", "-", *output, stdin="too short")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "give a longer text" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("verb", ["imatrix", "compare"])
def test_control_c(
    start, verb: str, slow_model_path: Path, slow_environment: dict[str, str], tmp_path: Path
) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "i.gguf"
    text.write_text(TEXT * 40)
    models = (slow_model_path,) if verb == "imatrix" else (slow_model_path, slow_model_path)
    output = ("-o", out) if verb == "imatrix" else ()
    process = start(
        verb, *models, "-f", text, *output, "-c", 4096, env=slow_environment, stderr=subprocess.PIPE
    )
    time.sleep(3)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT
    assert time.monotonic() - begun < 3  # 0.1 s to cancel, the rest to end the process
    assert b"Traceback" not in process.stderr.read()
    assert not out.exists()
    assert not Path(f"{out}.partial").exists()
