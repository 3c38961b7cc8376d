"""Every example of the documentation runs: here with tiny models, in the second tier with a trained one."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules here that are no test modules

import desk
import shell
from page_examples import KINDS, Example, examples, examples_of, pages

EXAMPLES = examples()
CODE = ("python", "sh")
DATA = {"json": "json", "toml": "tomllib", "yaml": "yaml"}
OTHERS = ("text", "mermaid")


def of(*languages: str, kind: str = "") -> list[Any]:
    chosen = [e for e in EXAMPLES if e.language in languages and e.kind == kind]
    return [pytest.param(example, id=example.name) for example in chosen]


Desk = tuple[Path, dict[str, str]]
"""The folder in which examples run, and what the environment needs."""


@pytest.fixture(scope="module")
def tiny_desk(
    make_tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Desk:
    """With tiny models."""
    models, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("desk")
    return folder, desk.lay_out(folder, *desk.tiny_models(make_tiny_model, models))


@pytest.fixture(scope="module")
def trained_desk(qwen_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """With a trained one under all names."""
    folder = tmp_path_factory.mktemp("desk")
    return folder, desk.lay_out(folder, qwen_path, qwen_path)


def sit_down(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("PYQWEN_", "HF_")):
            monkeypatch.delenv(name)
    for name, value in at[1].items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(at[0])


def execute(example: Example) -> None:
    if example.language == "sh":
        shell.run(example.code)
    else:
        exec(compile(example.code, example.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("example", of(*CODE))
def test_examples(example: Example, tiny_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sit_down(tiny_desk, monkeypatch)
    monkeypatch.setenv("PYQWEN_THREADS", "1")
    seeds = random.Random(0)  # what a tiny model says is left to chance, the same in every run
    monkeypatch.setattr("pyqwen.engine.calls.SystemRandom", lambda: seeds)
    execute(example)


@pytest.mark.qwen
@pytest.mark.parametrize("example", of(*CODE))
def test_examples_with_a_trained_model(
    example: Example, trained_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    sit_down(trained_desk, monkeypatch)
    execute(example)


@pytest.fixture(scope="module")
def address(smollm_path: Path) -> Iterator[str]:
    """Host and port of a server."""
    command = [sys.executable, "-m", "pyqwen", "serve", "-m", str(smollm_path), "--port", "0"]
    command += ["--alias", "qwen2.5-coder-1.5b", "-c", "2048"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = iter(server.stderr)
        yield next(found[1] for line in lines if (found := re.search(r"http://([\w.:]+)", line)))
        server.kill()


@pytest.mark.clients
@pytest.mark.filterwarnings("ignore")  # what clients leave open or warn of is theirs
@pytest.mark.parametrize("example", of("python", kind="client"))
def test_examples_with_clients(example: Example, address: str, unavailable: Any) -> None:
    if importlib.util.find_spec(example.package) is None:
        unavailable(f"the package {example.package} is not installed")
    execute(replace(example, code=example.code.replace("127.0.0.1:8080", address)))


@pytest.mark.parametrize("example", of(*DATA))
def test_settings_of_other_programs(example: Example) -> None:
    module = pytest.importorskip(DATA[example.language])
    load = getattr(module, "safe_load", None) or module.loads
    assert load(example.code)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_block_is_overlooked(page: Path) -> None:
    text = page.read_text("utf-8")
    fences = re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)
    assert len(fences) == 2 * len(list(examples_of(page)))


def test_no_example_is_left_out() -> None:
    for example in EXAMPLES:
        assert example.language in (*CODE, *DATA, *OTHERS), f"{example.name}: {example.language}"
        assert example.kind in KINDS, f"{example.name}: {example.kind!r} is nothing that is known"
        assert bool(example.package) == (example.kind == "client"), example.name
        if example.language == "python":
            compile(example.code, example.name, "exec")
            assert example.kind in ("", "client"), f"{example.name}: Python can be run"
    assert len(of("python")) >= 20
    assert len(of("sh")) >= 15


@pytest.mark.parametrize("example", of("sh", kind="long"))
def test_words_of_long_commands(example: Example) -> None:
    from pyqwen.__main__ import make_parser

    for command in shell._commands(example.code):
        assert command[0][0] == "pyqwen"
        make_parser().parse_args(command[0][1:])


def test_an_example_that_fails_is_noticed() -> None:
    with pytest.raises(AssertionError, match="ends with 2"):
        shell.run("pyqwen run -q --choice")
    with pytest.raises(AssertionError, match="ends with 1"):
        shell.run("printf 'a' | pyqwen inspect /nowhere.gguf && pyqwen doctor")
