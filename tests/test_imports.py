"""What imports what: no cycles, verbs apart, the core's border, and nothing heavier than what is used.

The graph is made of the syntax trees, so that imports inside functions and for type checkers count, too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pyqwen
import pyqwen.quantize
from pyqwen.__main__ import VERBS

# In an editable install the second is not below the first, or only as a link.
ROOTS = {package.__name__: Path(package.__file__).parent for package in (pyqwen, pyqwen.quantize)}

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the package by its name."""
    found = {}
    for package, root in ROOTS.items():
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


def imported(tree: ast.AST, known: set[str]) -> set[str]:
    """The modules among ``known`` that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                names.add(whole if whole in known else str(node.module))
    return names & known


def import_graph(paths: dict[str, Path]) -> Graph:
    known = set(paths)
    return {
        name: imported(ast.parse(path.read_text("utf-8")), known) for name, path in paths.items()
    }


def find_cycle(graph: Graph) -> list[str]:
    """A path that ends where it began; empty if there is none."""
    finished: set[str] = set()

    def follow(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in finished:
            return []
        for other in sorted(graph[name]):
            if cycle := follow(other, [*trail, name]):
                return cycle
        finished.add(name)
        return []

    return next((cycle for name in sorted(graph) if (cycle := follow(name, []))), [])


GRAPH = import_graph(modules())


def test_a_cycle_would_be_found(tmp_path: Path) -> None:
    sources = {
        "a": "import b",
        "b": "def f():\n    from c import g",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a import A",
        "d": "import a",
    }
    paths = {name: tmp_path / f"{name}.py" for name in sources}
    for name, text in sources.items():
        paths[name].write_text(text)
    assert find_cycle(import_graph(paths)) == ["a", "b", "c", "a"]
    paths["c"].write_text("import os")
    assert find_cycle(import_graph(paths)) == []


def test_modules_do_not_import_in_circles() -> None:
    assert len(GRAPH) > 50
    cycle = find_cycle(GRAPH)
    assert not cycle, " -> ".join(cycle)


def test_verbs_do_not_import_verbs() -> None:
    verbs = {verb.__name__ for verb in VERBS}
    wrong = {f"{verb} -> {other}" for verb in verbs for other in GRAPH[verb] & verbs}
    helpers = {name for name in GRAPH if name.startswith("pyqwen.cli.")} - verbs
    wrong |= {f"{name} -> {other}" for name in helpers for other in GRAPH[name] & verbs}
    assert not wrong


@pytest.mark.parametrize(
    ("part", "may_import"),
    [
        ("_native", {"errors"}),  # it decides nothing, so it needs nothing
        ("text", {"errors", "interruptible", "_native"}),
        ("tools", {"errors", "results", "constraints"}),
        ("catalog", {"errors", "os_errors", "units"}),
        ("loading", {"errors", "os_errors", "_native", "text", "catalog", "sampling"}),
        ("constraints", {"errors", "_native", "text", "results"}),
        (
            "engine",
            {
                "errors",
                "os_errors",
                "output_file",
                "_native",
                "text",
                "constraints",
                "tools",
                "options",
                "results",
                "sampling",
            },
        ),
        (
            "batches",
            {
                "catalog",
                "drafting",
                "engine",
                "errors",
                "loading",
                "model",
                "os_errors",
                "output_file",
                "serve",
                "_native",
            },
        ),
        (
            "serve",
            {
                "catalog",
                "constraints",
                "errors",
                "engine",
                "loading",
                "model",
                "options",
                "results",
            },
        ),
        (
            "compat",
            {
                "_native",
                "catalog",
                "constraints",
                "engine",
                "errors",
                "loading",
                "model",
                "options",
                "results",
                "sampling",
                "text",
            },
        ),
        (
            "measuring",
            {"errors", "interruptible", "units", "_native", "text", "catalog", "loading"},
        ),
        (
            "quantize",
            {
                "errors",
                "interruptible",
                "os_errors",
                "output_file",
                "_native",
                "text",
                "catalog",
                "loading",
                "sampling",
            },
        ),
    ],
)
def test_parts_stand_on_those_below(part: str, may_import: set[str]) -> None:
    used = {
        (name, other.split(".")[1])
        for name, others in GRAPH.items()
        if name.split(".")[1:2] == [part]
        for other in others
        if other != "pyqwen"
    }
    assert used, "there is no such part"
    wrong = {(name, other) for name, other in used if other not in {part, *may_import}}
    assert not wrong


def run_python(code: str, *args: object) -> str:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_answering_imports_no_more_than_it_needs(tiny_model_path: Path) -> None:
    code = """
import sys
from pyqwen import Model
with Model(sys.argv[1]) as model:
    assert model.chat("Hello!", max_tokens=4).usage.completion_tokens
    for chunk in model.stream_chat("Hello!", max_tokens=2):
        pass
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""
    # numpy and asyncio take longer than all the rest together.
    unwanted = ("numpy", "asyncio", "gguf", "rich", "prompt_toolkit", "huggingface_hub")
    unwanted += ("llguidance", "jsonschema")
    assert run_python(code, tiny_model_path, *unwanted, "threading").split() == ["threading"]
