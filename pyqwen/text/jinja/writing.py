"""Values as text: as they are printed, as ``repr`` and as JSON.

Goes through containers by itself, so that each piece is paid for before the next one is made:
containers that share their parts are exponentially longer in print than they are in memory.
"""

from __future__ import annotations

import json
from typing import Any

from pyqwen.text.jinja.budget import MAX_NESTING, OBJECT, Budget, Fault
from pyqwen.text.jinja.tracked import Text, joined, user_text, with_spans, without_markup
from pyqwen.text.jinja.values import Undefined, View, kind_of

_CHUNK = 4096
_MAX_INDENT = 32


def to_text(budget: Budget, value: Any) -> str:
    """``str(value)``."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return ""
    if value is None or isinstance(value, bool | int | float):
        return _number(budget, value)
    pieces: list[str] = []
    _represent(budget, value, pieces, 0)
    return joined(pieces, budget)


def represented(budget: Budget, value: Any) -> str:
    """``repr(value)``."""
    pieces: list[str] = []
    _represent(budget, value, pieces, 0)
    return joined(pieces, budget)


def _number(budget: Budget, value: Any) -> str:
    budget.spend(OBJECT)
    if isinstance(value, int) and value.bit_length() > 64:
        budget.spend(value.bit_length())
    return str(value)


def _represent(budget: Budget, value: Any, pieces: list[str], depth: int) -> None:
    budget.spend(OBJECT)
    if isinstance(value, str):
        pieces.append(_quoted(budget, value))
    elif value is None or isinstance(value, bool | int | float):
        pieces.append(_number(budget, value))
    elif isinstance(value, list | tuple | dict | View):
        if depth >= MAX_NESTING:
            raise Fault(f"it prints what is nested more than {MAX_NESTING} levels deep")
        _represent_container(budget, value, pieces, depth + 1)
    elif isinstance(value, range):
        pieces.append(repr(value))
    elif isinstance(value, Undefined):
        pieces.append("Undefined")
    else:
        raise Fault(f"it prints a {kind_of(value)}")


def _represent_container(budget: Budget, value: Any, pieces: list[str], depth: int) -> None:
    if isinstance(value, dict):
        pieces.append("{")
        for i, (key, item) in enumerate(value.items()):
            if i:
                pieces.append(", ")
            _represent(budget, key, pieces, depth)
            pieces.append(": ")
            _represent(budget, item, pieces, depth)
        pieces.append("}")
        return
    if isinstance(value, View):
        opening, items, closing = f"{value.kind}([", value.items, "])"
    elif isinstance(value, tuple):
        opening, items, closing = "(", value, ",)" if len(value) == 1 else ")"
    else:
        opening, items, closing = "[", value, "]"
    pieces.append(opening)
    for i, item in enumerate(items):
        if i:
            pieces.append(", ")
        _represent(budget, item, pieces, depth)
    pieces.append(closing)


def _quoted(budget: Budget, text: str) -> str:
    text = without_markup(text)
    budget.spend(2 * len(text) + OBJECT)
    if not text.isprintable():
        budget.spend(8 * len(text))  # \U0010ffff
    return _as_escaped(budget, text, repr(str(text)))


def _as_escaped(budget: Budget, text: str, quoted: str) -> str:
    """``quoted``, which is ``text`` in quotes, with the places of user text."""
    if not isinstance(text, Text):
        return quoted
    inner = quoted[1:-1]
    if inner != text:
        return user_text(quoted)
    return joined([quoted[:1], text, quoted[-1:]], budget)


# JSON


def to_json(
    budget: Budget,
    value: Any,
    ensure_ascii: Any = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: Any = False,
) -> str:
    """JSON as Hugging Face's templates expect it: nothing is escaped for HTML."""
    if isinstance(indent, str):
        if len(indent) > _MAX_INDENT:
            raise Fault(f"it indents JSON by more than {_MAX_INDENT}")
    elif indent is not None:
        if not isinstance(indent, int):
            raise TypeError("the indent of JSON is a number or a text")
        if indent > _MAX_INDENT:
            raise Fault(f"it indents JSON by {indent}")
        indent = " " * indent
    if separators is None:
        separators = (", " if indent is None else ",", ": ")
    if not (
        isinstance(separators, list | tuple)
        and len(separators) == 2
        and all(isinstance(separator, str) for separator in separators)
    ):
        raise TypeError("the separators of JSON are two texts")
    writer = _JsonWriter(budget, bool(ensure_ascii), indent, separators, bool(sort_keys))
    writer.write(value, 0)
    return joined(writer.pieces, budget)


