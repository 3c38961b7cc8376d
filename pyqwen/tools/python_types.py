"""Python types to JSON schemas, and the values that a model wrote back into these types.

Knows the types by which functions and classes are annotated; of pydantic's it asks pydantic. Knows nothing
of tools.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import datetime
import decimal
import enum
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from inspect import cleandoc, getdoc
from typing import Any

Schema = dict[str, Any]

_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
# Types that are written as text, with the format that JSON schemas have for them.
_TEXTS: dict[type, tuple[str | None, Callable[[str], Any]]] = {
    datetime.datetime: ("date-time", datetime.datetime.fromisoformat),
    datetime.date: ("date", datetime.date.fromisoformat),
    datetime.time: ("time", datetime.time.fromisoformat),
    uuid.UUID: ("uuid", uuid.UUID),
    decimal.Decimal: (None, decimal.Decimal),
    pathlib.Path: (None, pathlib.Path),
    pathlib.PurePath: (None, pathlib.PurePath),
}
_LISTS = (list, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence)
_SETS = (set, frozenset, abc.Set, abc.MutableSet)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_MAX_DEPTH = 64


class ArgumentError(ValueError):
    """A value does not fit its type; the message names its place."""


class Schemas:
    """Makes the schemas of the types of one function. ``definitions`` are those that refer to themselves."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._open: list[type] = []
        self._recursive: dict[type, str] = {}

    def of(self, kind: Any, where: str) -> Schema:
        """The schema of a type; ``TypeError`` names ``where`` a type stands that has none."""
        if kind is Any or kind is object:
            return {}
        if kind in _JSON:
            return {"type": _JSON[kind]}
        if kind is None:
            return {"type": "null"}
        if isinstance(kind, type) and kind in _TEXTS:
            form = _TEXTS[kind][0]
            return {"type": "string", "format": form} if form else {"type": "string"}
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return _choice([_written(member) for member in kind])
        if _is_pydantic(kind):
            return self._hoisted(_adapter(kind).json_schema())
        if _is_class_with_fields(kind):
            return self._class(kind, where)
        return self._generic(kind, typing.get_origin(kind), typing.get_args(kind), where)

    def _generic(self, kind: Any, origin: Any, args: tuple[Any, ...], where: str) -> Schema:
        if origin is typing.Annotated:
            text = next((note for note in args[1:] if isinstance(note, str)), None)
            return self.of(args[0], where) | ({"description": text} if text else {})
        if origin in (typing.Required, typing.NotRequired, typing.Final):
            return self.of(args[0], where)
        if origin is typing.Literal:
            return _choice([_written(value) for value in args])
        if origin in (typing.Union, types.UnionType):
            return self._union(args, where)
        if isinstance(kind, typing.NewType):
            return self.of(kind.__supertype__, where)
        container = origin or kind
        if container in _LISTS or container in _SETS:
            unique = {"uniqueItems": True} if container in _SETS else {}
            return {"type": "array", "items": self.of(args[0], where) if args else {}} | unique
        if container in _MAPPINGS:
            values = self.of(args[1], where) if len(args) == 2 else {}
            return {"type": "object"} | ({"additionalProperties": values} if values else {})
        if container is tuple:
            if len(args) == 2 and args[1] is ...:
                return {"type": "array", "items": self.of(args[0], where)}
            size = {"minItems": len(args), "maxItems": len(args)} if args else {}
            parts = {"prefixItems": [self.of(part, where) for part in args]} if args else {}
            return {"type": "array"} | parts | size
        raise TypeError(
            f"{where} is annotated with {kind!r}, which has no JSON schema: use types such as str, int, "
            "float, bool, list, dict, Literal, Enum, a dataclass or a TypedDict, or give the tool as a dict"
        )

    def _union(self, args: tuple[Any, ...], where: str) -> Schema:
        schemas = [self.of(part, where) for part in args]
        names = [schema.get("type") for schema in schemas]
        if all(set(schema) == {"type"} for schema in schemas):
            return {"type": names}
        return {"anyOf": schemas}

    def _class(self, kind: type, where: str) -> Schema:
        if kind in self._open:
            name = self._recursive.setdefault(kind, self._new_name(kind.__name__))
            return {"$ref": f"#/$defs/{name}"}
        if len(self._open) >= _MAX_DEPTH:
            raise TypeError(f"{where} is nested more than {_MAX_DEPTH} levels deep")
        self._open.append(kind)
        try:
            properties, required = {}, []
            texts = _field_texts(kind)
            for name, (part, needed, default) in fields_of(kind).items():
                schema = self.of(part, f"{kind.__name__}.{name}")
                properties[name] = described(schema, texts.get(name), default)
                if needed:
                    required.append(name)
        finally:
            self._open.pop()
        schema = {"type": "object", "properties": properties, "required": required}
        if kind not in self._recursive:
            return schema
        self.definitions[self._recursive[kind]] = schema
        return {"$ref": f"#/$defs/{self._recursive[kind]}"}

    def _new_name(self, name: str) -> str:
        taken = {*self.definitions, *self._recursive.values()}
        return next(n for n in (name, *(f"{name}{i}" for i in range(2, 999))) if n not in taken)

    def _hoisted(self, schema: Schema) -> Schema:
        """A schema of pydantic, whose definitions become ours."""
        definitions = schema.pop("$defs", {})
        renamed = {}
        for name in definitions:
            renamed[f"#/$defs/{name}"] = f"#/$defs/{self._new_name(name)}"
            self.definitions[renamed[f"#/$defs/{name}"].removeprefix("#/$defs/")] = {}

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {
                    key: renamed.get(item, item) if key == "$ref" else moved(item)
                    for key, item in value.items()
                }
            return [moved(item) for item in value] if isinstance(value, list) else value

        for name, definition in definitions.items():
            new = renamed[f"#/$defs/{name}"].removeprefix("#/$defs/")
            self.definitions[new] = moved(definition)
        return typing.cast(Schema, moved(schema))


