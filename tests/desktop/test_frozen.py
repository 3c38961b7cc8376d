"""Programs that PyInstaller freezes: they start in an empty home and answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.desktop

PROGRAM = """
import sys
import pyqwen
from pyqwen import Constraint, Model

with Model(sys.argv[1], context=64) as model:
    answer = model.chat("One,", max_tokens=3, temperature=0)
    choice = model.generate("One,", response_format=Constraint.choice(["two", "three"]))
print(pyqwen.__version__, len(answer.token_ids), answer.finish_reason, choice.text)
"""


def test_a_frozen_program_answers(tiny_model_path: Path, tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller", reason="pip install pyinstaller")
    import pyqwen

    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"]
    subprocess.run([*command, "program.py"], cwd=tmp_path, check=True, timeout=600)
    frozen = tmp_path / "elsewhere"
    shutil.move(tmp_path / "dist" / "program", frozen)
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [frozen / "program", tiny_model_path],
        cwd=home,
        env={"HOME": str(home), "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    version, written, reason, choice = done.stdout.split()
    assert (version, written, reason) == (pyqwen.__version__, "3", "length")
    assert choice in ("two", "three")
