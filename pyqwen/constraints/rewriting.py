"""JSON schemas that llguidance refuses, written so that it takes them.

``modernized`` says the same in the words of draft 2020-12. ``narrowed`` goes further where the library has no
way to say a thing: what it returns may allow less than the schema did, and never more, so that every answer
by it is valid. ``contains`` puts a matching item first, for example, and ``uniqueItems`` over a few values
becomes a list of all that may be. What neither can say stays, and is checked when the answer is finished.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import combinations, permutations
from typing import Any

from pyqwen.constraints.complements import excluding, kinds_of, negated, other_beginnings
from pyqwen.constraints.schema import MANY, NAMED, ONE, resolve

Schema = dict[str, Any]

_MOST_LISTS = 400  # that stand for a list of different values
_MOST_BRANCHES = 8  # of which each is told from all others
_MOST_COPIES = 20  # of a schema that several items have to match

# Formats that the library does not know. Those of numbers are limits, the others patterns.
_RANGES = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**53) + 1, 2**53 - 1),  # what JSON is exchanged with (RFC 8259)
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**53 - 1),
}
_PATTERNS = {
    "json-pointer": "^(/([^/~]|~[01])*)*$",
    "relative-json-pointer": "^(0|[1-9][0-9]*)(#|(/([^/~]|~[01])*)*)$",
    "uri-reference": r"^[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+$",
    "uri-template": r"^([A-Za-z0-9._~:/?#@!$&'()*+,;=-]|\{[A-Za-z0-9_]+\})+$",
    "byte": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    "color": "^#[0-9a-fA-F]{6}$",
    "year-month": "^[0-9]{4}-(0[1-9]|1[0-2])$",
    "mac": "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$",
    "phone": r"^\+?[0-9][0-9 ()-]{2,18}[0-9]$",
}
_SYNONYMS = {
    "url": "uri",
    "iri": "uri",
    "iri-reference": "uri-reference",
    "idn-email": "email",
    "idn-hostname": "hostname",
    "datetime": "date-time",
    "host-name": "hostname",
    "ip-address": "ipv4",
    "guid": "uuid",
    "uuid4": "uuid",
    "base64": "byte",
    "binary": "byte",
}
_LOOK_AHEAD = re.compile(r"\^\(\?([=!])((?:[^()\\[\]]|\\.|\[(?:[^\]\\]|\\.)*\])*)\)")
_WORDS = re.compile(r"(?:[\w \-:/@|]|\\[.\-/])+", re.ASCII)
KNOWN_FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
) | {"unknown"}


def modernized(schema: Any) -> Any:
    """The same schema in the words of draft 2020-12."""
    made = _everywhere(schema, _modernize)
    if isinstance(made, dict):
        made.pop("$schema", None)
    return made


def narrowed(schema: Any) -> Any:
    """A schema that allows nothing but what ``schema`` does, in words that the library knows."""
    return _everywhere(schema, lambda node: _narrow(node, schema))


def _everywhere(schema: Any, change: Callable[[Schema], Any]) -> Any:
    """The schema with every schema in it changed, the innermost first."""
    if not isinstance(schema, Mapping):
        return schema
    made: Schema = {}
    for key, value in schema.items():
        if isinstance(value, list) and (key in MANY or key == "items"):
            made[key] = [_everywhere(item, change) for item in value]
        elif key in ONE:
            made[key] = _everywhere(value, change)
        elif key in NAMED and isinstance(value, Mapping):
            made[key] = {
                name: item if isinstance(item, list) else _everywhere(item, change)
                for name, item in value.items()
            }
        else:
            made[key] = value
    return change(made)


# ------------------------------------------------------------------------------------ older words


def _modernize(node: Schema) -> Schema:
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(node.get(exclusive), bool):  # draft 4
            is_exclusive = node.pop(exclusive)
            if is_exclusive and limit in node:
                node[exclusive] = node.pop(limit)
    if isinstance(node.get("items"), list):  # up to draft 2019-09
        rest = node.pop("additionalItems", True)
        node = {("prefixItems" if key == "items" else key): node[key] for key in node}
        if rest is not True:
            node["items"] = rest
        if not node["prefixItems"]:
            del node["prefixItems"]
    node.pop("additionalItems", None)
    for old, new in (
        ("$recursiveRef", "$ref"),
        ("$dynamicRef", "$ref"),
        ("$dynamicAnchor", "$anchor"),
    ):
        if old in node and new not in node:  # the same where there is but one document
            node[new] = node.pop(old)
    if isinstance(node.get("required"), bool):  # draft 3
        del node["required"]
    if node.pop("nullable", False) is True and "type" in node:  # OpenAPI 3.0
        kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
        node["type"] = [*kinds, *(["null"] if "null" not in kinds else [])]
        if "enum" in node and None not in node["enum"]:
            node["enum"] = [*node["enum"], None]
    if node.get("format") in _RANGES and {"integer", "number"} & kinds_of(node.get("type", [])):
        low, high = _RANGES[node.pop("format")]
        _add(node, {"minimum": low, "maximum": high})
    for name, needed in node.pop("dependencies", {}).items():
        key = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
        node.setdefault(key, {})[name] = needed
    return node


# ------------------------------------------------------------------------------------- narrowing


def _narrow(node: Schema, root: Any) -> Any:
    for rule in _RULES:
        rule(node, root)
    return node


def _add(node: Schema, *schemas: Any) -> None:
    """What else must hold."""
    node["allOf"] = [*node.get("allOf", []), *schemas]


def _format(node: Schema, _: Any) -> None:
    name = node.get("format")
    if not isinstance(name, str) or name in KNOWN_FORMATS:
        return
    name = _SYNONYMS.get(name, name)
    if name in KNOWN_FORMATS:
        node["format"] = name
    elif name in _PATTERNS:
        del node["format"]
        if "pattern" in node:
            _add(node, {"pattern": _PATTERNS[name]})
        else:
            node["pattern"] = _PATTERNS[name]


def _look_aheads(node: Schema, _: Any) -> None:
    """Look-aheads at the beginning are patterns of their own; negative ones where they are words."""
    pattern = node.get("pattern", "")
    parts = []
    while found := _LOOK_AHEAD.match(pattern):
        is_negative, inner = found[1] == "!", found[2]
        if not is_negative:
            parts.append("^" + inner)
        elif _WORDS.fullmatch(inner):
            words = [re.sub(r"\\(.)", r"\1", word) for word in inner.split("|")]
            parts.append(f"^{other_beginnings(words)}$")
        else:
            return
        pattern = "^" + pattern[found.end() :]
    if parts:
        node["pattern"] = pattern
        _add(node, *({"pattern": part} for part in parts))


def _unique(node: Schema, root: Any) -> None:
    """Lists of a few values: all that have no value twice, where these are not too many."""
    if node.get("uniqueItems") is not True:
        node.pop("uniqueItems", None)
        return
    most = node.get("maxItems")
    values = _values(node.get("items"), root)
    if most is not None and most <= 1:
        del node["uniqueItems"]
        return
    if values is None or "prefixItems" in node or "contains" in node:
        return
    longest = len(values) if most is None else min(int(most), len(values))
    sizes = range(int(node.get("minItems", 0)), longest + 1)
    for choose in (permutations, combinations):  # in any order, else in that of the schema
        lists: list[list[Any]] = []
        for size in sizes:
            for chosen in choose(values, size):
                lists.append(list(chosen))
                if len(lists) > _MOST_LISTS:
                    break
        if 0 < len(lists) <= _MOST_LISTS:
            for key in ("uniqueItems", "items", "minItems", "maxItems"):
                node.pop(key, None)
            others = sorted(kinds_of(node.get("type", [])) - {"array"})
            if others or "enum" in node:
                _add(node, {"anyOf": [{"enum": lists}, *({"type": kind} for kind in others)]})
            else:
                node.pop("type", None)
                node["enum"] = lists
            return


def _values(items: Any, root: Any) -> list[Any] | None:
    """The values that items can have, if they are listed."""
    if isinstance(items, Mapping) and set(items) <= {"$ref", "description", "title"}:
        items = resolve(root, items.get("$ref", ""))
    if not isinstance(items, Mapping):
        return None
    if items.get("type") == "boolean":
        return [True, False]
    values = [items["const"]] if "const" in items else items.get("enum")
    if not isinstance(values, list) or len(values) > 12:
        return None
    if not all(isinstance(value, str | int | None) for value in values):
        return None
    kinds = kinds_of(items.get("type", []))
    names = {str: "string", bool: "boolean", int: "integer", type(None): "null"}
    return [
        value
        for value in values
        if not kinds or names[type(value)] in kinds or (type(value) is int and "number" in kinds)
    ]


def _contains(node: Schema, root: Any) -> None:
    """The items that have to match come first; if only so many may, the others must not."""
    wanted = node.get("contains")
    if wanted is None:
        for key in ("minContains", "maxContains"):
            node.pop(key, None)
        return
    n, most = node.get("minContains", 1), node.get("maxContains")
    if "prefixItems" in node or n > _MOST_COPIES:
        return
    items = node.get("items", True)
    if most is not None:
        opposite = negated(wanted, items if isinstance(items, Mapping) else {}, root)
        if opposite is None or opposite is True or n > most:
            return
        node["items"] = opposite if items is True else {"allOf": [items, opposite]}
        if opposite is False:
            node["items"] = False
    for key in ("contains", "minContains", "maxContains"):
        node.pop(key, None)
    if n:
        matching = {"allOf": [items, wanted]} if items is not True else wanted
        node["prefixItems"] = [matching] * int(n)
        node["minItems"] = max(node.get("minItems", 0), int(n))


def _property_names(node: Schema, root: Any) -> None:
    """Names that are declared and match, and others by pattern."""
    names = node.get("propertyNames")
    if isinstance(names, Mapping) and set(names) == {"$ref"}:
        names = resolve(root, names["$ref"])
    if names is True or names == {} or names == {"type": "string"}:
        node.pop("propertyNames", None)
        return
    if not isinstance(names, Mapping) or "patternProperties" in node:
        return
    known: Mapping[str, Any] = node.get("properties", {})
    others = node.get("additionalProperties", True)
    rules = {key: value for key, value in names.items() if key not in ("type", "description")}
    if set(rules) == {"pattern"}:
        pattern = rules["pattern"]
        if any(not re.search(pattern, name) for name in known):
            return
    elif set(rules) <= {"minLength", "maxLength"} and rules:
        low, high = rules.get("minLength", 0), rules.get("maxLength", "")
        pattern = f"^(?s:.){{{low},{high}}}$"
        if any(not re.search(pattern.replace("(?s:.)", r"[\s\S]"), name) for name in known):
            return
    elif set(rules) in ({"enum"}, {"const"}):
        allowed = rules.get("enum", [rules.get("const")])
        del node["propertyNames"]
        node["properties"] = {
            **{name: schema for name, schema in known.items() if name in allowed},
            **{name: others for name in allowed if name not in known and isinstance(name, str)},
        }
        node["additionalProperties"] = False
        return
    else:
        return
    del node["propertyNames"]
    if others is not False:
        node["patternProperties"] = {pattern: others}
    node["additionalProperties"] = False


def _dependents(node: Schema, _: Any) -> None:
    """A property is not there, or what depends on it holds."""
    required = set(node.get("required", []))
    for name, needed in node.pop("dependentRequired", {}).items():
        if name in required:
            node["required"] = [*node["required"], *(n for n in needed if n not in required)]
        else:
            both = {"required": [name, *(n for n in needed if n != name)]}
            _add(node, {"anyOf": [{"properties": {name: False}}, both]})
    for name, schema in node.pop("dependentSchemas", {}).items():
        if name in required:
            _add(node, schema)
        else:
            both = {"allOf": [{"required": [name]}, schema]}
            _add(node, {"anyOf": [{"properties": {name: False}}, both]})


def _one_of(node: Schema, root: Any) -> None:
    """Each branch without what the others allow, where that can be said."""
    branches = node.get("oneOf", [])
    if not 1 < len(branches) <= _MOST_BRANCHES:
        return
    beside = {key: value for key, value in node.items() if key != "oneOf"}
    made = []
    for i, branch in enumerate(branches):
        if not isinstance(branch, Mapping):
            return
        itself: Any = resolve(root, branch["$ref"]) if set(branch) == {"$ref"} else branch
        context = {**beside, **(itself if isinstance(itself, Mapping) else {})}
        opposites = [negated(b, context, root) for j, b in enumerate(branches) if j != i]
        if None in opposites:
            return
        if False not in opposites:
            made.append({"allOf": [branch, *(o for o in opposites if o is not True)]})
    if made:
        del node["oneOf"]
        _add(node, {"anyOf": made})


def _not(node: Schema, root: Any) -> None:
    if "not" not in node:
        return
    rest = {key: value for key, value in node.items() if key != "not"}
    made = excluding(rest, node["not"], root)
    if made is not None:
        node.clear()
        node.update(made)


def _conditions(node: Schema, root: Any) -> None:
    """Either the condition and its consequence hold, or its opposite and the other."""
    condition = node.get("if")
    if condition is None or not ("then" in node or "else" in node):
        for key in ("if", "then", "else"):
            node.pop(key, None)
        return
    then, otherwise = node.get("then", True), node.get("else", True)
    rest = {key: value for key, value in node.items() if key not in ("if", "then", "else")}
    opposite = negated(condition, rest, root)
    if opposite is None:
        return
    branches = []
    if then is not False:
        branches.append({"allOf": [condition, then]} if then is not True else condition)
    if otherwise is not False and opposite is not False:
        branches.append({"allOf": [opposite, otherwise]} if otherwise is not True else opposite)
    if branches:
        for key in ("if", "then", "else"):
            node.pop(key, None)
        _add(node, {"anyOf": branches})


def _unevaluated(node: Schema, root: Any) -> None:
    """Where no other schema evaluates, or only some that always hold, these are the additional ones."""
    if "unevaluatedItems" in node and not _applied(node):
        rest = node.pop("unevaluatedItems")
        node.setdefault("items", rest)
    closing = node.get("unevaluatedProperties")
    if closing is None:
        return
    if closing is True or "additionalProperties" in node:
        del node["unevaluatedProperties"]
        return
    if not _applied(node):
        node["additionalProperties"] = node.pop("unevaluatedProperties")
        return
    if any(key in node for key in ("oneOf", "if", "not", "dependentSchemas", "patternProperties")):
        return
    names = _names(node, root)
    branches = node.get("anyOf")
    own = [_names(branch, root) for branch in branches or []]
    if names is None or any(found is None for found in own):
        return
    node.pop("unevaluatedProperties")
    if branches is None:
        node["properties"] = {**dict.fromkeys(names, True), **node.get("properties", {})}
        node["additionalProperties"] = closing
        return
    node["anyOf"] = [
        {
            "allOf": [
                branch,
                {
                    "properties": dict.fromkeys([*names, *(found or ())], True),
                    "additionalProperties": closing,
                },
            ]
        }
        for branch, found in zip(branches, own, strict=True)
    ]


def _applied(node: Mapping[str, Any]) -> bool:
    return any(key in node for key in ("allOf", "anyOf", "oneOf", "if", "$ref", "dependentSchemas"))


def _names(node: Any, root: Any, depth: int = 0) -> list[str] | None:
    """The properties that a schema evaluates whatever the value; None where that is not sure."""
    if not isinstance(node, Mapping) or depth > 8:
        return None if isinstance(node, Mapping) else []
    if depth and any(key in node for key in ("anyOf", "oneOf", "if", "patternProperties")):
        return None
    found = list(node.get("properties", {}))
    inner = [*node.get("allOf", [])]
    if "$ref" in node:
        inner.append(resolve(root, node["$ref"]))
    for schema in inner:
        names = _names(schema, root, depth + 1)
        if names is None:
            return None
        found += names
    return list(dict.fromkeys(found))


def _counts(node: Schema, _: Any) -> None:
    """A count of properties is reached by those that are declared, in order."""
    low, high = node.get("minProperties", 0), node.get("maxProperties")
    known: Mapping[str, Any] = node.get("properties", {})
    required = node.get("required", [])
    if not known or len(required) >= len(known) or not (low > 1 or high is not None):
        return
    optional = [name for name in known if name not in required and known[name] is not False]
    if high is not None:
        kept = optional[: max(0, int(high) - len(required))]
        for name in optional[len(kept) :]:
            node["properties"] = {**node["properties"], name: False}
        node["additionalProperties"] = False
        node.pop("patternProperties", None)
        del node["maxProperties"]
        optional = kept
    missing = int(low) - len(required)
    if missing > len(optional):
        return
    node["required"] = [*required, *optional[: max(0, missing)]]
    node.pop("minProperties", None)


_RULES: tuple[Callable[[Schema, Any], None], ...] = (
    _format,
    _look_aheads,
    _not,
    _one_of,
    _conditions,
    _contains,
    _unique,
    _property_names,
    _dependents,
    _unevaluated,
    _counts,
)
