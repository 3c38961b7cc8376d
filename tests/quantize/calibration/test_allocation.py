"""Types within a budget, against trying all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pyqwen.quantize.calibration.allocation import Option, allocate


def random_options(seed: int) -> dict[str, list[Option]]:
    random = np.random.default_rng(seed)
    options = {}
    for i in range(5):
        n, loss = int(random.integers(20, 60)), float(np.exp(random.normal()))
        options[f"t{i}"] = [
            Option(kind, n * bits, loss * 4.0**-bits * float(random.uniform(0.8, 1.2)))
            for kind, bits in (("A", 3), ("B", 4), ("C", 5), ("D", 6))
        ]
    return options


def best(options: dict[str, list[Option]], budget: int) -> float:
    return min(
        sum(o.loss for o in choice)
        for choice in itertools.product(*options.values())
        if sum(o.n_bytes for o in choice) <= budget
    )


@pytest.mark.parametrize("seed", range(20))
def test_close_to_the_best_of_all_choices(seed: int) -> None:
    options = random_options(seed)
    least = sum(o[0].n_bytes for o in options.values())
    most = sum(o[-1].n_bytes for o in options.values())
    for budget in (least, least + (most - least) // 3, least + (most - least) * 2 // 3, most):
        chosen = allocate(options, budget)
        assert sum(o.n_bytes for o in chosen.values()) <= budget
        assert sum(o.loss for o in chosen.values()) <= 1.35 * best(options, budget)


def test_more_bytes_are_never_worse() -> None:
    options = random_options(1)
    least = sum(o[0].n_bytes for o in options.values())
    losses = [
        sum(o.loss for o in allocate(options, least + extra).values()) for extra in range(0, 700, 7)
    ]
    assert losses[0] > losses[-1]
    assert all(b <= a * 1.1 for a, b in itertools.pairwise(losses))


def test_what_is_larger_and_no_better_is_never_chosen() -> None:
    options = {"t": [Option("small", 10, 1.0), Option("large", 20, 1.5), Option("good", 30, 0.1)]}
    assert allocate(options, 25)["t"].type == "small"
    assert allocate(options, 30)["t"].type == "good"


def test_a_budget_below_the_smallest_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 10 bytes"):
        allocate({"t": [Option("only", 10, 1.0)]}, 9)
