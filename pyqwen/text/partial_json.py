"""JSON that is still written: what the text so far says, with what is open closed."""

from __future__ import annotations

import json
import re
from typing import Any

_CLOSERS = {"{": "}", "[": "]"}
_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_HIGH = re.compile(r"\\u[dD][89abAB]")
_PLAIN = re.compile(r'[^"\\]+')
_WORD = re.compile(r"[^\s{}\[\],:\"]+")


def parse_partial(text: str) -> Any:
    """Return what the beginning of a JSON text says; None where it says nothing yet.

    A text that has no end is as long as it is; a name without a value, a number or a word at the end,
    which may go on, are left out.
    """
    certain, closers = _certain(text)
    try:
        return json.loads(certain + closers)
    except (ValueError, RecursionError):
        return None


def _certain(text: str) -> tuple[str, str]:
    """The longest beginning that can be completed by closing what is open, and how that is closed."""
    open_ones: list[str] = []
    best, closers = 0, ""
    at = len(text) - len(text.lstrip())
    is_name = False  # whether the next text is the name of a property
    while at < len(text):
        char = text[at]
        if char in "{[":
            open_ones.append(char)
            at += 1
            is_name = char == "{"
            best, closers = at, _closing(open_ones)
        elif char in "}]":
            if not open_ones:
                break
            open_ones.pop()
            at += 1
            best, closers = at, _closing(open_ones)
        elif char == '"':
            end, is_whole = _end_of_text(text, at + 1)
            if not is_name and is_whole:
                best, closers = end, _closing(open_ones)
            elif not is_name:
                return text[:end], '"' + _closing(open_ones)
            elif not is_whole:
                break
            at = end
        elif char in ",:":
            is_name = char == "," and open_ones[-1:] == ["{"]
            at += 1
        elif word := _WORD.match(text, at):
            at = word.end()
            if at == len(text):
                break  # it may go on
            best, closers = at, _closing(open_ones)
        else:
            at += 1
    return text[:best], closers


def _closing(open_ones: list[str]) -> str:
    return "".join(_CLOSERS[char] for char in reversed(open_ones))


def _end_of_text(text: str, at: int) -> tuple[int, bool]:
    """Where a JSON string ends whose first character is at ``at``, and whether it is all there."""
    while at < len(text):
        if text[at] == '"':
            return at + 1, True
        found = _PLAIN.match(text, at) or _ESCAPE.match(text, at)
        is_half = found is not None and _HIGH.match(text, at) and len(text) < at + 12
        if found is None or is_half:
            return at, False  # a part of an escape, or half a pair
        at = found.end()
    return at, False
