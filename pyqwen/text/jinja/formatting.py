"""``'%s' % x`` and ``'{}'.format(x)``: Python's formatting, with every width bounded.

The format is taken apart here, by its own grammar, and each place is formatted by itself. So
no spelling of a width or a precision gets past the bound, and text keeps track of its origin.
"""

from __future__ import annotations

import re
from _string import formatter_field_name_split, formatter_parser  # type: ignore[import-not-found]
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyqwen.text.jinja.budget import CALL, OBJECT, Budget, Fault
from pyqwen.text.jinja.tracked import cut, joined
from pyqwen.text.jinja.values import Undefined, kind_of
from pyqwen.text.jinja.writing import represented, to_text

_MAX_WIDTH = 99

_PLACE = re.compile(
    r"""%(?:\((?P<key>[^()]*)\))?(?P<flags>[#0\- +]*)(?P<width>\*|\d{0,20})
        (?:\.(?P<precision>\*|\d{0,20}))?[hlL]?(?P<type>.)""",
    re.VERBOSE | re.DOTALL,
)
_SPEC = re.compile(
    r"(?:(?P<fill>.)?(?P<align>[<>=^]))?(?P<sign>[+\- ]?)(?P<form>z?\#?)(?P<zero>0?)"
    r"(?P<width>\d{0,20})(?P<group>[,_]?)(?:\.(?P<precision>\d{1,20}))?(?P<type>[a-zA-Z%]?)",
    re.DOTALL,
)


def _bounded(digits: str | None) -> int:
    if digits and (digits == "*" or int(digits) > _MAX_WIDTH):
        raise Fault(f"it formats with a width of more than {_MAX_WIDTH}")
    return int(digits) if digits else 0


def percent_format(budget: Budget, text: str, values: Any) -> str:
    """``text % values``."""
    budget.spend(CALL + len(text))
    by_name = values if isinstance(values, dict) else None
    in_order: Sequence[Any] = values if isinstance(values, tuple) else (values,)
    used = 0
    pieces: list[str] = []
    end = 0
    while (start := text.find("%", end)) >= 0:
        budget.spend(CALL)
        pieces.append(cut(text, end, start, budget))
        place = _PLACE.match(text, start)
        if place is None:
            raise ValueError("incomplete or unsupported format")
        end = place.end()
        if place["type"] == "%":
            if place[0] != "%%":
                raise Fault(f"it formats with {place[0]!r}, which is not supported")
            pieces.append("%")
            continue
        if place["key"] is not None:
            if by_name is None:
                raise TypeError("format requires a mapping")
            value = by_name[str(place["key"])]
        else:
            if used >= len(in_order):
                raise TypeError("not enough arguments for format string")
            value = in_order[used]
            used += 1
        pieces.append(_percent_place(budget, place, value))
    # What can be subscribed counts as a mapping, in which anything may be left over.
    if used < len(in_order) and not isinstance(values, dict | list | range | Undefined):
        raise TypeError("not all arguments converted during string formatting")
    pieces.append(cut(text, end, len(text), budget))
    return joined(pieces, budget)


def _percent_place(budget: Budget, place: re.Match[str], value: Any) -> str:
    width, precision = _bounded(place["width"]), _bounded(place["precision"])
    kind = place["type"]
    if kind in "sr":
        text = to_text(budget, value) if kind == "s" else represented(budget, value)
        if place["precision"] is not None:
            text = cut(text, 0, min(len(text), precision), budget)
        padding = " " * max(0, width - len(text))
        return joined([text, padding] if "-" in place["flags"] else [padding, text], budget)
    if kind not in "diufFeEgGxXoc":
        raise Fault(f"it formats with {place[0][:20]!r}, which is not supported")
    if isinstance(value, Undefined):
        value.fail()
    if kind == "c" and isinstance(value, str):
        if len(value) != 1:
            raise TypeError("%c requires a number or one character")
        padding = " " * max(0, width - 1)
        return joined([value, padding] if "-" in place["flags"] else [padding, value], budget)
    if not isinstance(value, int | float) or (isinstance(value, int) and abs(value) >= 2**64):
        raise TypeError(f"%{kind} format: a number is required, not {kind_of(value)}")
    budget.spend(4 * CALL)  # a float can have 309 digits
    form = f"%{place['flags'][:20]}{place['width']}"
    if place["precision"] is not None:
        form += f".{place['precision']}"
    return (form + kind) % value


Lookup = Callable[[Budget, Any, Any], Any]
"""What finds ``owner.name`` or ``owner[key]``."""


def brace_format(
    budget: Budget,
    text: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    get_attribute: Lookup,
    get_item: Lookup,
) -> str:
    """``text.format(*args, **kwargs)``."""
    budget.spend(CALL + 2 * len(text))
    pieces: list[str] = []
    automatic: bool | None = None
    used = 0
    position = 0
    for literal, name, spec, conversion in formatter_parser(str(text)):
        budget.spend(CALL)
        if literal:
            position = text.index(literal, position)
            pieces.append(cut(text, position, position + len(literal), budget))
            position += len(literal)
        if name is None:
            continue
        first, rest = formatter_field_name_split(name)
        if first == "" or isinstance(first, int):
            if automatic is not None and automatic != (first == ""):
                raise ValueError("cannot switch between numbered and automatic fields")
            automatic = first == ""
            if automatic:
                first = used
                used += 1
            value = args[first]
        else:
            value = kwargs[str(first)]
        for is_attribute, key in rest:
            budget.spend(CALL)
            value = (get_attribute if is_attribute else get_item)(budget, value, key)
        pieces.append(_brace_place(budget, value, str(spec), conversion))
    return joined(pieces, budget)


def _brace_place(budget: Budget, value: Any, spec: str, conversion: str | None) -> str:
    if conversion == "s":
        value = to_text(budget, value)
    elif conversion == "r":
        value = represented(budget, value)
    elif conversion:
        raise Fault(f"it formats with !{conversion}, which is not supported")
    if not spec:
        return to_text(budget, value)
    match = _SPEC.fullmatch(spec) if len(spec) <= 60 else None
    if match is None:
        raise Fault(f"it formats with {spec[:60]!r}, which is not supported")
    width, precision = _bounded(match["width"]), _bounded(match["precision"])
    if isinstance(value, str):
        return _aligned(budget, value, match, width, precision)
    if not isinstance(value, bool | int | float):
        raise TypeError(f"unsupported format string passed to {kind_of(value)}")
    if isinstance(value, int) and abs(value) >= 2**64:
        raise Fault("it formats too large numbers")
    budget.spend(4 * CALL + OBJECT)
    return format(value, spec)


def _aligned(budget: Budget, text: str, match: re.Match[str], width: int, precision: int) -> str:
    if match["type"] not in ("", "s") or match["sign"] or match["form"] or match["group"]:
        raise ValueError("this format does not fit a string")
    align = match["align"] or "<"
    if align == "=":
        raise ValueError("'=' alignment not allowed in string format specifier")
    fill = match["fill"] or match["zero"] or " "
    if match["precision"]:
        text = cut(text, 0, min(len(text), precision), budget)
    space = max(0, width - len(text))
    before = {"<": 0, ">": space, "^": space // 2}[align]
    return joined([fill * before, text, fill * (space - before)], budget)
