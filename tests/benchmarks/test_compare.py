"""benchmarks/compare.py, with a stand-in for llama-bench that answers, crashes or fails as it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

# Runs at 50 tokens/s, with -fa 1 at 40.
PROGRAM = """#!{python}
import json, os, signal, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if {crashes!r} == "always" or ({crashes!r} == "repacked" and flags.get("--repack") != "0"):
    os.kill(os.getpid(), signal.SIGSEGV)
if {crashes!r} == "fails":
    sys.exit("no such model")
row = {{"build_commit": "1234abc", "cpu_info": "cpu", "avg_ts": 40.0 if flags["-fa"] == "1" else 50.0}}
print(json.dumps([row]))
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program is a script")


def compare(tmp_path: Path, model: Path, crashes: str, *flags: str) -> dict[str, Any]:
    program = tmp_path / "llama-bench"
    program.write_text(PROGRAM.format(python=sys.executable, crashes=crashes))
    program.chmod(0o755)
    command = [sys.executable, str(BENCHMARKS / "compare.py"), str(model), "--json"]
    command += ["--llama-bench", str(program), "-p", "8", "-n", "2", "-r", "1", "-t", "1", *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def test_ratios_shares_and_who_was_compared(tmp_path: Path, tiny_model_path: Path) -> None:
    result = compare(tmp_path, tiny_model_path, "never", "-r", "2")
    assert str(tmp_path) not in json.dumps(result)
    assert result["command"].startswith("python benchmarks/compare.py ")
    (model,) = result["models"]
    assert model["llama"]["repack"] is True
    assert model["llama"]["build"] == "llama-bench 1234abc"
    prompt, generation = model["tests"]
    assert [prompt["test"], generation["test"]] == ["pp8", "tg2"]
    for row in model["tests"]:
        assert row["best_llama"] == "llama_fa0"
        ours = row["ts"]["pyqwen"]["values"]
        assert row["ratio"]["values"] == pytest.approx([speed / 50 for speed in ours])
        assert len(row["readings"]["pyqwen"]) == 4  # before and after each of two rounds
    assert generation["bandwidth_share"]["pyqwen"]["median"] > 0


def test_a_crash_is_told_and_avoided(tmp_path: Path, tiny_model_path: Path) -> None:
    (model,) = compare(tmp_path, tiny_model_path, "repacked", "-n", "0")["models"]
    assert model["llama"]["repack"] is False
    assert any("SIGSEGV" in note for note in model["llama"]["notes"])
    assert model["tests"][0]["best_llama"] == "llama_fa0"


@pytest.mark.parametrize(("crashes", "words"), [("always", "SIGSEGV"), ("fails", "no such model")])
def test_without_llama_pyqwen_is_measured_alone(
    tmp_path: Path, tiny_model_path: Path, crashes: str, words: str
) -> None:
    (model,) = compare(tmp_path, tiny_model_path, crashes, "-n", "0")["models"]
    (row,) = model["tests"]
    assert row["best_llama"] is None
    assert list(row["ts"]) == ["pyqwen"]
    assert any(words in note for note in model["llama"]["notes"])


def test_pyqwen_beside_itself(tmp_path: Path, tiny_model_path: Path) -> None:
    flags = ("--cases", "together,streaming,first-token", "--sequences", "2")
    (model,) = compare(tmp_path, tiny_model_path, "never", *flags)["models"]
    assert list(model["together"]["ts"]) == ["1", "2"]
    assert model["streaming"]["tokens"] == 2
    assert model["first_token"]["packing"]["seconds"]["median"] > 0
