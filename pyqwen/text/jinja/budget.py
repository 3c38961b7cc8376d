"""What one run of a template may still spend, and how it ends when that is used up.

Owns the unit and the prices. One unit pays for one character of a string: at most four bytes of
memory, and far less than 60 ns of time. Everything else is priced in these units, at or above what
it takes. So the 16 million units that every run has bound both: about a second, some 64 MB.
"""

from __future__ import annotations

from typing import Any, NoReturn

NODE = 4  # one node of the syntax tree, evaluated once
OBJECT = 24  # an object with its place in a container
ELEMENT = 3  # one reference in a list that is copied, or one step inside a loop in C
SPAN = 40  # one place of a user's text within a string
CALL = 64  # a macro, a method, a filter

MAX_DEPTH = 40  # of macros, callers and recursive loops within each other
MAX_NESTING = 100  # of containers, where they are written out or compared

_BASE_UNITS = 16_000_000
_UNITS_PER_INPUT_CHARACTER = 64  # an honest template copies each message some ten times


class Fault(Exception):
    """Whatever ends a template early, with the line where known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class Refusal(Fault):
    """The template itself refused these messages (``raise_exception``)."""


class Budget:
    """The units left for one run, and the depth of its calls."""

    __slots__ = ("depth", "left")

    def __init__(self, input_size: int) -> None:
        """``input_size``: characters of the variables, to which the budget is proportional."""
        self.left = _BASE_UNITS + _UNITS_PER_INPUT_CHARACTER * input_size
        self.depth = 0

    def spend(self, units: int) -> None:
        """Charge for what comes next; ``Fault`` when the budget does not cover it."""
        self.left -= units
        if self.left < 0:
            self.exhausted()

    def exhausted(self) -> NoReturn:
        """End the run."""
        raise Fault("it exceeds its limits: it loops too often or makes too much text")

    def enter(self) -> None:
        """Count one level of calls; ``leave`` must follow."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.depth -= 1
            raise Fault(f"it calls itself more than {MAX_DEPTH} levels deep")

    def leave(self) -> None:
        self.depth -= 1


def located(error: Exception, line: int) -> Fault:
    """``error``, which a statement in this line raised, as a ``Fault`` that names the line."""
    if not isinstance(error, Fault):
        if isinstance(error, RecursionError):
            error = Fault("it recurses too deeply")
        else:
            error = Fault(f"{type(error).__name__}: {_shortened(error)}")
    if error.line is None:
        error.line = line
    return error


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 1000 else text[:1000] + "…"