class _JsonWriter:
    def __init__(
        self, budget: Budget, ascii: bool, indent: str | None, separators: Any, sort_keys: bool
    ) -> None:
        self.pieces: list[str] = []
        self._budget = budget
        self._ascii = ascii
        self._indent = indent
        self._between, self._colon = separators
        self._sort_keys = sort_keys

    def write(self, value: Any, depth: int) -> None:
        self._budget.spend(OBJECT)
        if isinstance(value, str):
            self.pieces.append(self._string(value))
        elif value is None or isinstance(value, bool | int | float):
            self.pieces.append(self._scalar(value))
        elif isinstance(value, dict | list | tuple):
            if depth >= MAX_NESTING:
                raise Fault(f"it writes JSON nested more than {MAX_NESTING} levels deep")
            self._container(value, depth + 1)
        else:
            raise TypeError(f"Object of type {kind_of(value)} is not JSON serializable")

    def _container(self, value: Any, depth: int) -> None:
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        if not value:
            self.pieces.append(opening + closing)
            return
        self.pieces.append(opening)
        items: Any = value
        if isinstance(value, dict):
            items = self._items(value)
        for i, item in enumerate(items):
            if i:
                self.pieces.append(self._between)
            self._break(depth)
            if isinstance(value, dict):
                key, item = item
                self.pieces.append(self._string(key if isinstance(key, str) else self._scalar(key)))
                self.pieces.append(self._colon)
            self.write(item, depth)
        self._break(depth - 1)
        self.pieces.append(closing)

    def _items(self, value: dict[Any, Any]) -> list[tuple[Any, Any]]:
        from pyqwen.text.jinja.comparing import ordered

        self._budget.spend(2 * OBJECT * len(value))
        pairs = list(value.items())
        if self._sort_keys:
            pairs = ordered(self._budget, pairs, [key for key, _ in pairs], False, False)
        return pairs

    def _break(self, depth: int) -> None:
        if self._indent is not None:
            self._budget.spend(OBJECT + depth * len(self._indent))
            self.pieces.append("\n" + self._indent * depth)

    def _scalar(self, value: Any) -> str:
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        self._budget.spend(OBJECT)
        if isinstance(value, int) and value.bit_length() > 64:
            self._budget.spend(value.bit_length())
        return json.dumps(value)

    def _string(self, text: str) -> str:
        text = without_markup(text)
        encode = (
            json.encoder.encode_basestring_ascii if self._ascii else json.encoder.encode_basestring
        )
        size = len(text)
        self._budget.spend(2 * size + OBJECT)
        if size <= _CHUNK:
            quoted = encode(text)
        else:  # a character can become twelve: look at the bill after each chunk
            made = []
            for start in range(0, size, _CHUNK):
                made.append(encode(text[start : start + _CHUNK])[1:-1])
                self._budget.spend(len(made[-1]))
            quoted = '"' + "".join(made) + '"'
        if isinstance(text, Text):
            return self._tracked(text, quoted)
        return quoted

    def _tracked(self, text: Text, quoted: str) -> str:
        if len(quoted) == len(text) + 2:  # nothing was escaped
            return with_spans(quoted, [(a + 1, b + 1, answer) for a, b, answer in text.spans])
        return user_text(quoted)
