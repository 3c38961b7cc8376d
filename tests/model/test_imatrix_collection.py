"""The sums of squares that a session adds up: right, and the same however the text was evaluated."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen._native import ModelHandle, SessionHandle, read_config
from pyqwen.errors import CancelledError
from pyqwen.loading.gguf_file import GGUFFile

sys.path.insert(0, str(Path(__file__).parent))
from reference import Reference

IDS = np.random.default_rng(3).integers(0, 300, 130).tolist()
NAMES = {
    "qkv": "attn_q",
    "attention_output": "attn_output",
    "gate_up": "ffn_up",
    "down": "ffn_down",
}
COLUMNS = {"qkv": 128, "attention_output": 128, "gate_up": 128, "down": 256}


@contextmanager
def open_session(
    path: Path, *, isa: str | None = None, exact: bool = False, **settings: Any
) -> Iterator[SessionHandle]:
    with (
        GGUFFile(path) as file,
        closing(ModelHandle(file.handle, isa=isa, exact=exact)) as model,
        closing(SessionHandle(model, **settings)) as session,
    ):
        yield session


def read(session: SessionHandle, ids: list[int], step: int, output: int = 1) -> None:
    for begin in range(0, len(ids), step):
        part = ids[begin : begin + step]
        session.eval(part, [0] * len(part), [output] * len(part))


def all_sums(session: SessionHandle) -> dict[str, np.ndarray]:
    sums = {
        f"blk.{layer}.{NAMES[what]}.weight": session.imatrix(what, layer, COLUMNS[what])[0]
        for layer in range(2)
        for what in NAMES
    }
    return sums | {"output": session.imatrix("output", 0, 128)[0]}


@pytest.mark.parametrize("shape", [{}, {"tied": False}, {"architecture": "llama"}])
def test_the_sums_are_those_of_the_reference(
    make_tiny_model: Callable[..., Path], shape: dict[str, Any]
) -> None:
    path = make_tiny_model(**shape)
    with open_session(path, exact=True, kv_type="f32") as session:
        session.collect_imatrix()
        read(session, IDS, 50)
        sums = all_sums(session)
    expected = Reference(path)
    expected.logits(IDS)
    output = "output.weight" if shape.get("tied") is False else "token_embd.weight"
    for name, values in sums.items():
        squares = expected.squares[output if name == "output" else name]
        np.testing.assert_allclose(values, squares, rtol=1e-3, atol=1e-5 * squares.max())


def test_the_sums_do_not_depend_on_how_they_came_about(tiny_model_path: Path) -> None:
    seen = []
    for settings, step in (
        ({"isa": "scalar", "threads": 1}, 130),
        ({"threads": 1}, 1),
        ({"threads": 2}, 130),
        ({"threads": 3}, 7),
        ({"threads": 2, "batch": 64}, 64),
    ):
        with open_session(tiny_model_path, **settings) as session:
            session.collect_imatrix()
            read(session, IDS, step)
            seen.append(all_sums(session))
    for sums in seen[1:]:
        for name, values in sums.items():
            assert values.tobytes() == seen[0][name].tobytes(), name


def test_rows_are_counted_and_only_outputs_for_the_output(tiny_model_path: Path) -> None:
    with open_session(tiny_model_path) as session:
        session.collect_imatrix()
        read(session, IDS[:20], 20, output=0)
        read(session, IDS[20:25], 5)
        assert session.imatrix("qkv", 1, 128)[1] == 25
        assert session.imatrix("down", 0, 256)[1] == 25
        assert session.imatrix("output", 0, 128)[1] == 5


def test_collecting_changes_no_logits(tiny_model_path: Path) -> None:
    seen = []
    with GGUFFile(tiny_model_path) as file:
        width = read_config(file.handle)["vocab_rows"]
    for on in (False, True):
        with open_session(tiny_model_path) as session:
            session.collect_imatrix(on)
            read(session, IDS, 130)
            logits = np.empty((130, width), np.float32)
            session.logits(0, 130, logits)
            seen.append(logits.tobytes())
    assert seen[0] == seen[1]


def test_a_failed_evaluation_adds_nothing(tiny_model_path: Path) -> None:
    with open_session(tiny_model_path) as session:
        session.collect_imatrix()
        read(session, IDS[:30], 30)
        before = all_sums(session)
        session.cancel()
        with pytest.raises(CancelledError):
            read(session, IDS[30:], 100)
        session.cancel(False)
        after = all_sums(session)
        assert session.imatrix("qkv", 0, 128)[1] == 30
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_collecting_again_starts_anew_and_stopping_forgets(tiny_model_path: Path) -> None:
    with open_session(tiny_model_path) as session:
        with pytest.raises(ValueError, match="no importance matrix is collected"):
            session.imatrix("qkv", 0, 128)
        session.collect_imatrix()
        read(session, IDS[:30], 30)
        session.collect_imatrix()
        sums, rows = session.imatrix("qkv", 0, 128)
        assert rows == 0
        assert not sums.any()
        session.collect_imatrix(False)
        with pytest.raises(ValueError, match="no importance matrix is collected"):
            session.imatrix("qkv", 0, 128)


@pytest.mark.parametrize(
    ("what", "layer", "columns"),
    [("qkv", 2, 128), ("qkv", 0, 127), ("down", 0, 128), ("output", 1, 128)],
)
def test_what_is_not_there(tiny_model_path: Path, what: str, layer: int, columns: int) -> None:
    with open_session(tiny_model_path) as session:
        session.collect_imatrix()
        with pytest.raises(ValueError, match="is not collected"):
            session.imatrix(what, layer, columns)
