"""What templates reach by ``a.b``, ``a['b']`` and ``a[1:2]``: of each type only what is listed.

No attribute of a Python object is ever looked up. A name that is in no list, but is one of Python's
own for this type, is refused by name; so nobody takes a missing method for a missing value.
"""

from __future__ import annotations

from typing import Any

from pyqwen.text.jinja import methods
from pyqwen.text.jinja.budget import ELEMENT, OBJECT, Budget, Fault
from pyqwen.text.jinja.formatting import brace_format
from pyqwen.text.jinja.tracked import Markup, Text, cut, user_text
from pyqwen.text.jinja.values import (
    MISSING,
    Cycler,
    Function,
    Loop,
    Macro,
    Namespace,
    Undefined,
    kind_of,
)


def _format(budget: Budget, text: str, /, *args: Any, **kwargs: Any) -> str:
    return brace_format(budget, text, args, kwargs, get_attribute, get_item)


def _format_map(budget: Budget, text: str, values: Any, /) -> str:
    if not isinstance(values, dict):
        raise TypeError("format_map() takes a dict")
    return brace_format(budget, text, (), values, get_attribute, get_item)


# The places of a format reach into values, as templates do.
_OF_TEXT = methods.OF_TEXT | {"format": _format, "format_map": _format_map}

METHODS: dict[type, dict[str, Any]] = {
    str: _OF_TEXT,
    Text: _OF_TEXT,
    Markup: methods.OF_MARKUP,
    dict: methods.OF_DICT,
    list: methods.OF_LIST,
    tuple: methods.OF_TUPLE,
    Loop: methods.OF_LOOP,
    Cycler: methods.OF_CYCLER,
}

# What would change data; Jinja's sandbox treats it as undefined.
_CHANGES: dict[type, frozenset[str]] = {
    dict: frozenset({"clear", "pop", "popitem", "setdefault", "update"}),
    list: frozenset({"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"}),
}
OWN_NAMES: dict[type, frozenset[str]] = {
    kind: frozenset(dir(kind)) for kind in (str, dict, list, tuple, range, int, float, bool)
}
OWN_NAMES[Text] = OWN_NAMES[Markup] = OWN_NAMES[str]


def get_attribute(budget: Budget, owner: Any, name: str) -> Any:
    """``owner.name``."""
    found = _attribute(owner, name)
    if found is not MISSING:
        return found
    found = _element(budget, owner, name)
    return Undefined(name, owner) if found is MISSING else found


def get_item(budget: Budget, owner: Any, key: Any) -> Any:
    """``owner[key]``."""
    found = _element(budget, owner, key)
    if found is MISSING and isinstance(key, str):
        found = _attribute(owner, key)
    return Undefined(key, owner) if found is MISSING else found


def _attribute(owner: Any, name: str) -> Any:
    kind = type(owner)
    method = METHODS.get(kind, {}).get(name)
    if method is not None:
        return Function(name, method, owner, "builtin_function_or_method")
    if kind is Namespace:
        if name.startswith("_"):
            return _unsafe(owner, name)
        return owner.values.get(name, MISSING)
    if kind is Loop:
        return owner.attribute(name)
    if kind is Undefined:
        owner.fail()
    if kind is Macro:
        return _macro_attribute(owner, name)
    if kind is Cycler:
        known = {
            "current": owner.items[owner.position],
            "items": owner.items,
            "pos": owner.position,
        }
        return known.get(name, MISSING)
    if name in OWN_NAMES.get(kind, ()):
        if name.startswith("_") or name in _CHANGES.get(kind, frozenset()):
            return _unsafe(owner, name)
        raise Fault(f"it uses {kind_of(owner)}.{name}, which is not supported")
    return MISSING


def _unsafe(owner: Any, name: str) -> Undefined:
    return Undefined(hint=f"access to attribute {name!r} of {kind_of(owner)!r} object is unsafe")


def _macro_attribute(macro: Macro, name: str) -> Any:
    if name == "name":
        return macro.name
    if name == "arguments":
        return macro.arguments
    if name == "caller":
        return macro.uses_caller
    if name == "catch_kwargs":
        return macro.catches_kwargs
    if name == "catch_varargs":
        return macro.catches_varargs
    return MISSING


def _element(budget: Budget, owner: Any, key: Any) -> Any:
    if isinstance(owner, dict):
        if isinstance(key, list | dict | tuple):
            return MISSING
        return owner.get(key, MISSING)
    if isinstance(owner, Undefined):
        owner.fail()
    if isinstance(key, int) and isinstance(owner, str | list | tuple | range):
        size = len(owner)
        if not -size <= key < size:
            return MISSING
        if isinstance(owner, str):
            place = key + size if key < 0 else int(key)
            return cut(owner, place, place + 1, budget)
        return owner[key]
    return MISSING


def get_slice(budget: Budget, owner: Any, start: Any, stop: Any, step: Any) -> Any:
    """``owner[start:stop:step]``."""
    if isinstance(owner, Undefined):
        owner.fail()
    for bound in (start, stop, step):
        if isinstance(bound, Undefined):
            bound.fail()
        if bound is not None and not isinstance(bound, int):
            raise TypeError("slice indices must be integers or None")
    if not isinstance(owner, str | list | tuple | range):
        raise TypeError(f"{kind_of(owner)!r} object cannot be sliced")
    first, last, by = slice(start, stop, step).indices(len(owner))
    count = len(range(first, last, by))
    if not isinstance(owner, str):
        budget.spend(OBJECT + ELEMENT * count)
        return owner[start:stop:step]
    if isinstance(owner, Markup):
        raise Fault("it slices a text marked as safe, which is not supported")
    if by == 1:
        return cut(owner, first, max(first, last), budget)
    budget.spend(OBJECT + 2 * count)
    piece = owner[start:stop:step]
    return user_text(piece) if isinstance(owner, Text) else piece
