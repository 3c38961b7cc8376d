"""Filters and tests by their names: the tables that ``filters`` and ``checks`` fill.

They stand below those who fill them, because some filters run filters and tests themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyqwen.text.jinja.budget import CALL, Budget, Fault

FILTERS: dict[str, Callable[..., Any]] = {}
TESTS: dict[str, Callable[..., Any]] = {}


def call_filter(budget: Budget, name: Any, value: Any, args: Any, kwargs: Any) -> Any:
    """What ``map`` does with each item."""
    return _call(FILTERS, "filter", budget, name, value, args, kwargs)


def call_test(budget: Budget, name: Any, value: Any, args: Any, kwargs: Any) -> Any:
    """What ``select`` and its relatives do with each item."""
    return _call(TESTS, "test", budget, name, value, args, kwargs)


def _call(
    table: dict[str, Callable[..., Any]],
    kind: str,
    budget: Budget,
    name: Any,
    value: Any,
    args: Any,
    kwargs: Any,
) -> Any:
    run = table.get(name) if isinstance(name, str) else None
    if run is None:
        raise Fault(
            f"no {kind} named {name[:60]!r}" if isinstance(name, str) else f"no such {kind}"
        )
    budget.spend(CALL)
    return run(budget, value, *args, **kwargs)
