"""Messages of a conversation, brought into the one form that chat templates expect.

Owns the rules about roles, contents and tool calls that callers may write in several ways. Knows
nothing of templates or tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import index
from reprlib import repr as brief  # an object of a caller may be huge, or hold itself
from typing import Any

from pyqwen.errors import TemplateError

# OpenAI's newer name for "system"; templates do not know it and would drop such a message silently.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_MAX_DEPTH = 64

Messages = str | Sequence[Mapping[str, Any]]


def normalize_messages(messages: Messages) -> list[dict[str, Any]]:
    """A list of plain dicts with ``role`` and a ``content`` that is always a string.

    A string is one user message. "developer" becomes "system". Content None becomes "", content
    parts ``{"type": "text", "text": ...}`` are joined by newlines. Arguments of tool calls that are
    JSON text, as OpenAI's clients send them, are parsed. ``token_ids``, the tokens of an assistant's
    content, stay (``answer_tokens`` says what they must be); None counts as none. ``TemplateError``
    names the message that breaks a rule, ``TypeError`` the one that is of a wrong type.
    """
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence):
        raise TypeError(f"messages must be a string or a list, not {type(messages).__name__}")
    if not messages:
        raise TemplateError("messages is empty: give at least one message")
    return [_normalize(message, f"messages[{i}]") for i, message in enumerate(messages)]


def plain_copy(
    value: Any,
    where: str,
    text: Callable[[str], str] = str,
    key: Callable[[str], str] = str,
    _depth: int = _MAX_DEPTH,
) -> Any:
    """A deep copy of JSON-like data with every string passed through ``text``, keys through ``key``.

    Templates get nothing but such copies, so they can neither call nor change a caller's objects.
    """
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if _depth == 0:
        raise TemplateError(f"{where} is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        copy = {}
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{where} has the key {brief(name)}; keys must be strings")
            copy[key(name)] = plain_copy(item, f"{where}.{name}", text, key, _depth - 1)
        return copy
    if isinstance(value, list | tuple):
        return [
            plain_copy(item, f"{where}[{i}]", text, key, _depth - 1) for i, item in enumerate(value)
        ]
    raise TypeError(f"{where} is {type(value).__name__}; only JSON values can be rendered")


def _normalize(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise TypeError(f"{where} must be a dict, not {type(message).__name__}")
    normal = dict(message)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise TemplateError(f"{where} has the role {brief(role)}; known roles: {', '.join(_ROLES)}")
    normal["role"] = _ROLES[role]
    calls = normal.pop("tool_calls", None)
    if calls:
        if role != "assistant":
            raise TemplateError(f"{where} has tool_calls, but its role is {brief(role)}")
        normal["tool_calls"] = _tool_calls(calls, f"{where}.tool_calls")
    elif "content" not in message:
        raise TemplateError(f"{where} has no content")
    normal["content"] = _content(message.get("content"), f"{where}.content")
    ids = normal.pop("token_ids", None)
    if ids is not None:
        if role != "assistant":
            raise TemplateError(f"{where} has token_ids, but its role is {brief(role)}")
        normal["token_ids"] = _token_ids(ids, f"{where}.token_ids")
    return normal


def _token_ids(ids: Any, where: str) -> list[int]:
    if not isinstance(ids, list | tuple):
        raise TypeError(f"{where} must be a list, not {type(ids).__name__}")
    for i, token in enumerate(ids):
        if isinstance(token, bool) or not hasattr(token, "__index__"):
            raise TypeError(f"{where}[{i}] must be an integer, not {type(token).__name__}")
    return [index(token) for token in ids]


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise TypeError(
            f"{where} must be a string or a list of parts, not {type(content).__name__}"
        )
    texts = []
    for i, part in enumerate(content):
        if not isinstance(part, Mapping) or part.get("type") != "text":
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise TemplateError(
                f"{where}[{i}] is {brief(kind)}; this model reads only 'text' parts"
            )
        if not isinstance(part.get("text"), str):
            raise TemplateError(f"{where}[{i}] has no text")
        texts.append(part["text"])
    return "\n".join(texts)


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list | tuple):
        raise TypeError(f"{where} must be a list, not {type(calls).__name__}")
    return [_tool_call(call, f"{where}[{i}]") for i, call in enumerate(calls)]


def _tool_call(call: Any, where: str) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise TypeError(f"{where} must be a dict, not {type(call).__name__}")
    if "function" in call:
        return {**call, "function": _tool_call(call["function"], f"{where}.function")}
    if not isinstance(call.get("name"), str):
        raise TemplateError(f"{where} has no name")
    return {**call, "arguments": _arguments(call.get("arguments"), f"{where}.arguments")}


def _arguments(arguments: Any, where: str) -> Mapping[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise TemplateError(f"{where} is not JSON: {error}") from None
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise TemplateError(f"{where} must be a JSON object, not {type(arguments).__name__}")
    return arguments
