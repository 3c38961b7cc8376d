"""Comparing, finding and sorting values, with containers gone through by steps that are paid for.

Python compares nested lists and dicts in one call, which takes exponential time where they share
their parts. Here only scalars are compared by Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cmp_to_key
from typing import Any

from pyqwen.text.jinja.budget import ELEMENT, NODE, OBJECT, Budget, Fault
from pyqwen.text.jinja.values import (
    MISSING,
    Lazy,
    Undefined,
    View,
    checked_key,
    iterate,
    kind_of,
)

_CONTAINERS = (list, tuple, dict)


def equal(budget: Budget, left: Any, right: Any) -> bool:
    """``left == right``."""
    if isinstance(left, str):
        if isinstance(right, str) and len(left) == len(right):
            budget.spend(len(left) >> 3)
            return left == right
        return False
    if isinstance(left, _CONTAINERS) and isinstance(right, _CONTAINERS):
        return _equal_containers(budget, left, right)
    if isinstance(left, View) and isinstance(right, View):
        raise Fault("it compares the views of dicts, which is not supported")
    return bool(left == right)


def _equal_containers(budget: Budget, left: Any, right: Any) -> bool:
    pending = [(left, right)]
    while pending:
        budget.spend(OBJECT)
        left, right = pending.pop()
        if left is right:
            continue
        if not (isinstance(left, _CONTAINERS) and isinstance(right, _CONTAINERS)):
            if not equal(budget, left, right):
                return False
            continue
        if type(left) is not type(right) or len(left) != len(right):
            return False
        budget.spend(OBJECT * len(left))
        if isinstance(left, dict) and isinstance(right, dict):
            for key, value in left.items():
                other = right.get(key, MISSING)
                if other is MISSING:
                    return False
                pending.append((value, other))
        else:
            pending.extend(zip(left, right, strict=True))
    return True


def less(budget: Budget, left: Any, right: Any, operator: str = "<") -> bool:
    """``left < right`` (or another of ``< <= > >=``); ``TypeError`` where they have no order."""
    while True:
        budget.spend(NODE)
        if isinstance(left, str) and isinstance(right, str):
            budget.spend(min(len(left), len(right)) >> 3)
            break
        if isinstance(left, int | float) and isinstance(right, int | float):
            break
        if not (type(left) is type(right) and isinstance(left, list | tuple)):
            for value in (left, right):
                if isinstance(value, Undefined):
                    value.fail()
            raise TypeError(
                f"'{operator}' not supported between {kind_of(left)!r} and {kind_of(right)!r}"
            )
        budget.spend(ELEMENT * min(len(left), len(right)))
        for a, b in zip(left, right, strict=False):
            if a is not b and not equal(budget, a, b):
                left, right = a, b
                break
        else:
            left, right = len(left), len(right)
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    if operator == ">":
        return bool(left > right)
    return bool(left >= right)


def contains(budget: Budget, container: Any, item: Any) -> bool:
    """``item in container``."""
    if isinstance(container, str):
        if not isinstance(item, str):
            if isinstance(item, Undefined):
                item.fail()
            raise TypeError(f"'in <string>' requires a string, not {kind_of(item)!r}")
        budget.spend(search_cost(container, item))
        return str.__contains__(container, item)
    if isinstance(container, dict):
        return checked_key(item) in container
    if isinstance(container, range) and isinstance(item, int):
        return item in container
    if isinstance(container, Lazy):
        while (found := container.take()) is not MISSING:
            budget.spend(NODE)
            if found is item or equal(budget, found, item):
                return True
        return False
    items = iterate(budget, container)
    budget.spend(ELEMENT * len(items))
    for other in items:
        budget.spend(NODE)
        if other is item or equal(budget, other, item):
            return True
    return False


def search_cost(text: str, part: str) -> int:
    """Units for looking for ``part`` in ``text``.

    CPython's search is linear but for short needles, which it compares at each place up to their
    length; a character compared costs a small part of a unit.
    """
    return NODE + (len(text) >> 3) * (1 + (min(len(part), 128) >> 3)) + len(part)


def ordered(
    budget: Budget, items: Sequence[Any], keys: Sequence[Any], reverse: bool, wrapped: bool
) -> list[Any]:
    """``items`` by their ``keys``, in a stable order.

    ``wrapped``: the keys compare as one-element lists, so that two None are in order.
    """
    count = len(items)
    rounds = count.bit_length() + 1
    budget.spend((OBJECT + 2 * ELEMENT) * count)
    places: list[int] = list(range(count))
    if all(isinstance(key, str) for key in keys):
        budget.spend(rounds * (ELEMENT * count + sum(len(key) >> 3 for key in keys)))
        places.sort(key=keys.__getitem__, reverse=reverse)
    elif all(isinstance(key, int | float) for key in keys):
        budget.spend(rounds * ELEMENT * count)
        places.sort(key=keys.__getitem__, reverse=reverse)
    else:
        places.sort(key=cmp_to_key(_by_key(budget, keys, wrapped)), reverse=reverse)
    return [items[i] for i in places]


def _by_key(budget: Budget, keys: Sequence[Any], wrapped: bool) -> Callable[[int, int], int]:
    def compare(i: int, j: int) -> int:
        budget.spend(OBJECT)
        left, right = keys[i], keys[j]
        if wrapped and (left is right or equal(budget, left, right)):
            return 0
        # Sorting asks only whether the left one is less.
        return -1 if less(budget, left, right) else 1

    return compare
