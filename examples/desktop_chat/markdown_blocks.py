"""Markdown as it is written: which parts of an answer are new since the last look. Knows nothing of Qt.

CommonMark closes a block for good when the next one begins. So while an answer grows only its last block is
parsed again, and a long answer costs no more per token than a short one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MERGE = 1500
"""Prose up to so many characters stands in one part, so that it can be selected together."""


@dataclass(frozen=True)
class Part:
    """A piece of an answer: prose as HTML, or ``code`` in a ``language``."""

    html: str = ""
    code: str | None = None
    language: str = ""
    size: int = 0


class MarkdownBlocks:
    """The parts of one answer."""

    def __init__(self, color_code: Callable[[str, str], str]) -> None:
        """``color_code(code, language)`` makes HTML of code that stands inside other blocks."""
        self._parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
        self._parser.enable(["table", "strikethrough"])
        self._parser.options["highlight"] = lambda code, language, _: color_code(code, language)
        self._closed: list[Part] = []  # parts that no further text changes
        self._start = 0  # where in the text the first one that may change begins
        self.parts: list[Part] = []

    def update(self, text: str) -> int:
        """Take the text so far; return the index of the first part that is not as it was."""
        tail = text.replace("\r", "")[self._start :]
        whole_lines = tail[: tail.rfind("\n") + 1]  # "2" may become "2. two", and go on with a list
        groups = _top_level(self._parser.parse(whole_lines))
        if len(groups) > 1:
            for group in groups[:-1]:
                _append(self._closed, self._part(group))
            closed = tail.split("\n")[: _first_line(groups[-1])]
            length = sum(len(line) + 1 for line in closed)
            self._start += length
            tail = tail[length:]
        groups = _top_level(self._parser.parse(tail))
        before, self.parts = self.parts, list(self._closed)
        for group in groups:
            _append(self.parts, self._part(group))
        same = 0
        while same < min(len(before), len(self.parts)) and before[same] == self.parts[same]:
            same += 1
        return same

    def _part(self, tokens: list[Token]) -> Part:
        first = tokens[0]
        if first.type in ("fence", "code_block"):
            language = first.info.split()[0] if first.info.split() else ""
            return Part(code=first.content.rstrip("\n"), language=language.lower())
        text = self._parser.renderer.render(tokens, self._parser.options, {})
        return Part(text, size=len(text))


def _append(parts: list[Part], part: Part) -> None:
    last = parts[-1] if parts else None
    if part.code is None and last is not None and last.code is None and last.size < _MERGE:
        parts[-1] = Part(last.html + part.html, size=last.size + part.size)
    else:
        parts.append(part)


def _top_level(tokens: list[Token]) -> list[list[Token]]:
    """The tokens of each block that stands in no other."""
    groups: list[list[Token]] = []
    for token in tokens:
        if token.level == 0 and token.nesting >= 0:
            groups.append([])
        groups[-1].append(token)
    return groups


def _first_line(tokens: list[Token]) -> int:
    return tokens[0].map[0] if tokens[0].map else 0
