"""Calls in the messages of a conversation: as OpenAI writes them, and as the model wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pyqwen.results import ToolCall
from pyqwen.tools.scanner import ToolCallScanner


def scan(text: str, names: Iterable[str]) -> tuple[str, list[ToolCall]]:
    """The text and the calls of a whole answer, made of calls of tools with these ``names``."""
    scanner = ToolCallScanner(frozenset(names), str)
    shown = scanner.feed(text)[0] + scanner.flush()[0]
    return shown, scanner.calls


def with_calls_as_written(
    messages: Sequence[dict[str, Any]], decode: Callable[[list[int]], str]
) -> tuple[list[dict[str, Any]], set[int]]:
    """Normalized messages, with the text that the model wrote in place of its calls where it is known; and
    which messages these are.

    That is where a message with ``tool_calls`` has ``token_ids``: these are of all that the model wrote, and
    so stand for both. ``ValueError`` where they say something else.
    """
    shown = []
    written_calls = set()
    for i, message in enumerate(messages):
        if "tool_calls" not in message or "token_ids" not in message:
            shown.append(message)
            continue
        written = decode(message["token_ids"])
        if not _says(written, message):
            raise ValueError(
                f"messages[{i}].token_ids are not the tokens of its content and tool_calls; leave the key "
                "out where these were changed or another model wrote them"
            )
        plain = {key: value for key, value in message.items() if key != "tool_calls"}
        shown.append({**plain, "content": written})
        written_calls.add(i)
    return shown, written_calls


def _says(written: str, message: dict[str, Any]) -> bool:
    """Whether a text is that of a message and its calls."""
    calls = [call.get("function", call) for call in message["tool_calls"]]
    text, found = scan(written, {call["name"] for call in calls})
    meant = [(call["name"], _plain(call["arguments"])) for call in calls]
    return text == message["content"] and meant == [(c.name, _plain(c.arguments)) for c in found]


def _plain(arguments: Any) -> str:
    return json.dumps(arguments, sort_keys=True, default=str)
