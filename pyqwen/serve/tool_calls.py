"""Tools that clients offer, and the calls of an answer in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from pyqwen.serve.errors import ApiError
from pyqwen.serve.fields import RawJson

MAX_TOOLS = 256


def checked_tools(tools: list[RawJson] | None) -> list[RawJson] | None:
    """OpenAI's descriptions of functions; other kinds of tools are skipped, as nobody here runs them."""
    if not tools:
        return None
    if len(tools) > MAX_TOOLS:
        raise ApiError(400, f"there are more than {MAX_TOOLS} tools", param="tools")
    functions = []
    for i, tool in enumerate(tools):
        if tool.get("type", "function") != "function":
            continue
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise ApiError(400, "a function has no name", param=f"tools[{i}].function.name")
        functions.append({"type": "function", "function": function})
    return functions or None


def calls_of(done: Any) -> list[RawJson]:
    """The calls of a complete answer, their arguments as the model wrote them."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
        for call in getattr(done, "tool_calls", None) or ()
    ]


def call_deltas(chunk: Any) -> list[RawJson]:
    """What a chunk adds to calls: the name first, then pieces of the arguments."""
    deltas = []
    for call in getattr(chunk, "tool_calls", None) or ():
        function: RawJson = {"arguments": call.arguments or ""}
        delta: RawJson = {"index": call.index, "function": function}
        if call.name is not None:
            function["name"] = call.name
            delta |= {"id": call.id, "type": "function"}
        deltas.append(delta)
    return deltas
