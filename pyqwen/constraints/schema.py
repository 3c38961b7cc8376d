"""JSON schemas as trees: walking over them, and what can be wrong with one before it is compiled.

llguidance says what it does not like, but not where; paths are JSON pointers, made here. What would take
seconds to compile is refused for its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pyqwen.errors import ConstraintError

Path = tuple[str | int, ...]

MOST_SCHEMAS = 20_000  # in all of one
MOST_PROPERTIES = 2_000  # of one object: its compilation takes the square of that
MOST_OPTIONAL = 1_500
DEEPEST = 50  # levels of schemas; the library reads no more than 128 levels of JSON

ONE = frozenset(
    [
        "additionalProperties",
        "additionalItems",
        "items",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
    ]
)
MANY = frozenset(["allOf", "anyOf", "oneOf", "prefixItems"])
NAMED = frozenset(
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"]
)
TYPES = frozenset(["null", "boolean", "object", "array", "number", "string", "integer"])

_NUMBERS = frozenset(["minimum", "maximum", "multipleOf"])
_COUNTS = frozenset(
    [
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minContains",
        "maxContains",
    ]
)
_TEXTS = frozenset(
    ["pattern", "format", "$ref", "$id", "$schema", "$anchor", "$dynamicRef", "$dynamicAnchor"]
)


class Node(NamedTuple):
    """A schema inside another one, and where it is."""

    path: Path
    schema: Any


def walk(schema: Any) -> Iterator[Node]:
    """All schemas in a schema, itself first, each before those in it."""
    waiting = [Node((), schema)]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(list(children(node)))


def children(node: Node) -> Iterator[Node]:
    """The schemas right below one, in the order in which they are written."""
    if not isinstance(node.schema, Mapping):
        return
    for key, value in node.schema.items():
        path = (*node.path, key)
        if isinstance(value, list) and (key in MANY or key == "items"):
            yield from (Node((*path, i), item) for i, item in enumerate(value))
        elif key in ONE:
            yield Node(path, value)
        elif key in NAMED and isinstance(value, Mapping):
            for name, item in value.items():
                if not (key == "dependencies" and isinstance(item, list)):
                    yield Node((*path, name), item)


def pointer(path: Path) -> str:
    """A path as a JSON pointer (RFC 6901) in a URI fragment, but with all characters as they are."""
    return "#" + "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in path)


def error(path: Path, problem: str) -> ConstraintError:
    """What is wrong in a schema, and where."""
    where = pointer(path)
    return ConstraintError(f"the schema is wrong at {where}: {problem}", path=where)


def check(schema: Any) -> None:
    """Raise ``ConstraintError`` for what no JSON schema is, and for one that is too large."""
    count = 0
    documents = {
        str(node.get("$id", node.get("id"))).partition("#")[0]
        for _, node in walk(schema)
        if isinstance(node, Mapping)
    }
    for path, node in walk(schema):
        count += 1
        if count > MOST_SCHEMAS:
            raise error((), f"it holds more than {MOST_SCHEMAS:,} schemas; make it smaller")
        if len(path) > 2 * DEEPEST:
            raise error(path, f"it is nested more than {DEEPEST} levels deep; use $defs and $ref")
        if isinstance(node, bool):
            continue
        if not isinstance(node, Mapping):
            raise error(path, f"a schema is an object, true or false, not {_name(node)}")
        for key, value in node.items():
            problem = _problem(key, value)
            if problem:
                raise error((*path, key), f"{key} {problem}")
        _check_properties(path, node)
        _check_reference(schema, path, node.get("$ref"), documents)


def _problem(key: str, value: Any) -> str:
    """What is wrong with the value of a keyword; empty if nothing is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "type":
        kinds = value if isinstance(value, list) else [value]
        wrong = [kind for kind in kinds if not isinstance(kind, str) or kind not in TYPES]
        if wrong or not kinds:
            return f"is one or several of {', '.join(sorted(TYPES))}, not {value!r:.60}"
    elif key in MANY and (not isinstance(value, list) or not value):
        return f"is a list of schemas that is not empty, not {_name(value)}"
    elif key in NAMED and not isinstance(value, Mapping):
        return f"is an object, not {_name(value)}"
    elif key == "enum" and (not isinstance(value, list) or not value):
        return "is a list of values that is not empty"
    elif key == "required" and not isinstance(value, bool):  # a boolean was right in draft 3
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            return "is a list of names"
    elif key in _NUMBERS and (not is_number or (key == "multipleOf" and not value > 0)):
        return f"is a number{' above 0' if key == 'multipleOf' else ''}, not {value!r:.60}"
    elif key in _COUNTS and (not is_number or value < 0 or value != int(value)):
        return f"is a whole number from 0 on, not {value!r:.60}"
    elif key in _TEXTS and not isinstance(value, str):
        return f"is a text, not {_name(value)}"
    return ""


def _check_properties(path: Path, node: Mapping[str, Any]) -> None:
    names = node.get("properties", {})
    required = node.get("required", [])
    optional = len(names) - (len(required) if isinstance(required, list) else 0)
    if len(names) > MOST_PROPERTIES or optional > MOST_OPTIONAL:
        raise error(
            (*path, "properties"),
            f"{len(names):,} properties are too many: at most {MOST_PROPERTIES:,}, and "
            f"{MOST_OPTIONAL:,} that are not required",
        )


def _check_reference(root: Any, path: Path, reference: str | None, documents: set[str]) -> None:
    """A pointer must lead somewhere, and nothing is fetched; the rest is left to the library."""
    if reference is None:
        return
    if (reference == "#" or reference.startswith("#/")) and resolve(root, reference) is None:
        raise error((*path, "$ref"), f"there is nothing at {reference}")
    document = reference.partition("#")[0]
    if "://" in document and document not in documents:
        raise error((*path, "$ref"), f"{document} is another document: put its schema into $defs")


def resolve(root: Any, reference: str) -> Any:
    """What a pointer of this document leads to; None if there is nothing, or it is no pointer."""
    from urllib.parse import unquote

    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    found = root
    for part in unquote(reference[2:]).split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def _name(value: Any) -> str:
    return f"{value!r:.40}" if isinstance(value, str | int | float | None) else type(value).__name__
