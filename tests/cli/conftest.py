"""Running the command line: in this process for speed, in one of its own where that matters."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyqwen.__main__ import main


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("PYQWEN_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """``call("run", "-m", path, "Hello", stdin="...")``: the exit code and what was printed."""

    def run(*argv: object, stdin: str | bytes = "") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``pyqwen`` as a process, away from the clone, whose package is not the installed one."""
    with ExitStack() as processes:

        def run(*argv: object, **options: Any) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "pyqwen", *(str(argument) for argument in argv)]
            process = subprocess.Popen(command, cwd=tmp_path, **options)
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield run


@pytest.fixture(scope="session")
def slow_model_path(make_tiny_model: Callable[..., Path]) -> Path:
    """A model that reads about a hundred tokens per second with the exact kernels in plain C."""
    return make_tiny_model(
        layers=2, hidden=512, ffn=1024, heads=8, kv_heads=4, context=32768, seed=1
    )


@pytest.fixture
def slow_environment() -> dict[str, str]:
    return os.environ | {"PYQWEN_ISA": "scalar", "PYQWEN_EXACT": "1", "PYQWEN_THREADS": "1"}
