"""The output is complete under its name or not there: failures, full disks, kills, two runs at once."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyqwen.quantize import convert
from pyqwen.quantize.output.output_file import OutputFile


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
    with pytest.raises(FileNotFoundError, match="missing"):
        convert(make_checkpoint().write(), tmp_path / "missing" / "model.gguf")


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
        time.sleep(60)

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
