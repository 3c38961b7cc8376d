"""What form clients want answers in: OpenAI's ``response_format``, schemas, grammars."""

from __future__ import annotations

from typing import Any

from pyqwen.serve.errors import ApiError, refusals
from pyqwen.serve.fields import RawJson

MAX_GRAMMAR = 256 * 1024


def response_format(
    given: RawJson | None, *, schema: RawJson | None = None, gbnf: str | None = None
) -> Any:
    """What the library calls ``response_format``; None for free text.

    ``given`` is OpenAI's field, or llama.cpp's form of it with ``schema``; the others are llama.cpp's.
    """
    if gbnf:
        if len(gbnf) > MAX_GRAMMAR:
            raise ApiError(400, f"the grammar is longer than {MAX_GRAMMAR:,}", param="grammar")
        return _constraint("gbnf", gbnf)
    if schema is not None:
        return {"type": "json_schema", "json_schema": {"schema": schema}}
    if given is None:
        return None
    kind = given.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        if "schema" not in given:
            return {"type": "json_object"}
        inner = given["schema"]
        if not isinstance(inner, dict):
            raise ApiError(400, "schema must be an object", param="response_format.schema")
        return {"type": "json_schema", "json_schema": {"schema": inner}}
    if kind == "json_schema":
        inner = given.get("json_schema", given)
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
            raise ApiError(
                400, "json_schema needs a schema", param="response_format.json_schema.schema"
            )
        return {"type": "json_schema", "json_schema": inner}
    if kind in ("regex", "grammar", "lark"):
        text = given.get(kind if kind != "regex" else "pattern", given.get("value"))
        if not isinstance(text, str):
            raise ApiError(400, f"{kind} needs a text", param="response_format")
        return _constraint("gbnf" if kind == "grammar" else str(kind), text)
    raise ApiError(
        400,
        f"response_format has the type {str(kind)[:100]!r}; known: text, json_object, json_schema",
        param="response_format.type",
    )


def _constraint(kind: str, text: str) -> Any:
    from pyqwen.constraints.constraint import Constraint

    with refusals():
        return getattr(Constraint, kind)(text)
