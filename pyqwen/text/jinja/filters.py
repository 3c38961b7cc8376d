"""Filters on texts and numbers, and the table of all filters.

A filter is ``run(budget, value, ...)`` with the parameters of Jinja's filter of that name. Those on
sequences are in ``sequences``; filters of Jinja that are in neither are refused by name when a
template comes to one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from pyqwen.text.jinja import methods, sequences
from pyqwen.text.jinja.budget import CALL, ELEMENT, OBJECT, Budget, Fault
from pyqwen.text.jinja.formatting import percent_format
from pyqwen.text.jinja.registry import FILTERS
from pyqwen.text.jinja.tracked import (
    Markup,
    cost_of,
    cut,
    joined,
    markup,
    recased,
    without_markup,
)
from pyqwen.text.jinja.values import Undefined, bounded, kind_of, length
from pyqwen.text.jinja.writing import to_json, to_text

_MAX_INDENT = 1000
_WORD = re.compile(r"\w+")
_WORD_START = re.compile(r"([-\s({\[<]+)")
_ESCAPES = (("&", "&amp;"), (">", "&gt;"), ("<", "&lt;"), ("'", "&#39;"), ('"', "&#34;"))


def _on_text(method: Callable[..., str]) -> Callable[..., str]:
    """The method as a filter: of any value it takes the text, and safe text stays safe."""

    def run(budget: Budget, value: Any) -> str:
        text = to_text(budget, value)
        if isinstance(text, Markup):
            budget.spend(cost_of(text))
            return markup(method(budget, without_markup(text)))
        return method(budget, text)

    return run


def _trim(budget: Budget, value: Any, chars: Any = None) -> str:
    return _on_text(lambda b, text: methods.strip(b, text, chars))(budget, value)


def _center(budget: Budget, value: Any, width: Any = 80) -> str:
    return _on_text(lambda b, text: methods.center(b, text, width))(budget, value)


def _title_of(budget: Budget, text: str) -> str:
    budget.spend(CALL + (OBJECT + 3) * len(text))
    parts = _WORD_START.split(str(text))
    result = "".join([part[0].upper() + part[1:].lower() for part in parts if part])
    return recased(text, result, budget)


def _format(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise Fault("format: positional and keyword arguments at the same time")
    return percent_format(budget, without_markup(to_text(budget, value)), kwargs or args)


def _replace(budget: Budget, value: Any, old: Any, new: Any, count: Any = None) -> str:
    text, old, new = (without_markup(to_text(budget, part)) for part in (value, old, new))
    return methods.OF_TEXT["replace"](budget, text, old, new, -1 if count is None else count)  # type: ignore[no-any-return]


def _indent(
    budget: Budget, value: Any, width: Any = 4, first: Any = False, blank: Any = False
) -> str:
    if not isinstance(value, str):
        if isinstance(value, Undefined):
            value.fail()
        raise TypeError(f"indent: a text is required, not {kind_of(value)!r}")
    text = without_markup(value)
    if not isinstance(width, str):
        if not isinstance(width, int):
            raise TypeError("indent: the width is a number or a text")
        if width > _MAX_INDENT:
            raise Fault(f"it indents by more than {_MAX_INDENT}")
        width = " " * width
    lines = methods.splitlines(budget, joined([text, "\n"], budget))
    budget.spend(len(lines) * (3 * ELEMENT + len(width)))
    pieces: list[str] = [width] if first else []
    for i, line in enumerate(lines):
        if i:
            pieces.append("\n")
            if line or blank:
                pieces.append(width)
        pieces.append(line)
    return joined(pieces, budget)


def _escape(budget: Budget, value: Any) -> str:
    if isinstance(value, Markup):
        return value
    text = to_text(budget, value)
    for character, escaped in _ESCAPES:
        text = methods.replaced(budget, text, character, escaped)
    budget.spend(cost_of(text) + 3 * OBJECT)
    return markup(text)


def _safe(budget: Budget, value: Any) -> str:
    text = to_text(budget, value)
    budget.spend(cost_of(text) + 3 * OBJECT)
    return markup(text)


def _truncate(
    budget: Budget,
    value: Any,
    size: Any = 255,
    killwords: Any = False,
    end: Any = "...",
    leeway: Any = None,
) -> str:
    leeway = 5 if leeway is None else leeway
    if size < length(end) or leeway < 0:
        raise Fault("truncate: the length must be at least that of the end")
    if length(value) <= size + leeway:
        return value  # type: ignore[no-any-return]
    if not isinstance(value, str):
        raise TypeError(f"truncate: a text is required, not {kind_of(value)!r}")
    head = cut(without_markup(value), 0, size - len(end), budget)
    if not killwords:
        place = head.rfind(" ")
        head = cut(head, 0, place, budget) if place >= 0 else head
    return joined([head, end], budget)


def _wordcount(budget: Budget, value: Any) -> int:
    text = to_text(budget, value)
    budget.spend((ELEMENT + 1) * len(text))
    return sum(1 for _ in _WORD.finditer(text))


def _default(budget: Budget, value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    if isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


def _int(budget: Budget, value: Any, default: Any = 0, base: Any = 10) -> Any:
    try:
        if isinstance(value, str):
            return bounded(int(number_text(value), base))
        return bounded(int(_number(value)))
    except (TypeError, ValueError):
        try:
            return bounded(int(float(_number(value))))
        except (TypeError, ValueError, OverflowError):
            return default


def _float(budget: Budget, value: Any, default: Any = 0.0) -> Any:
    try:
        return float(_number(value))
    except (TypeError, ValueError):
        return default


def _number(value: Any) -> Any:
    """A value that Python may be asked to make a number of."""
    if isinstance(value, str):
        return number_text(value)
    if isinstance(value, Undefined):
        value.fail()
    if not isinstance(value, bool | int | float):
        raise TypeError(f"{kind_of(value)} is not a number")
    return value


def number_text(text: str) -> str:
    """``text``, if it is short enough to be read as a number; long prose is none."""
    if len(text) > 300:
        if any(map(str.isspace, text[:300].strip())):
            raise ValueError("not a number")
        raise Fault("it reads a number of more than 300 characters")
    return str(text)


def _abs(budget: Budget, value: Any) -> Any:
    return bounded(abs(_numeric(value)))


def _numeric(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, Undefined):
        value.fail()
    raise TypeError(f"a number is required, not {kind_of(value)!r}")


def _round(budget: Budget, value: Any, precision: Any = 0, method: Any = "common") -> Any:
    value, precision = _numeric(value), _numeric(precision)
    if method not in ("common", "ceil", "floor"):
        raise Fault("round: the method must be common, ceil or floor")
    if abs(precision) > 32:
        raise Fault(f"it rounds to {precision} digits")
    bounded(value)
    if method == "common":
        return bounded(round(value, precision))
    scale = 10**precision
    return (math.ceil if method == "ceil" else math.floor)(value * scale) / scale


def _length(budget: Budget, value: Any) -> int:
    return length(value)


def _string(budget: Budget, value: Any) -> str:
    return to_text(budget, value)


FILTERS |= {
    "abs": _abs,
    "capitalize": _on_text(methods.capitalize),
    "center": _center,
    "count": _length,
    "d": _default,
    "default": _default,
    "e": _escape,
    "escape": _escape,
    "float": _float,
    "format": _format,
    "indent": _indent,
    "int": _int,
    "length": _length,
    "lower": _on_text(methods.lower),
    "replace": _replace,
    "round": _round,
    "safe": _safe,
    "string": _string,
    "title": _on_text(_title_of),
    "tojson": to_json,
    "trim": _trim,
    "truncate": _truncate,
    "upper": _on_text(methods.upper),
    "wordcount": _wordcount,
    **sequences.FILTERS,
}


def _refused(name: str) -> Callable[..., NoReturn]:
    def run(budget: Budget, *args: Any, **kwargs: Any) -> NoReturn:
        raise Fault(f"it uses the filter {name!r}, which is not supported")

    return run


# The rest of Jinja's filters: for HTML, or with results that differ from run to run.
FILTERS |= {
    name: _refused(name)
    for name in [
        "attr",
        "filesizeformat",
        "forceescape",
        "pprint",
        "random",
        "striptags",
        "urlencode",
        "urlize",
        "wordwrap",
        "xmlattr",
    ]
}
