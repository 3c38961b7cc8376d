"""The methods that templates may call of strings, dicts, lists and tuples, each with its price.

A method pays before it makes anything, for the longest result it could have or for one whose length
it computed first. Nothing is quadratic: a set of characters is a set, and searches are linear.
Signatures are those of Python's methods, so that calls fail where Python's fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqwen.text.jinja.budget import CALL, ELEMENT, OBJECT, Budget, Fault
from pyqwen.text.jinja.comparing import equal, search_cost
from pyqwen.text.jinja.tracked import (
    Markup,
    Text,
    cost_of,
    cut,
    joined,
    located_pieces,
    markup,
    recased,
    spliced,
    without_markup,
)
from pyqwen.text.jinja.values import (
    MISSING,
    Cycler,
    Loop,
    Undefined,
    View,
    checked_key,
    iterate,
    kind_of,
)

_MAX_PAD = 10_000
_FEW_CHARACTERS = 16


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        value.fail()
    raise TypeError(f"a text is required, not {kind_of(value)!r}")


def _whole(value: Any) -> int:
    if isinstance(value, int):
        return value
    if isinstance(value, Undefined):
        value.fail()
    raise TypeError(f"{kind_of(value)!r} object cannot be interpreted as an integer")


# Cutting


def stripped(budget: Budget, text: str, chars: Any, left: bool, right: bool) -> str:
    """``text`` without the characters of ``chars`` (whitespace for None) at its ends."""
    budget.spend(CALL + len(text))
    start, stop = 0, len(text)
    if chars is None or len(_text(chars)) <= _FEW_CHARACTERS:
        if left:
            start = stop - len(text.lstrip(chars))
        if right:
            stop = start + len(text[start:].rstrip(chars))
    else:
        # CPython compares each character with each of ``chars``.
        budget.spend(2 * len(chars))
        few = frozenset(str(chars))
        while left and start < stop and text[start] in few:
            start += 1
        while right and stop > start and text[stop - 1] in few:
            stop -= 1
    return cut(text, start, stop, budget)


def strip(budget: Budget, text: str, chars: Any = None, /) -> str:
    return stripped(budget, text, chars, True, True)


def _lstrip(budget: Budget, text: str, chars: Any = None, /) -> str:
    return stripped(budget, text, chars, True, False)


def _rstrip(budget: Budget, text: str, chars: Any = None, /) -> str:
    return stripped(budget, text, chars, False, True)


def _removeprefix(budget: Budget, text: str, prefix: Any, /) -> str:
    budget.spend(len(text))
    start = len(prefix) if text.startswith(_text(prefix)) else 0
    return cut(text, start, len(text), budget)


def _removesuffix(budget: Budget, text: str, suffix: Any, /) -> str:
    budget.spend(len(text))
    stop = len(text) - len(suffix) if text.endswith(_text(suffix)) else len(text)
    return cut(text, 0, stop, budget)


def _pay_pieces(budget: Budget, text: str, count: int) -> None:
    each = OBJECT if type(text) is str else 4 * OBJECT
    budget.spend(CALL + 2 * len(text) + each * count)


def _count_pieces(budget: Budget, text: str, sep: Any, maxsplit: int) -> int:
    if sep is None:
        count = len(text) // 2 + 1
    else:
        budget.spend(search_cost(text, _text(sep)))
        count = text.count(sep) + 1 if sep else 0
    return min(count, maxsplit + 1) if maxsplit >= 0 else count


def _split(budget: Budget, text: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    _pay_pieces(budget, text, _count_pieces(budget, text, sep, _whole(maxsplit)))
    pieces = text.split(sep, maxsplit)
    return located_pieces(text, pieces, None if sep is None else len(sep), budget)


def _rsplit(budget: Budget, text: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    _pay_pieces(budget, text, _count_pieces(budget, text, sep, _whole(maxsplit)))
    if sep is not None:
        budget.spend(_backward_cost(text, sep))
    pieces = text.rsplit(sep, maxsplit)
    return located_pieces(text, pieces, None if sep is None else len(sep), budget)


def splitlines(budget: Budget, text: str, keepends: Any = False) -> list[str]:
    budget.spend(len(text))
    if isinstance(text, Text):
        _pay_pieces(budget, text, len(text) + 1)
        return _with_ends_cut(text, bool(keepends), budget)
    _pay_pieces(budget, text, len(text) + 1)
    return text.splitlines(bool(keepends))


def _with_ends_cut(text: str, keepends: bool, budget: Budget) -> list[str]:
    lines = []
    start = 0
    for whole, line in zip(text.splitlines(True), text.splitlines(), strict=True):
        lines.append(cut(text, start, start + len(whole if keepends else line), budget))
        start += len(whole)
    return lines


def _backward_cost(text: str, part: Any) -> int:
    """As ``search_cost``; backwards CPython compares the whole needle at each place."""
    return search_cost(text, _text(part)) + (len(text) >> 3) * min(len(part), len(text))


def _partition(budget: Budget, text: str, sep: Any, /) -> tuple[str, str, str]:
    budget.spend(search_cost(text, _text(sep)))
    if not sep:
        raise ValueError("empty separator")
    place = text.find(sep)
    if place < 0:
        return text, "", ""
    end = place + len(sep)
    head, tail = cut(text, 0, place, budget), cut(text, end, len(text), budget)
    return head, cut(text, place, end, budget), tail


def _rpartition(budget: Budget, text: str, sep: Any, /) -> tuple[str, str, str]:
    budget.spend(_backward_cost(text, sep))
    if not sep:
        raise ValueError("empty separator")
    place = text.rfind(sep)
    if place < 0:
        return "", "", text
    end = place + len(sep)
    head, tail = cut(text, 0, place, budget), cut(text, end, len(text), budget)
    return head, cut(text, place, end, budget), tail


# Making longer ones


def replaced(budget: Budget, text: str, old: Any, new: Any, count: int = -1) -> str:
    """``text.replace(old, new, count)``."""
    budget.spend(CALL + search_cost(text, _text(old)))
    times = text.count(old)
    if 0 <= count < times:
        times = count
    if not times:
        return text
    budget.spend(len(text) + times * (len(_text(new)) + 2))
    if not any(isinstance(part, Text) for part in (text, new)):
        return text.replace(old, new, times)
    return spliced(text, old, new, times, budget)


def _replace(budget: Budget, text: str, old: Any, new: Any, count: Any = -1, /) -> str:
    _text(new)
    return replaced(budget, text, old, new, _whole(count))


def join(budget: Budget, separator: str, parts: Any, /) -> str:
    items = iterate(budget, parts)
    budget.spend(2 * ELEMENT * len(items))
    pieces: list[str] = []
    for item in items:
        if pieces:
            pieces.append(separator)
        pieces.append(without_markup(_text(item)))
    return joined(pieces, budget)


def _room(budget: Budget, text: str, width: Any, fill: Any) -> int:
    if len(_text(fill)) != 1:
        raise TypeError("The fill character must be exactly one character long")
    if _whole(width) > _MAX_PAD:
        raise Fault(f"it pads a text to more than {_MAX_PAD:,} characters")
    budget.spend(CALL)
    return max(0, int(width) - len(text))


def center(budget: Budget, text: str, width: Any, fill: Any = " ", /) -> str:
    room = _room(budget, text, width, fill)
    before = room // 2 + (room & int(width) & 1)
    return joined([fill * before, text, fill * (room - before)], budget) if room else text


def _ljust(budget: Budget, text: str, width: Any, fill: Any = " ", /) -> str:
    room = _room(budget, text, width, fill)
    return joined([text, str(fill) * room], budget) if room else text


def _rjust(budget: Budget, text: str, width: Any, fill: Any = " ", /) -> str:
    room = _room(budget, text, width, fill)
    return joined([str(fill) * room, text], budget) if room else text


def _zfill(budget: Budget, text: str, width: Any, /) -> str:
    zeros = "0" * _room(budget, text, width, "0")
    sign = 1 if text[:1] in ("+", "-") else 0
    head, tail = cut(text, 0, sign, budget), cut(text, sign, len(text), budget)
    return joined([head, zeros, tail], budget) if zeros else text


# Changing case: a character can become three


def _case(change: Callable[[str], str]) -> Callable[[Budget, str], str]:
    def changed(budget: Budget, text: str, /) -> str:
        budget.spend(CALL + 3 * len(text))
        return recased(text, change(str(text)), budget)

    return changed


upper, lower, capitalize = _case(str.upper), _case(str.lower), _case(str.capitalize)


# Asking


def _question(ask: Callable[[str], bool]) -> Callable[[Budget, str], bool]:
    def asked(budget: Budget, text: str, /) -> bool:
        budget.spend(len(text))
        return ask(text)

    return asked


def _at_end(ask: Callable[..., bool]) -> Callable[..., bool]:
    def asked(budget: Budget, text: str, part: Any, start: Any = None, end: Any = None, /) -> bool:
        for bound in (start, end):
            if bound is not None:
                _whole(bound)
        parts = part if isinstance(part, tuple) else (_text(part),)
        budget.spend(ELEMENT * len(parts))
        for one in parts:
            budget.spend(len(_text(one)) >> 3)
            if ask(text, one, start, end):
                return True
        return False

    return asked


def _searching(search: Callable[..., int], backwards: bool) -> Callable[..., int]:
    def searched(
        budget: Budget, text: str, part: Any, start: Any = None, end: Any = None, /
    ) -> int:
        for bound in (start, end):
            if bound is not None:
                _whole(bound)
        budget.spend((_backward_cost if backwards else search_cost)(text, _text(part)))
        return search(text, part, start, end)

    return searched


OF_TEXT: dict[str, Callable[..., Any]] = {
    "capitalize": capitalize,
    "casefold": _case(str.casefold),
    "center": center,
    "count": _searching(str.count, False),
    "endswith": _at_end(str.endswith),
    "find": _searching(str.find, False),
    "index": _searching(str.index, False),
    "isalnum": _question(str.isalnum),
    "isalpha": _question(str.isalpha),
    "isascii": _question(str.isascii),
    "isdecimal": _question(str.isdecimal),
    "isdigit": _question(str.isdigit),
    "isidentifier": _question(str.isidentifier),
    "islower": _question(str.islower),
    "isnumeric": _question(str.isnumeric),
    "isprintable": _question(str.isprintable),
    "isspace": _question(str.isspace),
    "istitle": _question(str.istitle),
    "isupper": _question(str.isupper),
    "join": join,
    "ljust": _ljust,
    "lower": lower,
    "lstrip": _lstrip,
    "partition": _partition,
    "removeprefix": _removeprefix,
    "removesuffix": _removesuffix,
    "replace": _replace,
    "rfind": _searching(str.rfind, True),
    "rindex": _searching(str.rindex, True),
    "rjust": _rjust,
    "rpartition": _rpartition,
    "rsplit": _rsplit,
    "rstrip": _rstrip,
    "split": _split,
    "splitlines": splitlines,
    "startswith": _at_end(str.startswith),
    "strip": strip,
    "swapcase": _case(str.swapcase),
    "title": _case(str.title),
    "upper": upper,
    "zfill": _zfill,
}


def _kept_safe(method: Callable[..., str]) -> Callable[..., str]:
    def called(budget: Budget, text: Markup, /, *args: Any) -> str:
        budget.spend(cost_of(text))
        return markup(method(budget, without_markup(text), *args))

    return called


OF_MARKUP: dict[str, Callable[..., Any]] = {
    name: _kept_safe(OF_TEXT[name])
    for name in ("strip", "lstrip", "rstrip", "upper", "lower", "capitalize", "title")
}
OF_MARKUP |= {
    name: OF_TEXT[name]
    for name in ("startswith", "endswith", "find", "count", "index", "isdigit", "isspace")
}


# Dicts, lists, tuples


def _get(budget: Budget, owner: dict[Any, Any], key: Any, default: Any = None, /) -> Any:
    return owner.get(checked_key(key), default)


def _view(kind: str) -> Callable[..., View]:
    def viewed(budget: Budget, owner: dict[Any, Any], /) -> View:
        each = 2 * OBJECT if kind == "dict_items" else ELEMENT
        budget.spend(OBJECT + each * len(owner))
        if kind == "dict_items":
            return View(kind, list(owner.items()))
        return View(kind, list(owner if kind == "dict_keys" else owner.values()))

    return viewed


def _copy_dict(budget: Budget, owner: dict[Any, Any], /) -> dict[Any, Any]:
    budget.spend(OBJECT * (1 + len(owner)))
    return dict(owner)


def _copy_list(budget: Budget, owner: list[Any], /) -> list[Any]:
    budget.spend(OBJECT + ELEMENT * len(owner))
    return list(owner)


def _count(budget: Budget, owner: list[Any] | tuple[Any, ...], item: Any, /) -> int:
    budget.spend(OBJECT * len(owner))
    return sum(1 for other in owner if other is item or equal(budget, other, item))


def _index(budget: Budget, owner: list[Any] | tuple[Any, ...], item: Any, /) -> int:
    budget.spend(OBJECT * len(owner))
    for i, other in enumerate(owner):
        if other is item or equal(budget, other, item):
            return i
    raise ValueError("the item is not in the list")


# Jinja's own objects


def _loop_cycle(budget: Budget, loop: Loop, /, *values: Any) -> Any:
    if not values:
        raise TypeError("no items for cycling given")
    return values[loop.index0 % len(values)]


def _loop_changed(budget: Budget, loop: Loop, /, *values: Any) -> bool:
    if loop.last_value is not MISSING and equal(budget, loop.last_value, values):
        return False
    loop.last_value = values
    return True


def _cycler_next(budget: Budget, cycler: Cycler, /) -> Any:
    item = cycler.items[cycler.position]
    cycler.position = (cycler.position + 1) % len(cycler.items)
    return item


def _cycler_reset(budget: Budget, cycler: Cycler, /) -> None:
    cycler.position = 0


OF_DICT: dict[str, Callable[..., Any]] = {
    "copy": _copy_dict,
    "get": _get,
    "items": _view("dict_items"),
    "keys": _view("dict_keys"),
    "values": _view("dict_values"),
}
OF_LIST: dict[str, Callable[..., Any]] = {"copy": _copy_list, "count": _count, "index": _index}
OF_TUPLE: dict[str, Callable[..., Any]] = {"count": _count, "index": _index}
OF_LOOP: dict[str, Callable[..., Any]] = {"cycle": _loop_cycle, "changed": _loop_changed}
OF_CYCLER: dict[str, Callable[..., Any]] = {"next": _cycler_next, "reset": _cycler_reset}
