"""``pyqwen convert``: exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyqwen.__main__ import main


def test_convert(make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.gguf"
    path = make_checkpoint(ffn=80).write()
    assert main(["convert", str(path), str(out), "--outtype", "q8_0"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "Q8_0" in printed.err
    assert "blk.0.ffn_down.weight is F16: rows of 80" in printed.err
    assert main(["inspect", str(out)]) == 0


def test_an_error_is_one_line(
    make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_checkpoint(hidden_act="gelu").write()
    assert main(["convert", str(path), str(tmp_path / "model.gguf")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pyqwen: error: ")
    assert printed.err.count("\n") == 1


def test_wrong_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", "in", "out.gguf", "--outtype", "q4_k"])
    assert caught.value.code == 2
    assert "q8_0" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_control_c(make_checkpoint, tmp_path: Path) -> None:
    # One tensor takes a minute to read, so that the program is certainly in the middle of its work.
    path = make_checkpoint().write()
    script = (
        "import sys, pyqwen.quantize.safetensors_file as f\n"
        "read = f.StoredTensor.read_rows\n"
        "def slow(tensor, start, stop):\n"
        "    if 'model.norm' in tensor.name:\n"
        "        print('reading', flush=True)\n"
        "        __import__('time').sleep(60)\n"
        "    return read(tensor, start, stop)\n"
        "f.StoredTensor.read_rows = slow\n"
        "from pyqwen.__main__ import main\n"
        "sys.exit(main(['convert', *sys.argv[1:]]))\n"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "model.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        assert (tmp_path / "model.gguf.partial").exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
