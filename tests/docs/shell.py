"""Runs shell examples in this process, as far as they need no shell: a program takes a quarter of a second
to start, and there are many. The second tier runs them by bash instead.
"""

from __future__ import annotations

import asyncio
import io
import re
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

from pyqwen import Model
from pyqwen.__main__ import main, make_parser
from pyqwen.serve import create_app

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))  # for its client

ENDLESS = ("serve", "pull", "rm")
"""Verbs of which only the arguments are checked: a server runs until it is stopped, and models stay."""
STAND_INS = {"git": "+ a line of a diff\n"}
"""Programs that are not run, and what they print."""

_ASSIGNMENT = re.compile(r"[A-Z_]+=")
# Not by shlex, which takes the end of the line with it.
_COMMENT = re.compile(r"(?m)(^|[ \t]+)# .*$")


def run(script: str) -> None:
    """Run a script of simple commands, pipes and redirections; ``AssertionError`` where one fails."""
    script = _COMMENT.sub("", script.replace("\\\n", " "))
    for command in _commands(script):
        text = ""
        for words in command:
            text = _run_one(words, text)


def _commands(script: str) -> list[list[list[str]]]:
    """Commands, each a list of what a pipe joins."""
    lexer = shlex.shlex(script, posix=True, punctuation_chars="|>&;\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    commands: list[list[list[str]]] = [[[]]]
    for token in lexer:
        if set(token) <= set("\n;&"):
            commands.append([[]])
        elif token == "|":
            commands[-1].append([])
        else:
            commands[-1][-1].append(token)
    return [command for command in commands if command[0]]


def _run_one(words: list[str], given: str) -> str:
    """Run one program; what it prints, or nothing where that goes to a file."""
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    target = None
    if ">" in words:
        at = words.index(">")
        words, target = words[:at], words[at + 1]
    if words[0] == "pyqwen":
        printed = _pyqwen(words[1:], given)
    elif words[0] == "curl":
        printed = _curl(words[1:])
    elif words[0] == "printf":
        printed = words[1].replace("\\n", "\n")
    elif words[0] in STAND_INS:
        printed = STAND_INS[words[0]]
    else:
        raise AssertionError(f"{words[0]} cannot be run here")
    if target is None:
        return printed
    with open(target, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(printed)
    return ""


def _pyqwen(words: list[str], given: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    if words[0] in ENDLESS:
        make_parser().parse_args(words)
        return ""
    stdin = io.TextIOWrapper(io.BytesIO(given.encode()), "utf-8")
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "stdin", stdin):
        try:
            code = main(words)
        except SystemExit as error:  # of argparse
            code = int(error.code or 0)
    assert code == 0, f"pyqwen {shlex.join(words)} ends with {code}: {err.getvalue()}"
    return out.getvalue()


def _curl(words: list[str]) -> str:
    """``curl`` with ``-s``, ``-H`` and ``-d``, to a server of the default model in this process."""
    from driver import Client

    address, headers, body = "", {}, ""
    rest = iter(words)
    for word in rest:
        if word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = next(rest)
        elif word != "-s":
            address = word
    url = urlsplit(address)
    with Model("qwen2.5-coder-1.5b") as model:
        client = Client(create_app({"qwen2.5-coder-1.5b": model}), {"host": url.netloc})
        method = "POST" if body else "GET"
        done = asyncio.run(client.ask(method, url.path, body.encode(), headers))
    assert done.status == 200, done.text
    return done.text
