"""Constraint: what users say about the form of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyqwen.constraints.schema import check
from pyqwen.errors import ConstraintError

Whitespace = Literal["flexible", "compact"]
Kind = Literal["json", "regex", "lark"]

MOST_TEXT = 2**20  # characters of a schema or grammar
_WHITESPACE: dict[str, dict[str, Any]] = {
    # Compact, spaced or indented, as models write it; no blanks without end.
    "flexible": {"whitespace_pattern": r"\n[ ]{0,16}|[ ]"},
    "compact": {"whitespace_flexible": False},
}


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer must look like; made by one of its methods, given as ``response_format=``.

    - ``Constraint.json(schema)``: JSON by a JSON schema (a dict or its text).
    - ``Constraint.regex(pattern)``: a text that the whole of a regular expression matches, in the syntax of
      Rust's ``regex`` (no look-around, no back references).
    - ``Constraint.choice(texts)``: one of several texts.
    - ``Constraint.lark(grammar)``: a context-free grammar in llguidance's dialect of Lark; control tokens
      and tags are written ``<tool_call>``, schemas ``%json {...}``.
    - ``Constraint.gbnf(grammar)``: a grammar as llama.cpp takes it.

    It is checked when it is made, as far as that takes no time, and compiled when it is first used.
    """

    kind: Kind
    text: str
    """The schema as JSON, the regular expression, or the grammar in Lark."""
    whitespace: Whitespace = "flexible"
    strict: bool = False
    choices: tuple[str, ...] = ()

    @classmethod
    def json(
        cls,
        schema: Mapping[str, Any] | bool | str,
        *,
        whitespace: Whitespace = "flexible",
        strict: bool = False,
    ) -> Constraint:
        """JSON by a schema, its properties in the order in which they are written.

        ``whitespace``: ``"flexible"`` allows what models like to write, a blank, or a line break and an
        indent; ``"compact"`` nothing, which takes a quarter to a third fewer tokens, but can make a small
        model's answers worse. ``strict``: refuse a schema that cannot be enforced in full, instead of
        checking the answer when it is finished. Raises ``ConstraintError`` for a schema that is none.
        """
        if whitespace not in _WHITESPACE:
            raise ValueError(f'whitespace is "flexible" or "compact", not {whitespace!r}')
        if isinstance(schema, str):
            schema = _loaded(schema)
        if not isinstance(schema, Mapping | bool):
            kind = type(schema).__name__
            raise TypeError(f"a JSON schema is a dict, or its text, not {kind}")
        text = _dumped(schema)
        check(json.loads(text))
        return cls("json", text, whitespace, bool(strict))

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """A text that the whole of ``pattern`` matches."""
        return cls("regex", _checked_text(pattern, "a regular expression"))

    @classmethod
    def choice(cls, texts: Iterable[str]) -> Constraint:
        """Exactly one of the texts."""
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            raise TypeError("choices are a list of texts")
        choices = tuple(texts)
        for text in choices:
            _checked_text(text, "a choice")
        if not choices or "" in choices:
            raise ConstraintError("there must be choices, and none of them empty")
        pattern = "|".join(_quoted(text) for text in choices)
        return cls("regex", _checked_text(pattern, "all choices"), choices=choices)

    @classmethod
    def lark(cls, grammar: str) -> Constraint:
        """A text that a grammar makes out of its rule ``start``."""
        return cls("lark", _checked_text(grammar, "a grammar"))

    @classmethod
    def gbnf(cls, grammar: str) -> Constraint:
        """A text that a grammar of llama.cpp makes out of its rule ``root``."""
        _checked_text(grammar, "a grammar")
        from llguidance.gbnf_to_lark import gbnf_to_lark

        try:
            return cls.lark(gbnf_to_lark(grammar))
        except ConstraintError:
            raise
        except Exception as error:  # it has no exception of its own for all that can be wrong
            raise ConstraintError(f"this is no GBNF grammar: {error}") from error

    def __post_init__(self) -> None:
        if self.kind not in ("json", "regex", "lark"):
            raise ValueError(f"a constraint is json, regex or lark, not {self.kind!r}")


def json_grammar(schema: Mapping[str, Any], whitespace: Whitespace, lenient: bool) -> str:
    """What llguidance compiles; ``lenient`` leaves out what it cannot enforce of a schema."""
    options = {**_WHITESPACE[whitespace], **({"lenient": True} if lenient else {})}
    rest = {key: value for key, value in schema.items() if key != "x-guidance"}
    return json.dumps({"x-guidance": options, **rest}, ensure_ascii=False)


def _quoted(text: str) -> str:
    """A regular expression that matches just this text."""
    return re.sub(r"[^\w\s]|_", lambda found: f"\\x{{{ord(found[0]):x}}}", text)


def _checked_text(text: str, what: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, not {type(text).__name__}")
    if len(text) > MOST_TEXT:
        raise ConstraintError(
            f"{what} of {len(text):,} characters is too long: at most {MOST_TEXT:,}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConstraintError(f"{what} has halves of characters: {error}") from error
    if "\0" in text:
        raise ConstraintError(f"{what} must not hold the character U+0000; write it escaped")
    return text


def _loaded(text: str) -> Any:
    _checked_text(text, "a JSON schema")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConstraintError(f"the schema is not JSON: {error}") from error


def _dumped(schema: Any) -> str:
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConstraintError(f"the schema cannot be written as JSON: {error}") from error
    return _checked_text(text, "a JSON schema")


def _plain(value: Any) -> Any:
    """What stands for a mapping or sequence that json does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | frozenset | set):
        return list(value)
    raise TypeError(f"{type(value).__name__} is nothing that JSON has")
