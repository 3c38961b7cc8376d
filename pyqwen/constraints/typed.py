"""Types as constraints: pydantic describes them, and makes instances of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyqwen.constraints.answers import AnswerError, Read
from pyqwen.constraints.constraint import Constraint
from pyqwen.constraints.schema import walk


def constraint_of(kind: Any, *, strict: bool) -> tuple[Constraint, Read]:
    """Return what an answer must look like that is an instance of a type, and what makes it one.

    Objects have no other properties than the type has, unless it says that it takes them. Raises
    ``TypeError`` for types that pydantic cannot describe.
    """
    try:
        from pydantic import TypeAdapter, ValidationError
        from pydantic.errors import PydanticUserError
    except ImportError as error:
        raise TypeError(
            "a type as response_format needs pydantic: pip install pydantic, or give a JSON schema"
        ) from error
    try:
        adapter: Any = TypeAdapter(kind)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise TypeError(f"{_name(kind)} has no JSON schema: {reason}") from error

    def read(text: str) -> Any:
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise AnswerError(first["msg"], tuple(first["loc"])) from None
        except (ValueError, TypeError, RecursionError) as error:  # of the type's own code
            raise AnswerError(str(error)) from None

    return Constraint.json(_closed(schema), strict=strict), read


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    for _, node in walk(schema):
        if isinstance(node, Mapping) and "properties" in node:
            node.setdefault("additionalProperties", False)  # type: ignore[attr-defined]
    return schema


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind)
