"""Which type each tensor gets, so that the expected loss is least and the bytes stay within a
budget.

Losses of tensors add up and their options are few, so this is the multiple-choice knapsack problem.
Only options on the lower convex hull of a tensor's (bytes, loss) are taken; steps along all hulls,
the best loss per byte first, give the optimum of the relaxed problem (Sinha and Zoltners,
Operations Research 27, 1979), and what is left of the budget goes to whatever still fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """A type that a tensor could get: what it takes, and the divergence expected from it."""

    type: str
    n_bytes: int
    loss: float


def allocate(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Option]:
    """Choose an option for each tensor; their bytes are at most ``budget``.

    ``ValueError`` where even the smallest ones take more.
    """
    hulls = {name: _hull(choices) for name, choices in options.items()}
    chosen = dict.fromkeys(hulls, 0)
    room = budget - sum(hull[0].n_bytes for hull in hulls.values())
    if room < 0:
        raise ValueError(
            f"the tensors take at least {budget - room:,} bytes, and {budget:,} are allowed"
        )
    steps = sorted(
        (
            (_gain(hull[i], hull[i + 1]), name, i)
            for name, hull in hulls.items()
            for i in range(len(hull) - 1)
        ),
        key=lambda step: (-step[0], step[1], step[2]),
    )
    for _, name, i in steps:
        cost = hulls[name][i + 1].n_bytes - hulls[name][i].n_bytes
        if chosen[name] == i and cost <= room:
            chosen[name] = i + 1
            room -= cost
    return {name: hulls[name][i] for name, i in chosen.items()}


def _gain(a: Option, b: Option) -> float:
    """Loss saved per byte by going from ``a`` to the larger ``b``."""
    return (a.loss - b.loss) / (b.n_bytes - a.n_bytes)


def _hull(choices: Sequence[Option]) -> list[Option]:
    """The options on the lower convex hull, smallest first: each step gains less than the one before."""
    hull: list[Option] = []
    for option in sorted(choices, key=lambda o: (o.n_bytes, o.loss)):
        if hull and option.loss >= hull[-1].loss:
            continue  # larger, and no better
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull
