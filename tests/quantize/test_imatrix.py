"""Importance matrices that our own runtime measures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import CancelledError, NumericError
from pyqwen.quantize import imatrix, read_imatrix

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from reference import Reference

TEXT = "She sells sea shells by the sea shore; the shells she sells are sea shells, I am sure. " * 9


def test_the_values_are_mean_squares_over_all_tokens_of_whole_chunks(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    out = tmp_path / "i.gguf"
    made = imatrix(tiny_model_path, TEXT, out, context=48, chunks=3, dataset="shells.txt")
    with Model(tiny_model_path) as model:
        ids = model.tokenizer.encode(TEXT)
    reference, squares = Reference(tiny_model_path), dict[str, np.ndarray]()
    for i in range(3):
        reference.logits(ids[i * 48 : i * 48 + 48])
        squares = {name: squares.get(name, 0) + s for name, s in reference.squares.items()}
    assert set(made.values) == set(squares)
    assert set(made.counts.values()) == {144}
    for name, values in made.values.items():
        mean = squares[name] / 144
        np.testing.assert_allclose(values, mean, rtol=1e-3, atol=1e-5 * mean.max())
    read = read_imatrix(out)
    assert read.counts == made.counts
    assert (read.chunks, read.chunk_size, read.datasets) == (3, 48, ("shells.txt",))


def test_an_untied_model_has_its_output_matrix(
    make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    made = imatrix(make_tiny_model(tied=False), TEXT, tmp_path / "i.gguf", context=48, chunks=1)
    assert "output.weight" in made.values
    assert "token_embd.weight" not in made.values


def test_the_file_does_not_depend_on_threads(tiny_model_path: Path, tmp_path: Path) -> None:
    for threads in (1, 2):
        imatrix(tiny_model_path, TEXT, tmp_path / f"{threads}.gguf", context=64, threads=threads)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()


def test_progress(tiny_model_path: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    imatrix(
        tiny_model_path,
        TEXT,
        tmp_path / "i.gguf",
        context=48,
        chunks=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_the_model_is_not_overwritten(tiny_model_path: Path) -> None:
    before = tiny_model_path.read_bytes()
    with pytest.raises(ValueError, match="is the input"):
        imatrix(tiny_model_path, TEXT, tiny_model_path, context=48)
    assert tiny_model_path.read_bytes() == before


def test_no_part_of_a_split_model_is_overwritten(make_tiny_model: Callable[..., Path]) -> None:
    first = make_tiny_model(split_max_tensors=10)
    for part in first.parent.glob(first.name.replace("-00001-", "-*-")):
        before = part.read_bytes()
        with pytest.raises(ValueError, match="is the input"):
            imatrix(first, TEXT, part, context=48)
        assert part.read_bytes() == before


def test_a_text_that_is_too_short(tiny_model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs 512 or more"):
        imatrix(tiny_model_path, TEXT[:200], tmp_path / "i.gguf")
    with pytest.raises(ValueError, match="0 chunks"):
        imatrix(tiny_model_path, TEXT, tmp_path / "i.gguf", context=48, chunks=0)
    assert not list(tmp_path.iterdir())


def test_a_damaged_model(make_tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(NumericError, match=r"blk\.0\.attn_q\.weight"):
        imatrix(make_tiny_model(damaged=True), TEXT, tmp_path / "i.gguf", context=48)
    assert not list(tmp_path.iterdir())


def test_cancel_leaves_what_was_there(tiny_model_path: Path, tmp_path: Path) -> None:
    out, cancel = tmp_path / "i.gguf", threading.Event()
    out.write_bytes(b"old")
    with pytest.raises(CancelledError):
        imatrix(
            tiny_model_path,
            TEXT,
            out,
            context=48,
            progress=lambda done, total: cancel.set(),
            cancel=cancel,
        )
    assert out.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["i.gguf"]
