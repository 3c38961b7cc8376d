"""Kills, full disks, bad files: the old output or a complete new one, and a message that helps."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from pyqwen.errors import (
    ModelChangedError,
    ModelFileError,
    ModelFormatError,
    NumericError,
    UnsupportedModelError,
)
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.quantize import convert, quantize


@pytest.fixture
def full(make_checkpoint, tmp_path: Path) -> Path:
    """A GGUF file in BF16."""
    path = make_checkpoint(hidden=256, ffn=512, layers=2).write()
    return convert(path, tmp_path / "full.gguf").path


# ------------------------------------------------------------------------------------------------ the output


@pytest.mark.parametrize("how", ["same", "dotted", "symbolic", "hard"])
def test_the_output_is_the_input(full: Path, tmp_path: Path, how: str) -> None:
    before = full.read_bytes()
    (tmp_path / "sub").mkdir()
    out = {"same": full, "dotted": tmp_path / "sub" / ".." / full.name}.get(how, tmp_path / "link")
    if how == "symbolic":
        out.symlink_to(full)
    elif how == "hard":
        out.hardlink_to(full)
    with pytest.raises(ValueError, match="is the input"):
        quantize(full, out, "Q4_K_M")
    assert full.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_the_output_is_a_part_of_the_input(make_tiny_model, tmp_path: Path) -> None:
    first = make_tiny_model(tensor_type="F16", split_max_tensors=7)
    parts = sorted(first.parent.glob(f"{first.name[:-20]}-*"))
    assert len(parts) > 2
    for out in parts:
        with pytest.raises(ValueError, match="is the input"):
            quantize(first, out, "Q4_0")


def test_output_inside_a_checkpoint(make_checkpoint) -> None:
    path = make_checkpoint().write()
    with pytest.raises(ValueError, match="inside the input"):
        quantize(path, path / "out.gguf", "Q4_0")


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
@pytest.mark.parametrize("limit", [0, 5000, 100_000])
def test_a_full_disk(full: Path, tmp_path: Path, limit: int) -> None:
    import resource

    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model\.gguf") as caught:
            quantize(full, out, "Q8_0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.errno == errno.EFBIG
    assert out.read_bytes() == b"old"
    assert not list(tmp_path.glob("*.partial"))


def test_a_failing_flush(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"model\.gguf"):
        quantize(full, out, "Q8_0")
    assert out.read_bytes() == b"old"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_killed_at_any_instant(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    expected = quantize(full, tmp_path / "expected.gguf", "Q6_K").path.read_bytes()
    # Without waiting for imports: quantize over and over, and be killed somewhere.
    script = (
        "import sys; from pyqwen.quantize import quantize\n"
        "print('ready', flush=True)\n"
        "while True: quantize(sys.argv[1], sys.argv[2], 'Q6_K')\n"
    )
    instants = random.Random(5)
    seen = set()
    for _ in range(6):
        out.write_bytes(b"old")
        command = [sys.executable, "-c", script, full, out]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(instants.uniform(0, 0.4))
            process.kill()
        now = out.read_bytes()
        assert now in (b"old", expected)
        seen.add((tmp_path / "model.gguf.partial").exists())
    quantize(full, out, "Q6_K")  # what a killed run left is in nobody's way
    assert out.read_bytes() == expected
    assert not (tmp_path / "model.gguf.partial").exists()
    assert True in seen  # some were killed in the middle


# ------------------------------------------------------------------------------------------------- the input


def test_every_truncation_of_a_gguf_file_is_noticed(full: Path, tmp_path: Path) -> None:
    data = full.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [*range(0, 4000, 531), len(data) // 2, len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r"cut\.gguf"):
            quantize(cut, tmp_path / "model.gguf", "Q4_K_M")
    assert not (tmp_path / "model.gguf").exists()


def test_a_change_while_reading_is_noticed(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"

    def change(done: int, total: int) -> None:
        with full.open("ab") as file:
            file.write(b" ")

    with pytest.raises(ModelChangedError, match=r"full\.gguf was changed"):
        quantize(full, out, "Q4_K_M", progress=change)
    assert not out.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("recipe", ["Q4_K_M", "COPY", "F16"])
@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.1.ffn_norm.weight"])
def test_values_that_are_not_finite(
    full: Path, tmp_path: Path, value: float, recipe: str, name: str
) -> None:
    element = 300 if name == "blk.1.ffn_up.weight" else 30
    place = "[1, 44]" if element == 300 else "[30]"
    with GGUFFile(full) as file:
        info = file.tensor(name)
    kind, size = (np.uint16, 2) if info.type == "BF16" else (np.float32, 4)
    bits = np.array([value], np.float32).view(np.uint16)[1:] if size == 2 else np.float32([value])
    with full.open("r+b") as raw:
        raw.seek(info.offset + element * size)
        raw.write(bits.astype(kind).tobytes())
    with pytest.raises(NumericError) as caught:
        quantize(full, tmp_path / "model.gguf", recipe)
    for word in ("full.gguf", name, place, "1 value", "damaged"):
        assert word in str(caught.value)
    assert not (tmp_path / "model.gguf").exists()


def test_damaged_scales_are_not_copied(full: Path, tmp_path: Path) -> None:
    quantized = quantize(full, tmp_path / "q8.gguf", "Q8_0").path
    assert quantized is not None
    with GGUFFile(quantized) as file:
        info = file.tensor("blk.0.attn_q.weight")
    with quantized.open("r+b") as raw:
        raw.seek(info.offset + 34 * 8 * 3)  # row 3, its first block
        raw.write(np.float16(np.inf).tobytes())
    with pytest.raises(NumericError, match=r"blk\.0\.attn_q\.weight.*\[3, 0\]"):
        quantize(quantized, tmp_path / "copy.gguf", "COPY")


def test_models_of_another_kind(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "gemma")
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModelError, match="gemma"):
        quantize(tmp_path / "other.gguf", tmp_path / "model.gguf", "Q4_0")


def test_a_missing_part(make_tiny_model, tmp_path: Path) -> None:
    first = make_tiny_model(tensor_type="F16", split_max_tensors=7)
    copy = tmp_path / first.name
    copy.write_bytes(first.read_bytes())
    with pytest.raises(ModelFileError, match="00002-of"):
        quantize(copy, tmp_path / "model.gguf", "Q4_0")


def test_an_importance_matrix_that_is_none(full: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"full\.gguf"):
        quantize(full, tmp_path / "model.gguf", "Q4_0", imatrix=full)
    with pytest.raises(FileNotFoundError, match=r"no\.gguf"):
        quantize(full, tmp_path / "model.gguf", "Q4_0", imatrix=tmp_path / "no.gguf")


def test_the_process_survives_a_read_error(full: Path, tmp_path: Path) -> None:
    """A buffer that was still lent to the core when the error came crashed the garbage collector."""
    code = """
import gc, os, sys
from pyqwen import PyQwenError
from pyqwen.quantize import quantize
def cut(*_):
    os.truncate(sys.argv[1], 20_000)
for _ in range(3):
    try:
        quantize(sys.argv[1], sys.argv[2], "Q8_0", progress=cut)
    except PyQwenError as error:
        print(type(error).__name__)
    gc.collect()
"""
    command = [sys.executable, "-c", code, str(full), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == "ModelChangedError"
    assert len(done.stdout.split()) == 3
