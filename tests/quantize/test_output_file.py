"""The output is complete under its name or not there: failures, full disks, kills, two runs at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyqwen.output_file import OutputFile
from pyqwen.quantize import ImportanceMatrix, convert, quantize, write_imatrix


def test_an_existing_file_is_replaced(make_checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    convert(make_checkpoint().write(), out)
    assert out.read_bytes()[:4] == b"GGUF"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model.gguf"]


@pytest.mark.parametrize("name", ["out.gguf", "model.safetensors", "sub/../config.json"])
def test_output_inside_the_input(make_checkpoint, name: str) -> None:
    path = make_checkpoint().write()
    (path / "sub").mkdir()
    before = (path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="inside the input"):
        convert(path, path / name)
    assert not (path / "out.gguf").exists()
    assert (path / "model.safetensors").read_bytes() == before


def test_output_is_the_input_by_another_name(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    (tmp_path / "link.gguf").symlink_to(path / "model.safetensors")
    with pytest.raises(ValueError, match="inside the input"):
        convert(path, tmp_path / "link.gguf")
    (tmp_path / "hard.gguf").hardlink_to(path / "model.safetensors")
    with pytest.raises(ValueError, match="is the input"):
        convert(path, tmp_path / "hard.gguf")


def test_output_is_a_directory(make_checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a regular file"):
        convert(make_checkpoint().write(), tmp_path)


def test_output_directory_is_missing(make_checkpoint, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing") as caught:
        convert(make_checkpoint().write(), tmp_path / "missing" / "model.gguf")
    assert caught.value.errno == errno.ENOENT


def test_not_enough_space_is_found_before_writing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(OSError, match="not enough space"),
        OutputFile(out, inputs=[], n_bytes=1 << 60),
    ):
        pytest.fail("it should not get here")
    assert list(tmp_path.iterdir()) == []


def test_two_runs_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with OutputFile(out, inputs=[], n_bytes=0) as first:
        first.file.write(b"first")
        with pytest.raises(OSError, match="another process") as caught:
            OutputFile(out, inputs=[], n_bytes=0).__enter__()
        assert caught.value.errno == errno.EBUSY
        first.commit()
    assert out.read_bytes() == b"first"
    with OutputFile(out, inputs=[], n_bytes=0) as second:
        second.file.write(b"second")
        second.commit()
    assert out.read_bytes() == b"second"


def test_what_a_killed_run_left_is_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "out.partial").write_bytes(b"left behind by a run that was killed")
    with OutputFile(out, inputs=[], n_bytes=0) as file:
        file.file.write(b"new")
        file.commit()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert out.read_bytes() == b"new"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link", "pipe"])
def test_what_lies_in_the_way_is_not_written_through(tmp_path: Path, kind: str) -> None:
    out, victim, partial = (tmp_path / name for name in ("out", "victim", "out.partial"))
    victim.write_bytes(b"precious")
    match kind:
        case "link":
            partial.symlink_to(victim)
        case "hard link":
            partial.hardlink_to(victim)
        case "dangling link":
            partial.symlink_to(tmp_path / "nowhere")
        case _:
            os.mkfifo(partial)
    with OutputFile(out, inputs=[], n_bytes=0) as file:
        file.file.write(b"new")
        file.commit()
    assert victim.read_bytes() == b"precious"
    assert victim.stat().st_nlink == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "victim"]
    assert out.read_bytes() == b"new"
    assert out.is_file()
    assert not out.is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "t.jinja"])
def test_a_blob_behind_the_checkpoint_is_an_input(
    make_checkpoint, tmp_path: Path, name: str
) -> None:
    """The layout of the hub's cache: files are links to others, which are the model just as well."""
    path = make_checkpoint().write()
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "t.jinja").write_text("T")
    (tmp_path / "blobs").mkdir()
    file = next(path.rglob(name))
    blob = file.rename(tmp_path / "blobs" / name)
    file.symlink_to(blob)
    before = blob.read_bytes()
    for make, kind in ((convert, "auto"), (quantize, "Q4_0")):
        with pytest.raises(ValueError, match="is the input"):
            make(path, blob, kind)
    assert blob.read_bytes() == before


def test_the_importance_matrix_is_an_input(make_checkpoint, tmp_path: Path) -> None:
    matrix = tmp_path / "m.gguf"
    values = {"blk.0.attn_q.weight": np.ones(128, np.float32)}
    write_imatrix(matrix, ImportanceMatrix(values, {"blk.0.attn_q.weight": 1}, 1, 512, ()))
    before = matrix.read_bytes()
    model = convert(make_checkpoint().write(), tmp_path / "model.gguf", "f32").path
    for source in (tmp_path / "checkpoint", model):
        with pytest.raises(ValueError, match="is the input"):
            quantize(source, matrix, "Q4_0", imatrix=matrix)
        quantize(source, tmp_path / "q.gguf", "Q4_0", imatrix=matrix)
    assert matrix.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_full_disk(make_checkpoint, tmp_path: Path) -> None:
    import resource

    path = make_checkpoint().write()
    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model\.gguf") as caught:
            convert(path, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.errno == errno.EFBIG
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model.gguf"]


# A conversion that tells when it is in the middle and waits there to be stopped.
STOPPED = """
import sys, time
from pyqwen.quantize import convert

def wait(done, total):
    if done > total / 2:
        print("half", flush=True)
        for _ in range(600):  # a signal just before a sleep is seen after it
            time.sleep(0.1)

convert(sys.argv[1], sys.argv[2], progress=wait)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGINT"])
def test_stopped_in_the_middle(make_checkpoint, tmp_path: Path, signal_name: str) -> None:
    path = make_checkpoint().write()
    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, path, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.Signals[signal_name])
        process.wait(timeout=10)
    assert out.read_bytes() == b"old"
    assert (tmp_path / "model.gguf.partial").exists() == (signal_name == "SIGKILL")
    convert(path, out)
    assert out.read_bytes()[:4] == b"GGUF"
    assert not (tmp_path / "model.gguf.partial").exists()
