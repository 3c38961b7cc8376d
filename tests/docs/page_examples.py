"""The examples of the documentation: the blocks of code of its pages, each with how it is to be run.

A comment above a block says what is special about it::

    <!-- example: client openai -->

Without one a block of Python or of shell is run as it stands. ``python tests/docs/page_examples.py FOLDER``
writes all Python there, one file a block, for type checkers (``.ci/lint``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

KINDS = {
    "": "run as it stands",
    "long": "takes minutes, or more than a machine: only its words are checked",
    "client": "talks to a server with somebody else's package, which it names",
    "installs": "changes the environment that runs it; .ci/run and .ci/wheel install",
    "other program": "starts a program that is not pyqwen's",
}
"""What a comment may say, without the name of a package, and what it means."""

_BLOCK = re.compile(
    r"^(?:<!-- example: (?P<note>[^\n]*?) -->\n)?(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<code>.*?)^(?P=indent)```\s*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """A block of code: ``line`` is where its fence is, ``kind`` a key of ``KINDS``."""

    page: str
    line: int
    language: str
    kind: str
    package: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """README and the pages that people write."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples_of(page: Path) -> Iterator[Example]:
    """All blocks of code of a page, in order, of whatever language."""
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        kind, _, package = (block["note"] or "").partition(" ")
        if block["note"] in KINDS:
            kind, package = block["note"], ""
        code = "\n".join(line.removeprefix(block["indent"]) for line in block["code"].splitlines())
        line = text.count("\n", 0, block.start("indent")) + 1
        name = page.relative_to(ROOT).as_posix()
        yield Example(name, line, block["language"], kind, package, code + "\n")


def examples() -> list[Example]:
    """All examples of all pages."""
    return [example for page in pages() for example in examples_of(page)]


def write_python(folder: Path) -> None:
    """Write each block of Python to a file of its own that says where it is from."""
    for example in examples():
        if example.language == "python":
            name = re.sub(r"\W", "_", example.name)
            text = f"# {example.name}\n{example.code}"
            (folder / f"{name}.py").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_python(Path(sys.argv[1]))
