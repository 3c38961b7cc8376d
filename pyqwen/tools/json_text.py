"""JSON as models write it, one character after the other: where a value ends, and small slips put right.

The text that comes out is the model's own, never written anew, so that it can be passed on in pieces. Knows
nothing of tool calls.
"""

from __future__ import annotations

import json
from typing import Any

_ESCAPES = frozenset('"\\/bfnrtu')
_CLOSERS = {"{": "}", "[": "]"}


class JsonText:
    """Reads one object, array or string. ``feed`` it characters from the first one on until it is ``done``.

    Put right are braces that are all doubled (``{{"a": 1}}``), as models copy them from templates, and
    within strings control characters, and backslashes that escape nothing (``"\\d"``).
    """

    def __init__(self) -> None:
        self.done = False
        self.problem = ""
        """What is wrong, once no more characters could make it right."""
        self.in_string = False
        self._is_escaped = False
        self._was_brace = False  # the last character opened an object: another brace doubles it
        self._open: list[tuple[str, int]] = []  # closers, and how many of each
        self.surplus = 0
        """How many closing braces may follow, for this many more were opened."""

    def feed(self, char: str) -> str:
        """Take the next character; return what it is in the repaired text."""
        if self.in_string:
            return self._in_string(char)
        if self.surplus and char == "}":
            self.surplus -= 1
            return ""
        self.surplus = 0
        if char == "{" and self._was_brace:
            closer, count = self._open.pop()
            self._open.append((closer, count + 1))
            return ""
        self._was_brace = char == "{"
        if char in _CLOSERS:
            self._open.append((_CLOSERS[char], 1))
        elif char in "}]":
            self._close(char)
        elif char == '"':
            self.in_string = True
        return char

    def _in_string(self, char: str) -> str:
        if self._is_escaped:
            self._is_escaped = False
            if char in _ESCAPES:
                return "\\" + char
            return "\\\\" + self._in_string(char)
        if char == "\\":
            self._is_escaped = True
            return ""
        if char == '"':
            self.in_string = False
            self.done = not self._open
        return json.dumps(char)[1:-1] if char < " " else char

    def _close(self, char: str) -> None:
        if not self._open or self._open[-1][0] != char:
            self.problem = f"{char!r} closes nothing"
            return
        self.surplus = self._open.pop()[1] - 1
        self.done = not self._open


def parse_object(text: str) -> tuple[dict[str, Any], str | None]:
    """The JSON object in a text, and None; or an empty one, and what is wrong with the text."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        return {}, "the arguments are nested too deeply"
    except ValueError as error:
        return {}, f"the arguments are not JSON: {error}"
    if not isinstance(value, dict):
        return {}, f"the arguments must be a JSON object, not {_kind(value)}"
    return value, None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
