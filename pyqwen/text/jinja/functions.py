"""The functions that every template knows: Jinja's, and those that Hugging Face adds."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any, NoReturn

from pyqwen.text.jinja.budget import CALL, ELEMENT, OBJECT, Budget, Fault, Refusal
from pyqwen.text.jinja.values import (
    Cycler,
    Function,
    Joiner,
    Namespace,
    Undefined,
    iterate,
    keyed,
    kind_of,
)
from pyqwen.text.jinja.writing import to_text

_MAX_RANGE = 100_000  # as Jinja's sandbox


def _range(budget: Budget, /, *bounds: Any) -> range:
    for bound in bounds:
        if isinstance(bound, Undefined):
            bound.fail()
        if not isinstance(bound, int):
            raise TypeError(f"{kind_of(bound)!r} object cannot be interpreted as an integer")
        if abs(bound) >= 2**62:
            raise Fault("it asks for a range of too large numbers")
    made = range(*bounds)
    if len(made) > _MAX_RANGE:
        raise Fault(f"it asks for a range of more than {_MAX_RANGE:,} numbers")
    budget.spend(2 * OBJECT)
    return made


def _dict(budget: Budget, /, *args: Any, **kwargs: Any) -> dict[Any, Any]:
    if len(args) > 1:
        raise TypeError(f"dict expected at most 1 argument, got {len(args)}")
    budget.spend(CALL + OBJECT * (2 + 2 * len(kwargs)))
    if not args:
        return dict(kwargs)
    if isinstance(args[0], dict):
        budget.spend(2 * OBJECT * len(args[0]))
        return {**args[0], **kwargs}
    pairs = []
    for item in iterate(budget, args[0]):
        budget.spend(2 * OBJECT)
        pair = tuple(iterate(budget, item))
        if len(pair) != 2:
            raise ValueError(f"a pair is required, not {len(pair)} items")
        pairs.append(pair)
    return {**keyed(budget, pairs), **kwargs}


def _namespace(budget: Budget, /, *args: Any, **kwargs: Any) -> Namespace:
    return Namespace(_dict(budget, *args, **kwargs))


def _cycler(budget: Budget, /, *items: Any) -> Cycler:
    budget.spend(CALL + ELEMENT * len(items))
    return Cycler(items)


def _joiner(budget: Budget, /, sep: Any = ", ") -> Joiner:
    budget.spend(CALL)
    return Joiner(sep)


def _lipsum(budget: Budget, /, *args: Any, **kwargs: Any) -> NoReturn:
    raise Fault("it uses lipsum(), which is not supported")


def _raise_exception(budget: Budget, message: Any, /) -> NoReturn:
    raise Refusal(to_text(budget, message)[:1000])


def _strftime_now(budget: Budget, layout: Any, /) -> str:
    # Plain conversions only: C libraries pad to any width that a number asks for.
    if not isinstance(layout, str):
        raise TypeError("strftime_now() takes a text")
    if len(layout) > 200 or re.search(r"%[^a-zA-Z%]", layout):
        raise Fault(f"it asks for the date as {layout[:60]!r}")
    budget.spend(1000)
    return datetime.datetime.now().astimezone().strftime(layout)


def _table(**functions: Callable[..., Any]) -> dict[str, Function]:
    return {name: Function(name, run) for name, run in functions.items()}


GLOBALS: dict[str, Function] = _table(
    range=_range,
    dict=_dict,
    namespace=_namespace,
    cycler=_cycler,
    joiner=_joiner,
    lipsum=_lipsum,
    raise_exception=_raise_exception,
    strftime_now=_strftime_now,
)
