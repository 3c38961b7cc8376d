"""The conversation between a model and its tools: what a call is answered with, and when it is over.

Knows neither engine nor streams: who runs it asks the model, and gives the answers here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any

from pyqwen.results import ChatCompletion, ToolCall
from pyqwen.tools.python_types import ArgumentError
from pyqwen.tools.tool import read_tools

OnCall = Callable[[ToolCall], Any]
"""Called before each call; False refuses it. It may be async where the run is."""

REFUSED = "error: the user refused this call"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call was answered with: ``text`` is what the model reads, ``value`` what the function returned.

    ``error`` is the exception of the function, or of arguments that do not fit it; such an exception, a
    malformed call, an unknown name and a refusal are told to the model.
    """

    call: ToolCall
    text: str
    value: Any = None
    error: Exception | None = None


class ToolLoop:
    """One run: the messages so far, and what happens next."""

    def __init__(
        self,
        messages: Any,
        tools: Any,
        options: Mapping[str, Any],
        max_rounds: Any,
        on_call: OnCall | None,
    ) -> None:
        """Raises ``TypeError`` and ``ValueError`` for what they cannot be."""
        if isinstance(max_rounds, bool) or not isinstance(max_rounds, int):
            raise TypeError(f"max_rounds must be an integer, not {type(max_rounds).__name__}")
        if max_rounds < 1:
            raise ValueError(f"max_rounds must be at least 1, not {max_rounds}")
        if on_call is not None and not callable(on_call):
            raise TypeError(f"on_call must be a function, not {type(on_call).__name__}")
        if not isinstance(messages, str | Sequence) or isinstance(messages, bytes):
            raise TypeError(f"messages must be a string or a list, not {type(messages).__name__}")
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        self.messages: list[Any] = list(said)
        self._tools = {tool.name: tool for tool in read_tools(tools)}
        self._options = {**options, "tools": list(self._tools.values())}
        self._rounds = max_rounds
        self._on_call = on_call

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of the next answer: what has to be called has to be called once."""
        return dict(self._options)

    def take(self, reply: ChatCompletion) -> list[ToolCall]:
        """Note an answer; return the calls in it that are to be answered, none if the run is over."""
        self.messages.append(reply.message)
        self._rounds -= 1
        if self._options.get("tool_choice") != "none":
            self._options["tool_choice"] = "auto"
        ours = any(self._is_callers(call) for call in reply.tool_calls)
        if reply.finish_reason != "tool_calls" or self._rounds == 0 or ours:
            return []
        return reply.tool_calls

    def _is_callers(self, call: ToolCall) -> bool:
        """Whether the tool has no function, so that the caller has to answer."""
        tool = self._tools.get(call.name)
        return call.error is None and tool is not None and tool.function is None

    def finished(self, reply: ChatCompletion) -> ChatCompletion:
        """The last answer, with all that was said."""
        return replace(reply, messages=list(self.messages))

    def run(self, call: ToolCall) -> ToolResult:
        """Answer a call, in this thread; an async function runs in an event loop of its own."""
        if (refusal := self._refusal(call)) is not None:
            return self._note(refusal)
        if self._on_call is not None and self._on_call(call) is False:
            return self._note(ToolResult(call, REFUSED))
        try:
            value = self._tools[call.name].call(call.arguments)
            if isawaitable(value):
                value = _awaited(value)
        except Exception as error:
            return self._note(_failed(call, error))
        return self._note(_returned(call, value))

    async def arun(self, call: ToolCall) -> ToolResult:
        """The same in an event loop; a function that is not async runs in another thread."""
        from asyncio import to_thread

        if (refusal := self._refusal(call)) is not None:
            return self._note(refusal)
        if self._on_call is not None:
            allowed = self._on_call(call)
            if isawaitable(allowed):
                allowed = await allowed
            if allowed is False:
                return self._note(ToolResult(call, REFUSED))
        try:
            value = await to_thread(self._tools[call.name].call, call.arguments)
            if isawaitable(value):
                value = await value
        except Exception as error:
            return self._note(_failed(call, error))
        return self._note(_returned(call, value))

    def _refusal(self, call: ToolCall) -> ToolResult | None:
        """The answer to a call that cannot be made."""
        if call.error is not None:
            return ToolResult(call, f"error: the call is malformed: {call.error}")
        if call.name not in self._tools:
            known = ", ".join(self._tools)
            return ToolResult(call, f"error: there is no tool {call.name!r}; there are: {known}")
        return None

    def _note(self, result: ToolResult) -> ToolResult:
        self.messages.append(
            {
                "role": "tool",
                "tool_call_id": result.call.id,
                "name": result.call.name,
                "content": result.text,
            }
        )
        return result


def _failed(call: ToolCall, error: Exception) -> ToolResult:
    kind = "" if isinstance(error, ArgumentError) else f"{type(error).__name__}: "
    return ToolResult(call, f"error: {kind}{error}", None, error)


def _returned(call: ToolCall, value: Any) -> ToolResult:
    try:
        text = (
            value
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False, default=_plain)
        )
    except (ValueError, TypeError, RecursionError):
        text = str(value)
    return ToolResult(call, text, value)


def _plain(value: Any) -> Any:
    """What stands for an object that JSON does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if hasattr(value, "model_dump"):  # pydantic's
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


def _awaited(value: Awaitable[Any]) -> Any:
    """The result of an async function, for a caller that is not async."""
    import asyncio
    from threading import Thread

    async def wait() -> Any:
        return await value

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(wait()), None))
        except Exception as error:
            outcome.append((None, error))

    thread = Thread(target=run, name="pyqwen-tool")
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
