"""Pages of the site that are made of other files, so that each fact has one source.

A hook of mkdocs (``mkdocs.yml`` names it) and, without mkdocs, what ``tests/docs`` checks links with. It owns

- the page of the command line, made of the parsers of ``pyqwen/cli``;
- which Markdown files of the repository appear on the site under which address;
- links out of ``docs/``: to another page where the file has one, else to the file in the repository.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

MIRRORS = {
    "CONTRIBUTING.md": "contributing/index.md",
    "csrc/README.md": "contributing/core.md",
    "csrc/kernels/README.md": "contributing/kernels.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "how/benchmarks.md",
    "benchmarks/PREDICTIONS.md": "how/predictions.md",
    "benchmarks/results/noise.md": "how/rounding.md",
    "benchmarks/results/tool-calls.md": "how/tool-calls.md",
    "benchmarks/results/llama-server-tests.md": "how/llama-server-tests.md",
}
"""Files of the repository that are pages, too."""
COMMAND_LINE = "reference/command-line.md"

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^(\s*)(`{3,}).*?^\1\2\s*?$", re.MULTILINE | re.DOTALL)


# ------------------------------------------------------------------------------------------ links


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Apply ``change`` to what is not in a block of code."""
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def links(markdown: str) -> Iterator[str]:
    """The targets of all links and images of a text, those in blocks of code left out."""
    found: list[str] = []

    def collect(text: str) -> str:
        found.extend(link[3] for link in _LINK.finditer(text))
        return text

    outside_fences(markdown, collect)
    return iter(found)


def source_of(page: str) -> str:
    """The file of the repository that a page is made of, from the root."""
    return next((file for file, at in MIRRORS.items() if at == page), f"docs/{page}")


def page_of(file: str) -> str | None:
    """The page that shows a file of the repository, or the file's place on the site; None: it has none."""
    if file in MIRRORS:
        return MIRRORS[file]
    return file.removeprefix("docs/") if file.startswith("docs/") else None


def repository_url() -> str:
    """Where files of the repository can be seen: known where a workflow of the forge runs, else empty."""
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{name}" if server and name else ""


def site_links(markdown: str, page: str) -> str:
    """Turn links as the repository has them into links as the site needs them."""
    folder = posixpath.dirname(source_of(page))

    def link(found: re.Match[str]) -> str:
        image, text, target = found.groups()
        if ":" in target or target.startswith("#"):
            return found[0]
        path, mark, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(folder, path))
        if (place := page_of(file)) is not None:
            there = posixpath.relpath(place, posixpath.dirname(page) or ".")
            return f"{image}[{text}]({there}{mark}{anchor})"
        if url := repository_url():
            return f"{image}[{text}]({url}/blob/main/{file}{mark}{anchor})"
        return text

    return outside_fences(markdown, lambda text: _LINK.sub(link, text))


# ------------------------------------------------------------------------------- the command line


def command_line() -> str:
    """The page of the command line: each verb with its arguments, out of its parser."""
    if str(ROOT) not in sys.path:  # the clone's own, which needs no compiled core for this
        sys.path.insert(0, str(ROOT))
    from pyqwen.__main__ import make_parser

    # Help texts are not wrapped at the width of somebody's terminal.
    os.environ["COLUMNS"] = "100"
    parser = make_parser()
    (verbs,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parts = [
        "# Command line\n",
        "This page is made of the parsers of the program: `pyqwen VERB --help` says the same.\n",
        "| verb | |\n|---|---|",
        *(f"| [`{a.dest}`](#pyqwen-{a.dest}) | {a.help} |" for a in verbs._choices_actions),
        "",
        f"`pyqwen` itself takes {_inline(parser)}.\n",
        *(_verb(name, verb) for name, verb in verbs.choices.items()),
    ]
    return "\n".join(parts)


def _inline(parser: argparse.ArgumentParser) -> str:
    options = [a for a in parser._actions if a.option_strings and a.dest != "help"]
    return " and ".join(f"`{a.option_strings[-1]}` ({a.help})" for a in options)


def _verb(name: str, parser: argparse.ArgumentParser) -> str:
    description = " ".join((parser.description or "").split())
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    parts = [f"## pyqwen {name}\n", f"{description}\n", f"```text\n{usage}\n```\n"]
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.dest != "help"]
        if not actions:
            continue
        title = {"positional arguments": "", "options": ""}.get(group.title or "", group.title)
        parts += [f"**{str(title).capitalize()}.** {group.description or ''}\n"] if title else []
        parts += ["| argument | |\n|---|---|"]
        parts += [f"| {_spelled(action)} | {_helped(action)} |" for action in actions]
        parts += [""]
    if parser.epilog:
        examples = "\n".join(line.strip() for line in parser.epilog.splitlines()[1:])
        parts += [f"```text\n{examples}\n```\n"]
    return "\n".join(parts)


def _spelled(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_cell(str(action.metavar or action.dest))}`"
    value = ""
    if action.nargs != 0:
        if isinstance(action.metavar, tuple):
            value = " ".join(action.metavar)
        elif action.metavar is not None:
            value = action.metavar
        elif action.choices is not None:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        else:
            value = action.dest.upper()
    return ", ".join(f"`{_cell(f'{flag} {value}'.strip())}`" for flag in action.option_strings)


def _helped(action: argparse.Action) -> str:
    text = action.help or ""
    names = {"default": action.default, "prog": "pyqwen"}
    return _cell(text % names).replace("<", "&lt;").replace("*", "\\*")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# ------------------------------------------------------------------------------- mkdocs calls these


def on_config(config: Any) -> Any:
    """Show the repository where it is known, and let the reference find ``pyqwen.quantize``."""
    if url := repository_url():
        config.repo_url = url
    link = ROOT / "pyqwen" / "quantize"
    if not link.exists():  # as an editable install makes it; git leaves it out
        link.symlink_to(Path("..") / "quantize")
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in ``docs/``."""
    from mkdocs.structure.files import File

    for file, page in MIRRORS.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links, and where the page comes from."""
    return site_links(markdown, page.file.src_uri)
