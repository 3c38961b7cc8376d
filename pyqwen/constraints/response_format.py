"""What is given as ``response_format=``: which constraint it means, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyqwen.constraints.constraint import Constraint
from pyqwen.constraints.grammars import Grammars
from pyqwen.constraints.guide import Guide
from pyqwen.constraints.llguidance import GrammarRefused
from pyqwen.errors import ConstraintError
from pyqwen.results import Completion


@dataclass(frozen=True)
class ResponseFormat:
    """A constraint, and what makes the finished text what the caller asked for."""

    constraint: Constraint
    read: Callable[[str], Any]

    def guide(self, grammars: Grammars) -> tuple[Guide, tuple[str, ...]]:
        """Return what guides an answer, and the keywords of the schema that it does not enforce."""
        constraint = self.constraint
        try:
            return grammars.guide(constraint.kind, constraint.grammar()), ()
        except GrammarRefused as error:
            raise ConstraintError(str(error)) from None

    def conclude(self, completion: Completion) -> Completion:
        """The completion with what it says; ``ConstraintError`` if that is not what was asked for."""
        if completion.finish_reason != "stop":
            return completion
        return replace(completion, parsed=self.read(completion.text))


def response_format(value: Any, *, strict: bool = False) -> ResponseFormat | None:
    """Understand a ``response_format``; None where any text will do.

    Raises ``TypeError`` for what is no format at all, ``ConstraintError`` for one that cannot be.
    """
    if value is None:
        return None
    if isinstance(value, Constraint):
        reader = json.loads if value.kind == "json" else str
        return ResponseFormat(replace(value, strict=value.strict or strict), reader)
    if isinstance(value, Mapping):
        return _of_mapping(value, strict)
    raise TypeError(
        f"response_format is a type, a JSON schema or a Constraint, not {type(value).__name__}"
    )


def _of_mapping(value: Mapping[str, Any], strict: bool) -> ResponseFormat | None:
    """OpenAI's forms, or a schema itself."""
    kind = value.get("type")
    if kind == "text":
        return None
    schema: Any = value
    if kind == "json_object":
        schema = {"type": "object"}
    elif kind == "json_schema":
        named = value.get("json_schema")
        if not isinstance(named, Mapping) or "schema" not in named:
            raise ConstraintError(
                "a response_format of type json_schema has the schema in json_schema.schema"
            )
        schema, strict = named["schema"], strict or named.get("strict") is True
    return ResponseFormat(Constraint.json(schema, strict=strict), json.loads)
