"""The pages of the documentation without mkdocs: links, navigation, and that nothing public is left out."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pyqwen
import pyqwen.quantize
import pyqwen.serve
from pyqwen.__main__ import VERBS, make_parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def _hook() -> ModuleType:
    """docs/pages.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("documentation_pages", DOCS / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _hook()
WRITTEN = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
SOURCES = [*(f"docs/{page}" for page in sorted(WRITTEN)), *PAGES.MIRRORS, "README.md"]
REFERENCE = "\n".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))


# ----------------------------------------------------------------------------------------- links


def anchors(markdown: str) -> set[str]:
    """The anchors of headings, as both mkdocs and forges make them of plain ones."""
    plain = PAGES.outside_fences(markdown, lambda text: text)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", plain, re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading)).strip().lower()
        found.add(re.sub(r"\s", "-", words))
    return found


def broken(file: str) -> Iterator[str]:
    for link in PAGES.links((ROOT / file).read_text("utf-8")):
        if ":" in link:
            continue
        path, _, anchor = link.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(file), path)) if path else file
        if place == f"docs/{PAGES.COMMAND_LINE}":
            continue
        of_mirror = next((f for f, page in PAGES.MIRRORS.items() if place == f"docs/{page}"), place)
        target = ROOT / of_mirror
        if not target.exists():
            yield f"{file}: {link} is not there"
        elif anchor and anchor not in anchors(target.read_text("utf-8")):
            yield f"{file}: {link}: no such heading"


@pytest.mark.parametrize("file", SOURCES)
def test_links_lead_somewhere(file: str) -> None:
    assert list(broken(file)) == []


def test_a_broken_link_would_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.md").write_text(
        "# One two\n[x](#one-two) [y](#three) [z](b.md)\n```\n[q](r)\n```"
    )
    assert [line.split(": ")[1] for line in broken("a.md")] == ["#three", "b.md is not there"]


def test_links_are_those_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[a](../../CONTRIBUTING.md#style) ![b](../images/serve.png) [c](../../LICENSE) [d](x.md)"
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert PAGES.site_links(text, "use/a.md") == (
        "[a](../contributing/index.md#style) ![b](../images/serve.png) c [d](x.md)"
    )
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://forge.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    text = "[a](kernels/README.md) [b](pyqwen.h) `[c](d)`"
    assert PAGES.site_links(text.split(" `")[0], "contributing/core.md") == (
        "[a](kernels.md) [b](https://forge.example/a/b/blob/main/csrc/pyqwen.h)"
    )


# ------------------------------------------------------------------------------------- navigation


def listed(nav: Any) -> Iterator[str]:
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from listed(entry)


def test_the_navigation_has_every_page_once() -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    settings = yaml.safe_load(text.replace("!!python/name:", ""))
    pages = list(listed(settings["nav"]))
    assert sorted(pages) == sorted({*WRITTEN, *PAGES.MIRRORS.values(), PAGES.COMMAND_LINE})


# -------------------------------------------------------------------------------------- reference


def shown() -> set[str]:
    return set(re.findall(r"^::: ([\w.]+)$", REFERENCE, re.MULTILINE))


def test_the_reference_has_all_public_names() -> None:
    public = {f"pyqwen.{name}" for name in pyqwen.__all__ if name != "__version__"}
    public |= {f"pyqwen.quantize.{name}" for name in pyqwen.quantize.__all__}
    public |= {f"pyqwen.serve.{name}" for name in pyqwen.serve.__all__}
    assert public - shown() == set()
    for name in shown() - public:  # what is shown besides exists
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    # Members are shown as mkdocs.yml says: all that do not begin with an underscore.
    assert set(re.findall(r"^::: (.*)\n    options:\n      members: false", REFERENCE, re.M)) == {
        "pyqwen.compat.Llama"  # whose methods are llama-cpp-python's
    }
    assert REFERENCE.count("members:") == 1
    assert 'filters: ["!^_"]' in (ROOT / "mkdocs.yml").read_text("utf-8")


@pytest.mark.parametrize("module", [pyqwen, pyqwen.quantize, pyqwen.serve])
def test_what_is_public_has_a_docstring(module: ModuleType) -> None:
    missing = []
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        members = [(name, value)]
        if inspect.isclass(value):
            members += [
                (f"{name}.{key}", member)
                for key, member in inspect.getmembers(value)
                if not key.startswith("_")
                and (inspect.isroutine(member) or isinstance(member, property))
                and "pyqwen" in str(getattr(getattr(member, "fget", member), "__module__", ""))
            ]
        missing += [path for path, member in members if not inspect.getdoc(member)]
    assert missing == []


def test_every_error_is_explained() -> None:
    page = (DOCS / "reference" / "errors.md").read_text("utf-8")
    errors = [
        name
        for name in pyqwen.__all__
        if inspect.isclass(cls := getattr(pyqwen, name)) and issubclass(cls, pyqwen.PyQwenError)
    ]
    assert len(errors) > 10
    for name in errors:
        assert f"::: pyqwen.{name}\n" in page
        if name not in ("PyQwenError", "ModelFileError"):  # which are bases
            assert f"| `{name}` |" in page


def test_every_setting_is_explained() -> None:
    page = (DOCS / "reference" / "settings.md").read_text("utf-8")
    sources = [*ROOT.glob("pyqwen/**/*.py"), *ROOT.glob("quantize/**/*.py")]
    read = {
        name
        for path in sources
        for name in re.findall(r"environ[^\n]*?\"(PYQWEN_[A-Z_]+)\"", path.read_text("utf-8"))
    }
    assert "PYQWEN_CACHE" in read
    assert {name for name in read if f"`{name}`" not in page} == set()


def test_the_command_line_is_that_of_the_parsers() -> None:
    page = PAGES.command_line()
    (verbs,) = [
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    assert len(verbs.choices) >= len(VERBS)
    for name, parser in verbs.choices.items():
        section = page.split(f"\n## pyqwen {name}\n")[1].split("\n## ")[0]
        for action in parser._actions:
            for flag in action.option_strings:
                assert flag in ("-h", "--help") or f"`{flag}" in section, f"{name} {flag}"


# ------------------------------------------------------------------------------------ second tier


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path, unavailable: Any) -> None:
    """Strictly, and with every public name and method in its index of objects."""
    if importlib.util.find_spec("mkdocs") is None:
        unavailable('mkdocs is not installed: pip install ".[docs]"')
    import zlib

    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    data = (tmp_path / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]
    objects = {line.split()[0] for line in zlib.decompress(data).decode().splitlines()}
    missing = []
    for name in pyqwen.__all__:
        value = getattr(pyqwen, name)
        if name == "__version__":
            continue
        members = []
        if inspect.isclass(value):
            members = [
                key
                for key, member in inspect.getmembers(value)
                if not key.startswith("_")
                and "pyqwen" in str(getattr(getattr(member, "fget", member), "__module__", ""))
            ]
        missing += [
            path
            for path in (f"pyqwen.{name}", *(f"pyqwen.{name}.{member}" for member in members))
            if path not in objects
        ]
    assert missing == []
