"""``--adapter`` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model
from pyqwen.__main__ import main

sys.path.append(str(Path(__file__).parents[1] / "adapters"))
import peft_files as pf


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return pf.write_adapter(
        tmp_path / "a=1", pf.factors(1)
    )  # a name with what separates the factor


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_run_and_plan(
    tiny_model_path: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "-m", tiny_model_path, "-q", "--temp", 0, "-n", 8, "Hello!"]
    with Model(tiny_model_path, adapters={"a": adapter}) as model:
        expected = {
            factor: model.chat("Hello!", temperature=0, max_tokens=8, adapter={"a": factor}).text
            for factor in (0, 1, -0.5, 0.5)
        }
    assert len(set(expected.values())) == 4
    assert said(capsys, *run) == expected[0] + "\n"
    assert said(capsys, *run, "--adapter", adapter) == expected[1] + "\n"
    assert said(capsys, *run, "--adapter", f"{adapter}=-0.5") == expected[-0.5] + "\n"
    twice = [f"--adapter={adapter}", f"--adapter={adapter}=-0.5"]
    assert said(capsys, *run, *twice).strip()
    planned = json.loads(said(capsys, "plan", tiny_model_path, "--json", "--adapter", adapter))
    assert planned["adapters"] > 50_000
    assert "adapters" in said(capsys, "plan", tiny_model_path, "--adapter", adapter)


@pytest.mark.parametrize("argument", ["x=", "x=y", "=1", "x=nan", "x=inf"])
def test_what_is_no_factor(
    tiny_model_path: Path, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-m", str(tiny_model_path), "--adapter", argument, "Hi"]) == 2
    assert "PATH=SCALE" in capsys.readouterr().err


def test_what_is_no_adapter(
    tiny_model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-m", str(tiny_model_path), "--adapter", str(tmp_path), "Hi"]) == 1
    assert "has no adapter_config.json" in capsys.readouterr().err
    both = ["--adapter", str(tmp_path), "--session", str(tmp_path / "s")]
    for verb in ("run", "chat"):
        assert main([verb, "-m", str(tiny_model_path), *both]) == 2
        assert "--session" in capsys.readouterr().err
    many = ["-m", str(tiny_model_path), "-m", str(tiny_model_path), "--adapter", "a"]
    assert main(["serve", *many]) == 2
