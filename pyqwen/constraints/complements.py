"""The opposite of a JSON schema, where it can be said without ``not``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from pyqwen.constraints.schema import TYPES, resolve

Schema = dict[str, Any]

_NOTES = frozenset(("title", "description", "$comment", "examples", "default"))
_MOST_REFERENCES = 8


def excluding(schema: Schema, unwanted: Any, root: Any) -> Schema | None:
    """``schema`` without what ``unwanted`` allows, maybe with less; None where that cannot be said."""
    opposite = negated(unwanted, schema, root)
    if opposite is None or opposite is False:  # if nothing is left, the library will say so
        return None
    if opposite is True:
        return schema
    if not schema:
        return dict(opposite)
    if "enum" in schema and set(opposite) == {"enum"}:
        return {**schema, "enum": opposite["enum"]}
    return {**schema, "allOf": [*schema.get("allOf", []), opposite]}


def negated(schema: Any, beside: Mapping[str, Any], root: Any) -> Any:
    """A schema for some of what ``schema`` does not allow, and for nothing that it does.

    ``beside`` is what holds as well, which may say how; ``root`` is the document, for references. None
    where it cannot be said; False where nothing is left.
    """
    for _ in range(_MOST_REFERENCES):
        if not (isinstance(schema, Mapping) and set(schema) - _NOTES == {"$ref"}):
            break
        schema = resolve(root, schema["$ref"])
    if schema is True or schema == {}:
        return False
    if schema is False:
        return True
    if not isinstance(schema, Mapping):
        return None
    rules = {key: value for key, value in schema.items() if key not in _NOTES}
    # Whatever breaks one rule breaks the schema.
    parts = [_negated_rule(key, value, beside, root) for key, value in rules.items()]
    said = [part for part in parts if part is not None]
    ways = [part for part in said if part is not False]
    if True in ways:
        return True
    if not ways:
        return False if len(said) == len(parts) else None
    return ways[0] if len(ways) == 1 else {"anyOf": ways}


def _negated_rule(key: str, value: Any, beside: Mapping[str, Any], root: Any) -> Any:
    """As ``negated``, for a schema of one keyword."""
    if key in ("const", "enum"):
        return _other_values([value] if key == "const" else value, beside)
    if key == "type":
        return _other_types(kinds_of(value), beside)
    if key == "required":
        needed = set(beside.get("required", ()))
        return _any(
            [
                {"type": "object", "properties": {name: False}}
                for name in value
                if name not in needed
            ]
        )
    if key == "properties":
        return _other_properties(value, beside, root)
    if key in ("anyOf", "oneOf"):  # breaking all branches breaks either
        parts = [negated(item, beside, root) for item in value]
        return None if None in parts else False if False in parts else {"allOf": parts}
    if key == "allOf":
        parts = [negated(item, beside, root) for item in value]
        ways = [part for part in parts if part is not None and part is not False]
        return {"anyOf": ways} if ways else None
    if key == "not":
        return value
    return _beyond_limit(key, value, beside)


def _any(ways: list[Any]) -> Any:
    return {"anyOf": ways} if ways else False


def _other_types(kinds: set[str], beside: Mapping[str, Any]) -> Any:
    others = TYPES - kinds - ({"integer"} if "number" in kinds else set())
    if "integer" in kinds and "number" not in kinds:
        others -= {"number"}
    others &= kinds_of(beside.get("type", list(TYPES)))
    return {"type": sorted(others)} if others else False


def _beyond_limit(key: str, value: Any, beside: Mapping[str, Any]) -> Any:
    kinds = kinds_of(beside.get("type", []))
    if kinds and kinds <= {"number", "integer"}:
        opposite = {
            "minimum": "exclusiveMaximum",
            "maximum": "exclusiveMinimum",
            "exclusiveMinimum": "maximum",
            "exclusiveMaximum": "minimum",
        }.get(key)
        return {opposite: value} if opposite else None
    for kind, name in (("string", "Length"), ("array", "Items")):
        if kinds == {kind} and key == f"min{name}":
            return {f"max{name}": int(value) - 1} if value > 0 else False
        if kinds == {kind} and key == f"max{name}":
            return {f"min{name}": int(value) + 1}
    return None


def _other_properties(properties: Mapping[str, Any], beside: Mapping[str, Any], root: Any) -> Any:
    """One of the properties is there, and is what it was not to be."""
    declared: Mapping[str, Any] = beside.get("properties", {})
    ways: list[Any] = []
    is_all = True
    for name, schema in properties.items():
        known = declared.get(name, {})
        opposite = negated(schema, known if isinstance(known, Mapping) else {}, root)
        if opposite is None:
            is_all = False
        elif opposite is not False:
            wrong = {"type": "object", "properties": {name: opposite}, "required": [name]}
            ways.append(wrong)
    return {"anyOf": ways} if ways else False if is_all else None


def _other_values(values: list[Any], beside: Mapping[str, Any]) -> Any:
    if "enum" in beside:
        left = [value for value in beside["enum"] if not any(_same(value, v) for v in values)]
        return {"enum": left} if left else False
    if "const" in beside:
        return not any(_same(beside["const"], value) for value in values)
    kinds = kinds_of(beside.get("type", []))
    if not kinds:
        return None
    if kinds == {"boolean"}:
        left = [value for value in (True, False) if not any(_same(value, v) for v in values)]
        return {"enum": left} if left else False
    if kinds == {"string"}:
        return {
            "type": "string",
            "pattern": f"^{_other_texts(v for v in values if isinstance(v, str))}$",
        }
    if kinds == {"integer"}:
        numbers = sorted({int(v) for v in values if type(v) in (int, float) and v == int(v)})
        edges = [None, *numbers, None]
        branches = []
        for low, high in pairwise(edges):
            limits: Schema = {}
            if low is not None:
                limits["exclusiveMinimum"] = low
            if high is not None:
                limits["exclusiveMaximum"] = high
            if low is None or high is None or high - low > 1:
                branches.append(limits)
        return {"anyOf": branches} if numbers else True
    kinds -= {"null"} if None in values else set()
    if all(value is None for value in values):
        return {"type": sorted(kinds)} if kinds else False
    return None


def _other_texts(words: Iterable[str]) -> str:
    """A regular expression of all texts but some words."""
    return _leaving(_tree(words), may_go_on=True)


def other_beginnings(words: Iterable[str]) -> str:
    """A regular expression of all texts that begin with none of some words."""
    return _leaving(_tree(words), may_go_on=False)


def _tree(words: Iterable[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for char in word:
            node = node.setdefault(char, {})
        node[""] = {}
    return tree


def _leaving(node: Mapping[str, Any], *, may_go_on: bool) -> str:
    """All texts that leave a tree of words somewhere, or end before a word does."""
    is_word = "" in node
    chars = sorted(char for char in node if char)
    others = "".join(f"\\x{{{ord(char):x}}}" for char in chars)
    ways = [f"[^{others}](?s:.)*" if others else "(?s:.)+"]
    ways += [f"\\x{{{ord(char):x}}}{_leaving(node[char], may_go_on=may_go_on)}" for char in chars]
    if is_word and not may_go_on:
        ways = []  # no text goes on from here
    if not is_word:
        ways.append("")
    return f"({'|'.join(ways)})" if ways else "[^\\x{0}-\\x{10ffff}]"


def kinds_of(value: Any) -> set[str]:
    """The types that the value of ``type`` names."""
    return set(value if isinstance(value, list) else [value])


def _same(a: Any, b: Any) -> bool:
    return a == b and isinstance(a, bool) == isinstance(b, bool)
