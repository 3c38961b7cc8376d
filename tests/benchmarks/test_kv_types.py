"""benchmarks/kv_types.py on a tiny model: its tables are whole, and f32 differs from itself by nothing."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kv_types.py"


@pytest.fixture
def table(monkeypatch, capsys, tiny_model_path):
    def run(*options):
        spec = importlib.util.spec_from_file_location("kv_types", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tiny_model_path), *options])
        module.main()
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]

    return run


def test_divergence(table):
    rows = table("--tokens", "300", "--types", "f32", "f16", "q8_0,q4_0")
    assert [row[0] for row in rows] == ["f32", "f16", "q8_0,q4_0"]
    assert float(rows[0][1]) == 0
    assert rows[0][3] == "100.0 %"
    assert 0 < float(rows[1][1]) < float(rows[2][1])
    assert [row[5] for row in rows] == ["200 %", "100 %", "44 %"]


def test_speed(table):
    options = ("--depths", "0", "200", "--rounds", "1", "--steps", "2", "-t", "1")
    rows = table("--speed", "--types", "f16", "q8_0", *options)
    assert [row[:2] for row in rows] == [[t, d] for d in ("0", "200") for t in ("f16", "q8_0")]
    assert all(float(row[2]) > 0 and float(row[5]) > 0 for row in rows)