NO_DEFAULT: Any = object()


def described(schema: Schema, text: str | None, default: Any = NO_DEFAULT) -> Schema:
    """A schema with a description, and with a default if that can be written in JSON."""
    if text:
        schema = schema | {"description": " ".join(text.split())}
    if default is not NO_DEFAULT and default is not None:
        plain = default.value if isinstance(default, enum.Enum) else default
        if isinstance(plain, str | int | float | bool) or plain in ([], {}):
            schema = schema | {"default": plain}
    return schema


def converted(value: Any, kind: Any, where: str) -> Any:
    """A value of JSON as the type that a function expects; ``ArgumentError`` where it cannot be.

    Slips of small models are put right: a number in quotes, 5.0 for an integer, a number for a text.
    """
    strict = _Converter(lenient=False)
    try:
        return strict.convert(value, kind, where)
    except ArgumentError:
        return _Converter(lenient=True).convert(value, kind, where)


class _Converter:
    def __init__(self, *, lenient: bool) -> None:
        self._lenient = lenient

    def convert(self, value: Any, kind: Any, where: str) -> Any:
        if kind is Any or kind is object:
            return value
        if kind is None or kind in _JSON:
            return self._scalar(value, type(None) if kind is None else kind, where)
        if isinstance(kind, type) and kind in _TEXTS:
            return _parsed(value, kind, where)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return self._member(value, {_written(m): m for m in kind}, where)
        if _is_pydantic(kind):
            return _validated(value, kind, where)
        if _is_class_with_fields(kind):
            return self._instance(value, kind, where)
        return self._generic(value, kind, typing.get_origin(kind), typing.get_args(kind), where)

    def _scalar(self, value: Any, kind: type, where: str) -> Any:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        if self._lenient:
            try:
                if (
                    kind is int
                    and type(value) in (float, str)
                    and float(value) == int(float(value))
                ):
                    return int(value)
                if kind is float and isinstance(value, str):
                    return float(value)
            except (ValueError, OverflowError):
                pass
            if kind is bool and value in ("true", "True", "false", "False"):
                return value in ("true", "True")
            if kind is str and type(value) in (int, float):
                return str(value)
            if kind is type(None) and value in ("null", "None", ""):
                return None
        raise ArgumentError(f"{where} must be {_JSON[kind]}, not {_brief(value)}")

    def _member(self, value: Any, members: Mapping[Any, Any], where: str) -> Any:
        for written, member in members.items():
            if type(value) is type(written) and value == written:
                return member
        if self._lenient and isinstance(value, str | int | float):
            for written, member in members.items():
                if str(written).casefold() == str(value).casefold():
                    return member
        known = ", ".join(map(repr, members))
        raise ArgumentError(f"{where} must be one of {known}, not {_brief(value)}")

    def _instance(self, value: Any, kind: type, where: str) -> Any:
        if not isinstance(value, dict):
            raise ArgumentError(f"{where} must be an object, not {_brief(value)}")
        known = fields_of(kind)
        return kind(**self.named(value, known, where))

    def named(
        self, value: Mapping[str, Any], known: Mapping[str, tuple[Any, bool, Any]], where: str
    ) -> dict[str, Any]:
        unknown = ", ".join(name for name in value if name not in known)
        if unknown:
            raise ArgumentError(f"{where} has no {unknown}; it has {', '.join(known) or 'nothing'}")
        missing = ", ".join(n for n, (_, needed, _) in known.items() if needed and n not in value)
        if missing:
            raise ArgumentError(f"{where} lacks {missing}")
        return {
            name: self.convert(item, known[name][0], f"{where}.{name}")
            for name, item in value.items()
        }

    def _generic(
        self, value: Any, kind: Any, origin: Any, args: tuple[Any, ...], where: str
    ) -> Any:
        if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.Final):
            return self.convert(value, args[0], where)
        if isinstance(kind, typing.NewType):
            return self.convert(value, kind.__supertype__, where)
        if origin is typing.Literal:
            return self._member(value, {_written(choice): choice for choice in args}, where)
        if origin in (typing.Union, types.UnionType):
            return self._union(value, args, where)
        container = origin or kind
        if container in _MAPPINGS:
            if not isinstance(value, dict):
                raise ArgumentError(f"{where} must be an object, not {_brief(value)}")
            keys, values = args if len(args) == 2 else (str, Any)
            return {
                self.convert(name, keys, where): self.convert(item, values, f"{where}.{name}")
                for name, item in value.items()
            }
        if not isinstance(value, list):
            raise ArgumentError(f"{where} must be an array, not {_brief(value)}")
        if container is tuple and args and args[-1] is not ...:
            if len(value) != len(args):
                raise ArgumentError(f"{where} must have {len(args)} items, not {len(value)}")
            parts: Any = args
        else:
            parts = [args[0] if args else Any] * len(value)
        items = [
            self.convert(v, t, f"{where}[{i}]")
            for i, (v, t) in enumerate(zip(value, parts, strict=True))
        ]
        if container is tuple:
            return tuple(items)
        if container in _SETS:
            try:
                return frozenset(items) if container is frozenset else set(items)
            except TypeError:
                raise ArgumentError(f"{where} has items that no set can hold") from None
        return items

    def _union(self, value: Any, args: tuple[Any, ...], where: str) -> Any:
        problems = []
        for kind in args:
            try:
                return self.convert(value, kind, where)
            except ArgumentError as error:
                problems.append(str(error))
        raise ArgumentError("; or ".join(dict.fromkeys(problems)))


