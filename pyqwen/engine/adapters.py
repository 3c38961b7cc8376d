"""Which adapters a request wants: what callers write, in the one form that the cache of prefixes compares."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from pyqwen._native import MOST_ADAPTERS, Adapters

_LARGEST = 1e6  # a factor beyond it is a mistake


def adapters_of(wanted: Any) -> Adapters | None:
    """Names and factors, sorted by name, so that what computes the same is equal; None for none.

    An adapter with the factor 0 is left out. ``TypeError`` or ``ValueError`` for what cannot be.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        wanted = {wanted: 1.0}
    if not isinstance(wanted, Mapping):
        kind = type(wanted).__name__
        raise TypeError(f"adapter must be a name or a dict of names and factors, not {kind}")
    chosen = []
    for name, factor in wanted.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of an adapter must be str, not {type(name).__name__}")
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            kind = type(factor).__name__
            raise TypeError(f"the factor of the adapter {name[:80]!r} must be a number, not {kind}")
        if not abs(factor) <= _LARGEST or math.isnan(factor):
            raise ValueError(
                f"the factor of the adapter {name[:80]!r} must be from {-_LARGEST:g} to {_LARGEST:g}"
            )
        if factor != 0:
            chosen.append((name, float(factor)))
    if len(chosen) > MOST_ADAPTERS:
        raise ValueError(f"{len(chosen):,} adapters for one request; the most is {MOST_ADAPTERS}")
    return tuple(sorted(chosen)) or None


def checked_names(adapters: Adapters | None, known: Collection[str]) -> Adapters | None:
    """Return ``adapters`` if the model has them; ``ValueError`` names those it has."""
    for name, _ in adapters or ():
        if name not in known:
            there = f"there is {', '.join(sorted(known))}" if known else "the model has none"
            raise ValueError(f"there is no adapter {name[:80]!r}: {there} (Model(adapters=...))")
    return adapters
