"""``+ - * / // % **`` and the signs, each checked and paid for before Python computes it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from pyqwen.text.jinja.budget import ELEMENT, OBJECT, Budget, Fault
from pyqwen.text.jinja.formatting import percent_format
from pyqwen.text.jinja.registry import FILTERS
from pyqwen.text.jinja.tracked import Markup, cost_of, joined, markup, without_markup
from pyqwen.text.jinja.values import Undefined, bounded, kind_of

_MAX_BITS = 1024  # of an operand, which may be a user's

Binary = Callable[[Budget, Any, Any], Any]


def _wrong(sign: str, left: Any, right: Any) -> Exception:
    for operand in (left, right):
        if isinstance(operand, Undefined):
            operand.fail()
    return TypeError(
        f"unsupported operand type(s) for {sign}: {kind_of(left)!r} and {kind_of(right)!r}"
    )


def _small(number: Any) -> bool:
    """Whether this is a number that Python may compute with."""
    if isinstance(number, float):
        return True
    if not isinstance(number, int):
        return False
    if number.bit_length() > _MAX_BITS:
        raise Fault("it computes with too large numbers")
    return True


def add(budget: Budget, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        if isinstance(left, Markup) or isinstance(right, Markup):
            return _add_markup(budget, left, right)
        return joined((left, right), budget)
    if _small(left) and _small(right):
        return bounded(left + right)
    if type(left) is type(right) and isinstance(left, list | tuple):
        budget.spend(OBJECT + ELEMENT * (len(left) + len(right)))
        return left + right
    raise _wrong("+", left, right)


def _add_markup(budget: Budget, left: str, right: str) -> str:
    escape = FILTERS["escape"]
    parts = [without_markup(escape(budget, part)) for part in (left, right)]
    made = joined(parts, budget)
    budget.spend(cost_of(made) + 3 * OBJECT)
    return markup(made)


def multiply(budget: Budget, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, str | list | tuple):
        left, right = right, left
    if isinstance(left, str | list | tuple) and isinstance(right, int):
        times = max(0, right)
        if isinstance(left, str):
            budget.spend(OBJECT + len(left) * times)
            if type(left) is str:
                return left * times
            budget.spend(ELEMENT * times)
            return joined([without_markup(left)] * times, budget)
        budget.spend(OBJECT + ELEMENT * len(left) * times)
        return left * times
    return _numbers("*", operator.mul, left, right)


def modulo(budget: Budget, left: Any, right: Any) -> Any:
    if isinstance(left, str):
        if isinstance(left, Markup):
            raise Fault("it formats a text marked as safe, which is not supported")
        return percent_format(budget, left, right)
    return _numbers("%", operator.mod, left, right)


def power(budget: Budget, left: Any, right: Any) -> Any:
    if _small(left) and _small(right):
        if isinstance(left, int) and isinstance(right, int):
            bits = max(abs(left), 1).bit_length() - 1  # of 1 and -1 any power is small
            if abs(left) > 1 and bits * max(right, 0) > 64:
                raise Fault("it computes with too large numbers")
        return bounded(left**right)
    raise _wrong("**", left, right)


def _numbers(sign: str, compute: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if _small(left) and _small(right):
        return bounded(compute(left, right))
    raise _wrong(sign, left, right)


def _numeric(sign: str, compute: Callable[[Any, Any], Any]) -> Binary:
    return lambda budget, left, right: _numbers(sign, compute, left, right)


subtract = _numeric("-", operator.sub)
divide = _numeric("/", operator.truediv)
floor_divide = _numeric("//", operator.floordiv)


def negative(value: Any) -> Any:
    return _signed("-", operator.neg, value)


def positive(value: Any) -> Any:
    return _signed("+", operator.pos, value)


def _signed(sign: str, compute: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, Undefined):
        value.fail()
    if not _small(value):
        raise TypeError(f"bad operand type for unary {sign}: {kind_of(value)!r}")
    return bounded(compute(value))