def fields_of(kind: type) -> dict[str, tuple[Any, bool, Any]]:
    """Of a dataclass, TypedDict or NamedTuple: type, whether needed, and default of each field."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if dataclasses.is_dataclass(kind):
        found = {}
        for field in dataclasses.fields(kind):
            if not field.init:
                continue
            needed = field.default is field.default_factory is dataclasses.MISSING
            default = NO_DEFAULT if field.default is dataclasses.MISSING else field.default
            found[field.name] = (hints[field.name], needed, default)
        return found
    if typing.is_typeddict(kind):
        required = kind.__required_keys__  # type: ignore[attr-defined]
        # Where annotations are strings, the keys do not know of NotRequired yet.
        marks = {name: typing.get_origin(hint) for name, hint in hints.items()}
        names = {n for n in required if marks[n] is not typing.NotRequired}
        names |= {name for name, mark in marks.items() if mark is typing.Required}
        return {name: (hint, name in names, NO_DEFAULT) for name, hint in hints.items()}
    defaults = kind._field_defaults  # type: ignore[attr-defined]
    return {
        name: (hints.get(name, Any), name not in defaults, defaults.get(name, NO_DEFAULT))
        for name in kind._fields  # type: ignore[attr-defined]
    }


def docstring_of(thing: Any) -> tuple[str, dict[str, str]]:
    """What a docstring in Google's, NumPy's or reST style says: of the thing, and of each parameter."""
    text = getdoc(thing) if not isinstance(thing, type) else thing.__dict__.get("__doc__")
    if not text or (isinstance(thing, type) and text.startswith(f"{thing.__name__}(")):
        return "", {}  # the second is what dataclasses write themselves
    import docstring_parser

    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return cleandoc(text), {}
    parts = (parsed.short_description, parsed.long_description)
    named = {p.arg_name.lstrip("*"): p.description or "" for p in parsed.params}
    return "\n\n".join(part for part in parts if part), named


def _field_texts(kind: type) -> dict[str, str]:
    return docstring_of(kind)[1]


def _is_class_with_fields(kind: Any) -> bool:
    if not isinstance(kind, type):
        return typing.is_typeddict(kind)
    is_named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return dataclasses.is_dataclass(kind) or typing.is_typeddict(kind) or is_named_tuple


def _is_pydantic(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")  # whoever has such a type has imported it
    if pydantic is None:
        return False
    if isinstance(kind, type):
        return issubclass(kind, pydantic.BaseModel)
    if typing.get_origin(kind) is typing.Annotated:
        notes = typing.get_args(kind)[1:]
        return any(
            type(note).__module__.split(".")[0] in ("pydantic", "annotated_types") for note in notes
        )
    return False


def _adapter(kind: Any) -> Any:
    return sys.modules["pydantic"].TypeAdapter(kind)


def _validated(value: Any, kind: Any, where: str) -> Any:
    try:
        return _adapter(kind).validate_python(value)
    except ValueError as error:  # pydantic's ValidationError is one
        raise ArgumentError(f"{where}: {error}") from None


def _parsed(value: Any, kind: type, where: str) -> Any:
    if isinstance(value, int | float) and kind is decimal.Decimal and not isinstance(value, bool):
        value = str(value)
    try:
        if isinstance(value, str):
            return _TEXTS[kind][1](value)
    except (ValueError, ArithmeticError):
        pass
    raise ArgumentError(f"{where} must be a {kind.__name__} as text, not {_brief(value)}")


def _written(value: Any) -> Any:
    """How a choice is written in JSON."""
    plain = value.value if isinstance(value, enum.Enum) else value
    if plain is None or isinstance(plain, str | int | float | bool):
        return plain
    return value.name if isinstance(value, enum.Enum) else str(plain)


def _choice(values: list[Any]) -> Schema:
    kinds = {_JSON[type(value)] for value in values if type(value) in _JSON}
    return ({"type": kinds.pop()} if len(kinds) == 1 else {}) | {"enum": values}


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
