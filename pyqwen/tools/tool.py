"""A tool: what a model is told of it, and how its function is called with what the model wrote.

Owns the forms in which callers give tools. Types and docstrings are the matter of ``python_types``.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyqwen.tools.python_types import (
    NO_DEFAULT,
    ArgumentError,
    Schemas,
    converted,
    described,
    docstring_of,
)

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_BY_POSITION = inspect.Parameter.POSITIONAL_ONLY
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Tool:
    """One tool that is offered. ``function`` is None for those that callers answer themselves."""

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., Any] | None = None
    strict: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        """OpenAI's description of it, which templates write into the prompt."""
        function: dict[str, Any] = {"name": self.name}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": {**function, "parameters": self.parameters}}

    def call(self, arguments: Mapping[str, Any]) -> Any:
        """Call the function with arguments as a model wrote them; of an async one, return the coroutine.

        ``ArgumentError`` where they do not fit its parameters; what the function raises goes through.
        """
        assert self.function is not None, "there is no function to call"
        positional, named = _bound(self.function, arguments)
        return self.function(*positional, **named)


def read_tools(tools: Any) -> list[Tool]:
    """The tools that a caller gave, with their names checked; ``TypeError`` or ``ValueError`` says which."""
    if tools is None:
        return []
    if isinstance(tools, str | bytes | Mapping) or not isinstance(tools, Sequence):
        raise TypeError(f"tools must be a list of functions and dicts, not {type(tools).__name__}")
    read = [read_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    names = [tool.name for tool in read]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two tools have the name {name!r}")
    return read


def read_tool(tool: Any, where: str = "the tool") -> Tool:
    """A function or OpenAI's dict as a tool."""
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, Mapping):
        return _from_dict(tool, where)
    if not callable(tool) or isinstance(tool, type):
        kind = tool.__name__ if isinstance(tool, type) else type(tool).__name__
        raise TypeError(f"{where} must be a function or a dict, not {kind}")
    return _from_function(tool, where)


def _from_dict(tool: Mapping[str, Any], where: str) -> Tool:
    if tool.get("type", "function") != "function":
        raise ValueError(f"{where} has the type {tool['type']!r}; only 'function' is known")
    inner = tool.get("function", tool)
    if not isinstance(inner, Mapping):
        raise TypeError(f"{where}.function must be a dict, not {type(inner).__name__}")
    name, description = inner.get("name"), inner.get("description") or ""
    parameters = inner.get("parameters")
    if not isinstance(description, str):
        raise TypeError(f"{where}: the description must be text, not {type(description).__name__}")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise TypeError(
            f"{where}: parameters must be a JSON schema, not {type(parameters).__name__}"
        )
    plain = _plain(parameters, f"{where}.parameters")
    return Tool(_checked_name(name, where), description, plain, None, inner.get("strict") is True)


def _plain(schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A copy that shares nothing with the caller's; ``TypeError`` where it is not JSON."""
    try:
        text = json.dumps(schema, allow_nan=False, default=_mapping)
    except (ValueError, TypeError, RecursionError) as error:
        raise TypeError(f"{where} must be JSON: {error}") from None
    return typing.cast("dict[str, Any]", json.loads(text))


def _mapping(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _checked_name(name: Any, where: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{where} has the name {name!r:.80}; names have 1 to 64 letters, digits, '_', '-' and '.'"
        )
    return name


def _from_function(function: Callable[..., Any], where: str) -> Tool:
    name = _checked_name(_name_of(function), where)
    schemas = Schemas()
    documented = function if inspect.isroutine(function) else _target(function)
    text, of_parameters = docstring_of(documented)
    properties: dict[str, Any] = {}
    required = []
    more: Any = False
    for parameter, kind in _parameters(function, where):
        at = f"the parameter {parameter.name!r} of {name}"
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError(
                f"{where}: {name} takes *{parameter.name}, which JSON arguments cannot give"
            )
        schema = schemas.of(kind, at)
        if parameter.kind is parameter.VAR_KEYWORD:
            more = schema or True
            continue
        default = NO_DEFAULT if parameter.default is parameter.empty else parameter.default
        properties[parameter.name] = described(schema, of_parameters.get(parameter.name), default)
        if default is NO_DEFAULT:
            required.append(parameter.name)
    parameters: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if more:
        parameters["additionalProperties"] = more
    if schemas.definitions:
        parameters["$defs"] = schemas.definitions
    return Tool(name, text, parameters, function)


def _name_of(function: Any) -> Any:
    target = _target(function)
    name = getattr(target, "__name__", None) or type(target).__name__
    return None if name == "<lambda>" else name


def _target(function: Any) -> Any:
    """The function inside a functools.partial."""
    while hasattr(function, "func") and hasattr(function, "keywords"):
        function = function.func
    return function


def _parameters(function: Callable[..., Any], where: str) -> list[tuple[inspect.Parameter, Any]]:
    """The parameters with their types; those without an annotation may be anything."""
    target = _target(function)
    if not inspect.isroutine(target):
        target = type(target).__call__
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(inspect.unwrap(target), include_extras=True)
    except (ValueError, TypeError, NameError, AttributeError) as error:
        raise TypeError(f"{where}: the signature cannot be read: {error}") from None
    return [(p, hints.get(p.name, Any)) for p in signature.parameters.values()]


def _bound(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments converted to the types of the parameters: by position, and by name."""
    left = dict(arguments)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    parameters = _parameters(function, "the tool")
    for parameter, kind in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= {name: converted(value, kind, name) for name, value in left.items()}
            left = {}
        elif parameter.name in left:
            value = converted(left.pop(parameter.name), kind, parameter.name)
            if parameter.kind is _BY_POSITION:
                positional.append(value)
            else:
                named[parameter.name] = value
        elif parameter.default is parameter.empty:
            raise ArgumentError(f"the argument {parameter.name!r} is missing")
        elif parameter.kind is _BY_POSITION:
            positional.append(parameter.default)
    if left:
        known = ", ".join(parameter.name for parameter, _ in parameters) or "none"
        raise ArgumentError(f"there is no parameter {next(iter(left))!r}; there are: {known}")
    return positional, named
