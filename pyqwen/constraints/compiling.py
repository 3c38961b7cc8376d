"""From a constraint to a compiled grammar: in full if that can be, else with what is left to check later."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from pyqwen.constraints.constraint import Constraint, json_grammar
from pyqwen.constraints.llguidance import GrammarMatcher, GrammarRefused
from pyqwen.constraints.rewriting import KNOWN_FORMATS, modernized, narrowed
from pyqwen.constraints.schema import Node, Path, error, walk
from pyqwen.errors import ConstraintError

Compile = Callable[[str, str], GrammarMatcher]
"""``compile(kind, grammar)``; raises ``GrammarRefused``."""

# What may make the library refuse a schema, where it is not narrowed to other words.
_HARD = (
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "propertyNames",
    "unevaluatedProperties",
    "unevaluatedItems",
    "oneOf",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "pattern",
    "format",
    "multipleOf",
    "allOf",
    "anyOf",
    "$dynamicRef",
)
_IGNORED_WHEN_LENIENT = frozenset(_HARD) - {
    "allOf",
    "anyOf",
    "oneOf",
    "patternProperties",
    "pattern",
}
_SEARCH_SECONDS = 0.5  # for where a mistake is, or for what must be left out
_MOST_LEFT_OUT = 30  # keywords, each at one place


@dataclass(frozen=True)
class Compiled:
    """A matcher at the beginning of a text, and what it does not know of the schema."""

    matcher: GrammarMatcher
    unenforced: tuple[str, ...] = ()
    check: str | None = None
    """The schema by which finished answers have to be checked, a JSON text; None if they need not be."""


def compile_constraint(constraint: Constraint, build: Compile) -> Compiled:
    """Compile; ``ConstraintError`` says what is wrong, and for a schema where."""
    if constraint.kind != "json":
        try:
            return Compiled(build(constraint.kind, constraint.text))
        except GrammarRefused as refusal:
            raise ConstraintError(_explained(constraint.kind, str(refusal))) from None
    return _SchemaCompiler(constraint, build).compile()


def _explained(kind: str, reason: str) -> str:
    what = {"regex": "the regular expression", "lark": "the grammar"}[kind]
    return f"{what} cannot be used: {reason}"


class _SchemaCompiler:
    def __init__(self, constraint: Constraint, build: Compile) -> None:
        self._constraint = constraint
        self._build = build
        self._schema: Any = json.loads(constraint.text)
        self._stop = monotonic() + _SEARCH_SECONDS

    def compile(self) -> Compiled:
        schema = modernized(self._schema)
        try:
            return Compiled(self._try(schema))
        except GrammarRefused as error:
            refusal = error
        self._check = json.dumps(schema)
        smaller = narrowed(schema)
        while smaller is not None:
            narrowest = smaller
            try:
                return Compiled(self._try(narrowest), check=self._check)
            except GrammarRefused as error:
                refusal = error
            smaller = self._without_refused_branch(narrowest)
        if self._constraint.strict:
            raise self._error(schema, refusal)
        return self._compile_leniently(schema, narrowest, refusal)

    def _try(self, schema: Any, *, lenient: bool = False) -> GrammarMatcher:
        if isinstance(schema, bool):
            schema = {} if schema else {"not": {}}
        return self._build("json", json_grammar(schema, self._constraint.whitespace, lenient))

    def _compile_leniently(self, schema: Any, smaller: Any, refusal: GrammarRefused) -> Compiled:
        """Without what the library ignores, and if need be without keywords that it refuses."""
        left_out: set[str] = set()
        first = refusal
        for _ in range(_MOST_LEFT_OUT):
            try:
                matcher = self._try(smaller, lenient=True)
            except GrammarRefused as error:
                refusal = error
            else:
                return Compiled(matcher, self._unenforced(smaller, left_out), check=self._check)
            found = self._without_one_keyword(smaller)
            if found is None or monotonic() > self._stop:
                break
            smaller, keyword = found
            left_out.add(keyword)
        raise self._error(schema, first if "Unimplemented" not in str(first) else refusal)

    def _unenforced(self, schema: Any, left_out: set[str]) -> tuple[str, ...]:
        names = set(left_out)
        for _, node in walk(schema):
            if isinstance(node, Mapping):
                names |= {
                    key for key in node if key in _IGNORED_WHEN_LENIENT and _is_hard(node, key)
                }
        if self._coerces_one_of(schema):
            names.add("oneOf")
        return tuple(sorted(names))

    def _coerces_one_of(self, schema: Any) -> bool:
        """Whether there is a ``oneOf`` of which the library cannot tell that one branch excludes others."""
        for _, node in walk(schema):
            if isinstance(node, Mapping) and "oneOf" in node:
                try:
                    self._try({**_definitions(schema), "oneOf": node["oneOf"]})
                except GrammarRefused:
                    return True
        return False

    def _without_refused_branch(self, schema: Any) -> Any:
        """The schema without a branch of an ``anyOf`` that is refused by itself; None if there is none."""
        for path, node in walk(schema):
            branches = node.get("anyOf", []) if isinstance(node, Mapping) else []
            for i, branch in enumerate(branches) if len(branches) > 1 else ():
                if not isinstance(branch, Mapping) or monotonic() > self._stop:
                    continue
                try:
                    self._try({**_definitions(schema), **branch})
                except GrammarRefused as refusal:
                    if "$ref" not in str(refusal):
                        rest = {**node, "anyOf": branches[:i] + branches[i + 1 :]}
                        return _replaced(schema, path, rest)
        return None

    def _without_one_keyword(self, schema: Any) -> tuple[Any, str] | None:
        """The schema without a keyword of the smallest part that is refused by itself."""
        part = self._smallest_refused(schema, lenient=True)
        if part is None or not isinstance(part.schema, Mapping):
            return None
        for keyword in _HARD:
            if keyword not in part.schema or keyword in ("allOf", "anyOf", "oneOf"):
                continue  # without these little would be left
            rest = {key: value for key, value in part.schema.items() if key != keyword}
            try:
                self._try({**_definitions(schema), **rest}, lenient=True)
            except GrammarRefused:
                continue
            return _replaced(schema, part.path, rest), keyword
        return None

    def _smallest_refused(self, schema: Any, *, lenient: bool) -> Node | None:
        """The first of the innermost schemas that are refused each by itself."""
        for node in reversed(list(walk(schema))):
            if monotonic() > self._stop:
                break
            if not isinstance(node.schema, Mapping) or not node.schema:
                continue
            try:
                self._try({**_definitions(schema), **node.schema}, lenient=lenient)
            except GrammarRefused as refusal:
                if "$ref" not in str(refusal):  # of another part, which was left out here
                    return Node(node.path, node.schema)
        return None

    def _error(self, schema: Any, refusal: GrammarRefused) -> ConstraintError:
        part = self._smallest_refused(schema, lenient=False)
        path: Path = part.path if part is not None else ()
        if part is not None and isinstance(part.schema, Mapping):
            path += self._keyword_of(schema, part, str(refusal))
        return error(path, _readable(str(refusal)))

    def _keyword_of(self, schema: Any, part: Node, reason: str) -> Path:
        """The keyword of a refused schema that the library names, or without which it would be taken."""
        for keyword in _HARD:
            if keyword in part.schema and f'"{keyword}"' in reason:
                return (keyword,)
        for keyword in _HARD:
            if keyword in part.schema and monotonic() < self._stop:
                rest = {key: value for key, value in part.schema.items() if key != keyword}
                try:
                    self._try({**_definitions(schema), **rest})
                except GrammarRefused:
                    continue
                return (keyword,)
        return ()


def _is_hard(node: Mapping[str, Any], key: str) -> bool:
    """Whether the library ignores this keyword here."""
    if key == "format":
        return node[key] not in KNOWN_FORMATS
    if key in ("minProperties", "maxProperties"):
        return bool(node.get("properties"))
    return key not in ("multipleOf", "then", "else") or "if" in node


def _definitions(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    return {key: schema[key] for key in ("$schema", "$defs", "definitions") if key in schema}


def _replaced(schema: Any, path: Path, part: Any) -> Any:
    """The schema with another part at a place."""
    if not path:
        return part
    key, rest = path[0], path[1:]
    if isinstance(schema, list):
        return [_replaced(item, rest, part) if i == key else item for i, item in enumerate(schema)]
    return {k: _replaced(value, rest, part) if k == key else value for k, value in schema.items()}


def _readable(reason: str) -> str:
    """The library's words, and what to do."""
    if "Unimplemented keys" in reason:
        return f"{reason}; strict schemas cannot use these keywords"
    if "too large" in reason or "too big" in reason or "too complex" in reason.lower():
        return f"it is too large to be compiled ({reason}); make it smaller or simpler"
    if "NoExtension" in reason:
        return "no answer can follow it: what must be there refers to itself, or excludes itself"
    return reason
