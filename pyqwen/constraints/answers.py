"""Finished texts read as answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Read = Callable[[str], Any]
"""What a finished text says; raises ``AnswerError``."""


class AnswerError(Exception):
    """A finished text is not what was asked for; ``path`` leads to the place in it."""

    def __init__(self, problem: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(problem)
        self.path = path


def read_json(text: str, *, exact: bool = False) -> Any:
    """What a JSON text says; ``exact``: numbers with a point as decimal fractions."""
    try:
        return json.loads(text, parse_float=_exact if exact else None)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, for example
        raise AnswerError(f"it cannot be read as JSON: {error}") from None


def _exact(number: str) -> Decimal | float:
    try:
        return Decimal(number)
    except ArithmeticError:  # an exponent of 20 digits
        return float(number)
