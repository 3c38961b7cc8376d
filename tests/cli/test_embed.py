"""pyqwen embed: a row for each text, in each of its forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyqwen import Model

LINES = "the first line\n\nThe third line.\r\nЧетвёртая"


@pytest.fixture
def embedder(make_tiny_model: Callable[..., Path]) -> Path:
    metadata = {"qwen3.pooling_type": 3, "tokenizer.ggml.add_eos_token": True}
    return make_tiny_model(architecture="qwen3", head_dim=64, metadata=metadata)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text(LINES + "\n", encoding="utf-8", newline="")
    return path


def rows(out: str) -> np.ndarray:
    return np.array([json.loads(line) for line in out.splitlines()], np.float32)


def expected(path: Path, texts: list[str], **options: object) -> np.ndarray:
    with Model(path) as model:
        return model.embed(texts, **options)  # type: ignore[arg-type]


TEXTS = ["the first line", "", "The third line.", "Четвёртая"]


def test_a_line_of_numbers_for_each_text(call, embedder: Path, file: Path) -> None:
    result = call("embed", "-m", embedder, "-f", file, "a", "b c")
    assert result.code == 0
    np.testing.assert_array_equal(rows(result.out), expected(embedder, ["a", "b c", *TEXTS]))
    assert "6 texts" in result.err
    assert "tokens per second" in result.err


def test_standard_input(call, embedder: Path) -> None:
    lines = call("embed", "-q", "-m", embedder, "-f", "-", stdin=LINES)
    np.testing.assert_array_equal(rows(lines.out), expected(embedder, TEXTS))
    assert lines.err == ""
    text = call("embed", "-m", embedder, "a", "-", stdin=LINES)
    np.testing.assert_array_equal(rows(text.out), expected(embedder, ["a", LINES]))
    assert call("embed", "-m", embedder, "-", "-f", "-").code == 2


def test_options(call, embedder: Path) -> None:
    argv = ("--pooling", "mean", "--dimensions", 7, "--instruction", "Find", "--no-normalize")
    result = call("embed", "-m", embedder, *argv, "--json", "the text")
    found = result.json
    vectors = expected(
        embedder,
        ["the text"],
        pooling="mean",
        dimensions=7,
        instruction="Find",
        normalize=False,
    )
    np.testing.assert_array_equal(np.array(found.pop("embeddings"), np.float32), vectors)
    tokens = found.pop("tokens")
    assert found == {"model": embedder.name, "pooling": "mean", "dimensions": 7}
    assert tokens > len("the text")


def test_an_array_for_numpy(call, embedder: Path, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    out.write_text("older")
    result = call("embed", "-m", embedder, "-f", file, "--npy", out)
    assert result.out.strip() == str(out)
    np.testing.assert_array_equal(np.load(out), expected(embedder, TEXTS))
    assert np.load(out).dtype == np.float32
    file.write_text("")
    call("embed", "-m", embedder, "-f", file, "--npy", out, "--dimensions", 9)
    assert np.load(out).shape == (0, 9)
    assert sorted(path.name for path in tmp_path.glob("*vectors*")) == ["vectors.npy"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "nothing to embed"),
        (("--npy", "."), "is not a regular file"),
        (("--npy", "FILE", "-f", "FILE"), "is the input"),
        (("--npy", "x.npy", "--json"), "not allowed with"),
        (("--dimensions", "0"), "not 1 or more"),
        (("--dimensions", "129"), "the model has 128"),
        (("--pooling", "max"), "invalid choice"),
    ],
)
def test_wrong_usage(
    call, embedder: Path, file: Path, argv: tuple[str, ...], words: str, monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(file) if argument == "FILE" else argument for argument in argv]
    result = call("embed", "-m", embedder, *given, *(["a"] if argv else []))
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert file.read_text(encoding="utf-8").startswith("the first")


def test_what_fails_leaves_the_older_array(call, embedder: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.npy"
    out.write_text("older")
    missing = call("embed", "-m", embedder, "--npy", tmp_path / "no" / "such.npy", "a")
    assert (missing.code, "no such directory" in missing.err) == (1, True)
    result = call("embed", "-m", embedder, "--npy", out, "x " * 2000)
    assert result.code == 1
    assert "text 0" in result.err
    assert out.read_text() == "older"


def test_no_text_of_the_model_is_promised(call, embedder: Path) -> None:
    result = call("run", "-m", embedder, "-n", 2, "Hello")
    assert result.code == 0
    assert "is for embeddings" in result.err
    assert "is for embeddings" not in call("run", "-q", "-m", embedder, "-n", 2, "Hello").err
