"""What is given as ``response_format=``: which constraint it means, and how its answer is read."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pyqwen.constraints.answers import AnswerError, Read, read_json
from pyqwen.constraints.compiling import Compiled
from pyqwen.constraints.constraint import Constraint
from pyqwen.constraints.grammars import Grammars
from pyqwen.constraints.guide import Guide
from pyqwen.constraints.schema import pointer
from pyqwen.errors import ConstraintError
from pyqwen.results import Completion


class Guided(NamedTuple):
    """What a request needs: its guide, the keywords that are not enforced, and what becomes of the answer."""

    guide: Guide
    unenforced: tuple[str, ...]
    conclude: Callable[[Completion, str], Completion]
    """``conclude(completion, begun)``: ``begun`` is the text that the answer went on with."""


class ResponseFormat:
    """A constraint, and what makes of a finished text what the caller asked for."""

    def __init__(self, constraint: Constraint, read: Read) -> None:
        self._constraint, self._read = constraint, read

    def constraint(self) -> tuple[Constraint, Read]:
        """The constraint, and what reads an answer by it; the first call may take a while."""
        return self._constraint, self._read

    @property
    def is_json(self) -> bool:
        """Whether the answers are JSON."""
        return self._constraint.kind == "json"

    @property
    def is_known(self) -> bool:
        """Whether ``constraint`` takes no time."""
        return True

    def find(self, grammars: Grammars) -> Guided | None:
        """Return what guides an answer, if that takes no time."""
        if not self.is_known:
            return None
        constraint, read = self.constraint()
        compiled = grammars.find(constraint)
        return None if compiled is None else _guided(grammars, compiled, read)

    def make(self, grammars: Grammars) -> Guided:
        """Return what guides an answer; ``ConstraintError`` says what is wrong with the format."""
        constraint, read = self.constraint()
        compiled = grammars.compiled(constraint)
        if compiled.check is not None:
            from pyqwen.constraints.validation import validator

            validator(compiled.check)  # imported and made now, not when the answer is finished
        return _guided(grammars, compiled, read)


class TypeFormat(ResponseFormat):
    """A type that pydantic can describe: its instances are the answers."""

    _known: typing.ClassVar[dict[Any, tuple[Constraint, Read]]] = {}  # by type, the latest

    def __init__(self, kind: Any, strict: bool) -> None:
        self._type, self._strict = kind, strict

    @property
    def is_json(self) -> bool:
        return True

    @property
    def is_known(self) -> bool:
        try:
            return (self._type, self._strict) in self._known
        except TypeError:  # it cannot be hashed
            return False

    def constraint(self) -> tuple[Constraint, Read]:
        if self.is_known:
            return self._known[self._type, self._strict]
        from pyqwen.constraints.typed import constraint_of

        made = constraint_of(self._type, strict=self._strict)
        try:
            self._known[self._type, self._strict] = made
            while len(self._known) > _MOST_TYPES:
                self._known.pop(next(iter(self._known)), None)
        except TypeError:
            pass
        return made


_MOST_TYPES = 64


def response_format(value: Any, *, strict: bool = False) -> ResponseFormat | None:
    """Understand a ``response_format``; None where any text will do.

    Raises ``TypeError`` for what is no format at all, ``ConstraintError`` for one that cannot be.
    """
    if not isinstance(strict, bool):
        raise TypeError(f"strict must be True or False, not {type(strict).__name__}")
    if value is None:
        return None
    if isinstance(value, Constraint):
        constraint = replace(value, strict=value.strict or strict)
        return ResponseFormat(constraint, read_json if value.kind == "json" else str)
    if isinstance(value, Mapping):
        return _of_mapping(value, strict)
    if isinstance(value, type) or _is_type_form(value):
        return TypeFormat(value, strict)
    raise TypeError(
        f"response_format is a type, a JSON schema or a Constraint, not {type(value).__name__}"
    )


def _is_type_form(value: Any) -> bool:
    return typing.get_origin(value) is not None or isinstance(
        value, types.UnionType | typing.NewType
    )


def _of_mapping(value: Mapping[str, Any], strict: bool) -> ResponseFormat | None:
    """OpenAI's forms, or a schema itself."""
    kind = value.get("type")
    if kind == "text" and len(value) == 1:
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
    return ResponseFormat(Constraint.json(schema, strict=strict), read_json)


def _guided(grammars: Grammars, compiled: Compiled, read: Read) -> Guided:
    conclusion = _Conclusion(compiled.check, read)
    return Guided(grammars.guide(compiled), compiled.unenforced, conclusion)


@dataclass(frozen=True)
class _Conclusion:
    """Reads finished answers, and checks what the grammar did not know."""

    check: str | None
    read: Read

    def __call__(self, completion: Completion, begun: str) -> Completion:
        text = begun + completion.text
        if completion.finish_reason != "stop":
            return completion
        try:
            if self.check is not None:
                from pyqwen.constraints.validation import validate

                validate(text, self.check)
            return replace(completion, parsed=self.read(text))
        except AnswerError as error:
            if completion.stop_reason is not None:  # what the caller wanted cut it off
                return completion
            path = pointer(error.path)
            raise ConstraintError(
                f"the answer does not meet its schema at {path}: {error}",
                path=path,
                completion=completion,
            ) from None
