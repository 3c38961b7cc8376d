"""Files of importance matrices: written and read again, llama.cpp's older format, and damaged ones."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from pyqwen.errors import ModelFileError, ModelFormatError, ModelNotFoundError
from pyqwen.quantize import ImportanceMatrix, read_imatrix, write_imatrix

Q, DOWN = "blk.0.attn_q.weight", "blk.0.ffn_down.weight"


def matrix() -> ImportanceMatrix:
    random = np.random.default_rng(5)
    values = {name: random.random(n, np.float32) for name, n in ((Q, 64), (DOWN, 96))}
    return ImportanceMatrix(values, {Q: 1024, DOWN: 512}, 2, 512, ("wiki.txt", "code.txt"))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path, written = tmp_path / "i.gguf", matrix()
    write_imatrix(path, written)
    read = read_imatrix(path)
    assert list(read.values) == [Q, DOWN]
    for name, values in written.values.items():
        np.testing.assert_allclose(read.values[name], values, rtol=2e-7)
    assert read.counts == written.counts
    assert (read.chunks, read.chunk_size) == (2, 512)
    assert read.datasets == written.datasets


def test_the_layout_is_that_of_llama_imatrix(tmp_path: Path) -> None:
    path, written = tmp_path / "i.gguf", matrix()
    write_imatrix(path, written)
    file = gguf.GGUFReader(path)
    keys = {k: f.contents() for k, f in file.fields.items() if not k.startswith("GGUF.")}
    assert keys == {
        "general.type": "imatrix",
        "imatrix.datasets": ["wiki.txt", "code.txt"],
        "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }
    tensors = {t.name: t for t in file.tensors}
    assert list(tensors) == [f"{n}.{part}" for n in (Q, DOWN) for part in ("in_sum2", "counts")]
    assert tensors[f"{Q}.counts"].data.tolist() == [1024]
    sums = tensors[f"{Q}.in_sum2"].data
    assert sums.dtype == np.float32
    np.testing.assert_allclose(sums, written.values[Q] * 1024, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "values", "count", "what"),
    [
        (Q, np.array([1, -1], np.float32), 1, "negative"),
        (Q, np.array([1, np.nan], np.float32), 1, "not finite"),
        (Q, np.ones((2, 2), np.float32), 1, "one row"),
        (Q, np.ones(2, np.float32), 0, "0 tokens"),
        ("x" * 60, np.ones(2, np.float32), 1, "too long"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, name: str, values: np.ndarray, count: int, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        write_imatrix(
            tmp_path / "i.gguf", ImportanceMatrix({name: values}, {name: count}, 1, 1, ())
        )
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------ damaged GGUF

Change = Callable[[dict[str, object], dict[str, np.ndarray]], object]


def write_gguf(path: Path, change: Change) -> None:
    """A good file of one entry, with something changed."""
    keys: dict[str, object] = {
        "general.type": "imatrix",
        "imatrix.datasets": ["t"],
        "imatrix.chunk_count": 1,
        "imatrix.chunk_size": 512,
    }
    tensors = {f"{Q}.in_sum2": np.ones(64, np.float32), f"{Q}.counts": np.ones(1, np.float32)}
    change(keys, tensors)
    writer = gguf.GGUFWriter(path, "imatrix")
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, str(value))
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def sums(value: float) -> np.ndarray:
    array = np.ones(64, np.float32)
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda k, t: k.update({"general.type": "model"}), "no importance matrix"),
        (lambda k, t: k.pop("general.type"), "it has no general.type"),
        (lambda k, t: k.pop("imatrix.datasets"), "imatrix.datasets.*not a list"),
        (lambda k, t: k.update({"imatrix.datasets": [1, 2]}), "not a list of names"),
        (lambda k, t: k.pop("imatrix.chunk_count"), "imatrix.chunk_count.*not a whole number"),
        (lambda k, t: k.update({"imatrix.chunk_size": "many"}), "imatrix.chunk_size.*'many'"),
        (lambda k, t: t.pop(f"{Q}.counts"), "has no 'blk.0.attn_q.weight.counts'"),
        (lambda k, t: t.pop(f"{Q}.in_sum2"), "has no 'blk.0.attn_q.weight.in_sum2'"),
        (lambda k, t: t.update({Q: np.ones(4, np.float32)}), "is no part of"),
        (lambda k, t: t.update({f"{Q}.in_sum2": sums(np.nan)}), "nan in column 3"),
        (lambda k, t: t.update({f"{Q}.in_sum2": sums(np.inf)}), "inf in column 3"),
        (lambda k, t: t.update({f"{Q}.in_sum2": sums(-1)}), "-1 in column 3"),
        (lambda k, t: t.update({f"{Q}.in_sum2": np.ones(64, np.float16)}), "is F16"),
        (lambda k, t: t.update({f"{Q}.in_sum2": np.ones((8, 64), np.float32)}), "experts"),
        (lambda k, t: t.update({f"{Q}.counts": np.full(1, 0.5, np.float32)}), "number of tokens"),
        (lambda k, t: t.update({f"{Q}.counts": np.full(1, -1, np.float32)}), "number of tokens"),
        (
            lambda k, t: t.update({f"{Q}.counts": np.full(1, np.nan, np.float32)}),
            "number of tokens",
        ),
        (lambda k, t: t.update({f"{Q}.counts": np.ones(2, np.float32)}), "number of tokens"),
        (lambda k, t: t.update({f"{Q}.counts": np.zeros(1, np.float32)}), "no entries with data"),
    ],
)
def test_damaged_gguf(tmp_path: Path, change: Change, what: str) -> None:
    path = tmp_path / "i.gguf"
    write_gguf(path, change)
    with pytest.raises(ModelFileError, match=what) as caught:
        read_imatrix(path)
    assert str(path) in str(caught.value)


def test_an_entry_without_data_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "i.gguf"
    empty = {f"{DOWN}.in_sum2": np.zeros(8, np.float32), f"{DOWN}.counts": np.zeros(1, np.float32)}
    write_gguf(path, lambda k, t: t.update(empty))
    assert list(read_imatrix(path).values) == [Q]


# ------------------------------------------------------------------------------------------------- .dat


def dat_entry(name: str, calls: int, values: list[float]) -> bytes:
    raw = name.encode()
    head = struct.pack("<i", len(raw)) + raw + struct.pack("<ii", calls, len(values))
    return head + struct.pack(f"<{len(values)}f", *values)


def dat(*entries: bytes, tail: bytes = struct.pack("<ii", 4, 5) + b"a.txt") -> bytes:
    return struct.pack("<i", len(entries)) + b"".join(entries) + tail


def test_dat(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(dat(dat_entry(Q, 4, [4.0, 8.0]), dat_entry(DOWN, 2, [1.0])))
    read = read_imatrix(path)
    assert {name: values.tolist() for name, values in read.values.items()} == {
        Q: [1.0, 2.0],
        DOWN: [0.5],
    }
    assert read.counts == {Q: 4, DOWN: 2}
    assert (read.chunks, read.chunk_size, read.datasets) == (4, 0, ("a.txt",))


def test_dat_of_2023_ends_after_its_entries(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(dat(dat_entry(Q, 1, [3.0]), tail=b""))
    read = read_imatrix(path)
    assert read.values[Q].tolist() == [3.0]
    assert read.datasets == ()


def test_every_truncation_of_a_dat(tmp_path: Path) -> None:
    path, data = tmp_path / "i.dat", dat(dat_entry(Q, 4, [4.0, 8.0]))
    without_tail = len(dat(dat_entry(Q, 4, [4.0, 8.0]), tail=b""))
    for n in range(len(data)):
        path.write_bytes(data[:n])
        if n in (without_tail, without_tail + 4):  # a file of 2023, or one without a text's name
            read_imatrix(path)
            continue
        with pytest.raises(ModelFileError):
            read_imatrix(path)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (dat(dat_entry(Q, 1, [float("nan")])), "nan in column 0"),
        (dat(dat_entry(Q, 1, [1.0, -2.0])), "-2 in column 1"),
        (dat(dat_entry(Q, -1, [1.0])), "number -1"),
        (dat(dat_entry(Q, 1, [])), "number 0"),
        (dat(dat_entry(Q, 1, [1.0]), dat_entry(Q, 1, [1.0])), "twice"),
        (dat(dat_entry(Q, 1, [1.0])) + b"more", "4 bytes more"),
        (dat(dat_entry(Q, 1, [1.0]), tail=struct.pack("<ii", 1, 2**31 - 1)), "2,147,483,647"),
        (dat(struct.pack("<i", 4) + b"\xff\xfe\xfd\xfc" + bytes(8)), "not UTF-8"),
        (
            dat(struct.pack("<i", 2) + b"ab" + struct.pack("<ii", 1, 2**31 - 1)),
            "needs 8,589,934,588 bytes",
        ),
    ],
)
def test_damaged_dat(tmp_path: Path, data: bytes, what: str) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match=what) as caught:
        read_imatrix(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"GG", b"GGUF", b"a text about quantizing", bytes(100)])
def test_what_is_no_importance_matrix(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(data)
    with pytest.raises(ModelFileError):
        read_imatrix(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="pyqwen imatrix"):
        read_imatrix(tmp_path / "i.gguf")
    with pytest.raises(ModelFormatError, match="not a regular file"):
        read_imatrix(tmp_path)


def test_a_model_is_no_importance_matrix(tiny_model_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="no importance matrix"):
        read_imatrix(tiny_model_path)
