"""Schemas that the grammar takes only in other words, or not at all, and what is left to be checked."""

from __future__ import annotations

from typing import Any

SHORT = {"type": "string", "maxLength": 4}
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
BOOL = {"type": "boolean"}

# Whatever the grammar lets through is valid.
ENFORCED: dict[str, Any] = {
    "true": True,
    "const": {"const": {"a": [1, None, "<|im_end|>"]}},
    "mixed values": {"enum": [1, "a", None, True, {"x": [1, 2]}, [1]]},
    "not required": {"properties": {"a": SHORT}, "type": "object", "not": {"required": ["b"]}}
    | {"additionalProperties": False},
    "not const": {**SHORT, "not": {"const": "a"}},
    "not enum": {"enum": ["a", "b", "c"], "not": {"enum": ["a", "b"]}},
    "not type": {"not": {"type": ["object", "array", "string"]}},
    "not integers": {**DIGIT, "not": {"enum": [3, 4, 7]}},
    "not any": {**DIGIT, "not": {"anyOf": [{"minimum": 8}, {"maximum": 3}]}},
    "conditional": {
        "type": "object",
        "properties": {"country": {"enum": ["US", "DE", "FR"]}, "zip": SHORT},
        "required": ["country", "zip"],
        "additionalProperties": False,
        "if": {"properties": {"country": {"const": "US"}}, "required": ["country"]},
        "then": {"properties": {"zip": {"pattern": "^[0-9]{4}$"}}},
        "else": {"properties": {"zip": {"pattern": "^[A-Z]{3}$"}}},
    },
    "conditional, any text": {
        "type": "object",
        "properties": {"kind": SHORT, "x": DIGIT},
        "required": ["kind"],
        "additionalProperties": False,
        "if": {"properties": {"kind": {"const": "x"}}},
        "then": {"required": ["x"]},
    },
    "unique": {
        "type": "array",
        "items": {"enum": ["a", "b", "c"]},
        "uniqueItems": True,
        "minItems": 2,
    },
    "unique, many": {"type": "array", "items": {"enum": list("abcdefgh")}, "uniqueItems": True},
    "unique, by reference": {
        "$defs": {"color": {"type": "string", "enum": ["red", "green"]}},
        "type": ["array", "null"],
        "items": {"$ref": "#/$defs/color"},
        "uniqueItems": True,
    },
    "contains": {"type": "array", "items": DIGIT, "contains": {"const": 5}, "maxItems": 4},
    "contains twice": {
        "type": "array",
        "items": DIGIT,
        "contains": {"minimum": 5},
        "minContains": 2,
        "maxItems": 4,
    },
    "contains at most": {
        "type": "array",
        "items": BOOL,
        "contains": {"const": True},
        "maxContains": 1,
        "maxItems": 3,
    },
    "int64": {"type": "integer", "format": "int64"},
    "names by pattern": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-c]{2}$"},
        "additionalProperties": BOOL,
        "maxProperties": 3,
    },
    "names listed": {
        "type": "object",
        "propertyNames": {"enum": ["x", "y"]},
        "additionalProperties": BOOL,
    },
    "dependent required": {
        "type": "object",
        "properties": {"card": DIGIT, "billing": SHORT},
        "dependentRequired": {"card": ["billing"]},
        "additionalProperties": False,
    },
    "dependent schemas": {
        "type": "object",
        "properties": {"card": DIGIT, "billing": SHORT},
        "dependentSchemas": {"card": {"required": ["billing"]}},
        "additionalProperties": False,
    },
    "dependencies": {
        "type": "object",
        "properties": {"a": DIGIT, "b": BOOL},
        "dependencies": {"a": ["b"]},
        "additionalProperties": False,
    },
    "unevaluated": {
        "type": "object",
        "allOf": [{"properties": {"a": SHORT}, "required": ["a"]}],
        "properties": {"b": BOOL},
        "unevaluatedProperties": False,
    },
    "unevaluated, of branches": {
        "type": "object",
        "anyOf": [
            {"properties": {"a": SHORT}, "required": ["a"]},
            {"properties": {"c": {"type": "null"}}, "required": ["c"]},
        ],
        "properties": {"b": BOOL},
        "unevaluatedProperties": False,
    },
    "unevaluated items": {"type": "array", "prefixItems": [BOOL], "unevaluatedItems": False},
    "one of two properties": {
        "type": "object",
        "properties": {"a": BOOL, "b": BOOL},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "additionalProperties": False,
    },
    "one of two kinds": {
        "oneOf": [
            {"type": "object", "properties": {"t": {"const": "x"}, "v": DIGIT}, "required": ["t"]}
            | {"additionalProperties": False},
            {"type": "object", "properties": {"t": {"const": "y"}, "w": BOOL}, "required": ["t"]}
            | {"additionalProperties": False},
        ]
    },
    "one of two ranges": {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": 10},
            {"type": "integer", "minimum": 5, "maximum": 20},
        ]
    },
    "at least": {
        "type": "object",
        "properties": {"a": BOOL, "b": BOOL, "c": BOOL},
        "minProperties": 2,
        "additionalProperties": False,
    },
    "at most": {
        "type": "object",
        "properties": {"a": BOOL, "b": BOOL, "c": BOOL},
        "maxProperties": 2,
    },
    "int32": {"type": "integer", "format": "int32"},
    "pointer": {"type": "string", "format": "json-pointer", "maxLength": 12},
    "look-aheads": {"type": "string", "pattern": "^(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9]{4,8}$"},
    "not that beginning": {"type": "string", "pattern": "^(?!admin|root)[a-z]{4,8}$"},
    "draft 4": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 3},
    "tuple of draft 7": {
        "type": "array",
        "items": [BOOL, {"type": "null"}],
        "additionalItems": False,
        "minItems": 2,
    },
    "nullable": {**BOOL, "nullable": True},
    "dynamic": {
        "$dynamicAnchor": "node",
        "type": "object",
        "properties": {"v": BOOL, "k": {"$dynamicRef": "#node"}},
        "required": ["v"],
        "additionalProperties": False,
    },
    "anchor": {"$defs": {"a": {"$anchor": "foo", **BOOL}}, "$ref": "#foo"},
    "identified": {
        "$id": "http://example.com/root.json",
        "$defs": {"a": {"$id": "a.json", **BOOL}},
        "$ref": "a.json",
    },
    "decimal of pydantic": {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"},
        ]
    },
    "cents": {"type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 5},
}

# With the keywords that are checked when the answer is finished.
CHECKED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "unique texts": (
        {"type": "array", "items": {"enum": [f"{i}" for i in range(20)]}, "uniqueItems": True},
        ("uniqueItems",),
    ),
    "contains at most": (
        {"type": "array", "items": BOOL, "contains": {"pattern": "a"}, "maxContains": 1},
        ("contains", "maxContains"),
    ),
    "unknown format": ({**SHORT, "format": "social-security-number"}, ("format",)),
    "look-behind": ({"type": "string", "pattern": "^[a-z]{2}(?<!b)$"}, ("pattern",)),
    "not a pattern": ({**SHORT, "not": {"pattern": "a"}}, ("not",)),
}
