"""Jinja's tests (``is defined``, ``is string``, ...), and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqwen.text.jinja.budget import Budget
from pyqwen.text.jinja.comparing import contains, equal, less
from pyqwen.text.jinja.registry import FILTERS, TESTS
from pyqwen.text.jinja.tracked import Markup
from pyqwen.text.jinja.values import Function, Joiner, Lazy, Loop, Macro, Undefined, View, kind_of
from pyqwen.text.jinja.writing import to_text

_ITERABLE = (str, list, tuple, dict, range, View, Lazy, Undefined, Loop)
_SEQUENCES = (str, list, tuple, dict, range, Undefined)
_CALLABLE = (Function, Joiner, Loop, Macro, Undefined)


def _remainder(value: Any, number: Any) -> Any:
    for operand in (value, number):
        if isinstance(operand, Undefined):
            operand.fail()
        if not isinstance(operand, bool | int | float):
            raise TypeError(f"a number is required, not {kind_of(operand)!r}")
    return value % number


def _cased(ask: Callable[[str], bool]) -> Callable[[Budget, Any], bool]:
    def run(budget: Budget, value: Any) -> bool:
        text = to_text(budget, value)
        budget.spend(len(text))
        return ask(text)

    return run


def _comparing(operator: str) -> Callable[[Budget, Any, Any], bool]:
    return lambda budget, value, other: less(budget, value, other, operator)


def _unequal(budget: Budget, value: Any, other: Any) -> bool:
    return not equal(budget, value, other)


def _is_filter(budget: Budget, value: Any) -> bool:
    return isinstance(value, str) and value in FILTERS


TESTS |= {
    "odd": lambda budget, value: _remainder(value, 2) == 1,
    "even": lambda budget, value: _remainder(value, 2) == 0,
    "divisibleby": lambda budget, value, num: _remainder(value, num) == 0,
    "defined": lambda budget, value: not isinstance(value, Undefined),
    "undefined": lambda budget, value: isinstance(value, Undefined),
    "filter": _is_filter,
    "test": lambda budget, value: isinstance(value, str) and value in TESTS,
    "none": lambda budget, value: value is None,
    "boolean": lambda budget, value: isinstance(value, bool),
    "false": lambda budget, value: value is False,
    "true": lambda budget, value: value is True,
    "integer": lambda budget, value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda budget, value: isinstance(value, float),
    "lower": _cased(str.islower),
    "upper": _cased(str.isupper),
    "string": lambda budget, value: isinstance(value, str),
    "mapping": lambda budget, value: isinstance(value, dict),
    "number": lambda budget, value: isinstance(value, bool | int | float),
    "sequence": lambda budget, value: isinstance(value, _SEQUENCES),
    "sameas": lambda budget, value, other: value is other,
    "iterable": lambda budget, value: isinstance(value, _ITERABLE),
    "callable": lambda budget, value: isinstance(value, _CALLABLE),
    "escaped": lambda budget, value: isinstance(value, Markup),
    "in": lambda budget, value, seq: contains(budget, seq, value),
    "==": equal,
    "eq": equal,
    "equalto": equal,
    "!=": _unequal,
    "ne": _unequal,
    ">": _comparing(">"),
    "gt": _comparing(">"),
    "greaterthan": _comparing(">"),
    ">=": _comparing(">="),
    "ge": _comparing(">="),
    "<": _comparing("<"),
    "lt": _comparing("<"),
    "lessthan": _comparing("<"),
    "<=": _comparing("<="),
    "le": _comparing("<="),
}
