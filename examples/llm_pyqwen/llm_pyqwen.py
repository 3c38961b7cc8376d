"""A plugin of ``llm`` (https://llm.datasette.io): the models that pyqwen has on this machine.

    llm install ./examples/llm_pyqwen
    llm -m pyqwen/qwen2.5-coder-1.5b "What is RoPE?"

Streaming, conversations (what was read is not read again while the process lives), tools, schemas.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import llm
from llm.parts import Message, TextPart, ToolCallPart, ToolResultPart
from pydantic import Field

from pyqwen import Model, PyQwenError, catalog


@llm.hookimpl
def register_models(register: Callable[..., None]) -> None:
    """Every model that is here, and the default one, which the first prompt fetches."""
    names = {model.name: None for model in catalog.list_models()}
    for name in names | {catalog.DEFAULT_MODEL: None}:
        register(PyQwen(name))


@cache
def _opened(name: str) -> Model:
    return Model(name)


class PyQwen(llm.Model):
    """One model; it is loaded by the first prompt and kept."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    class Options(llm.Options):
        """What is not given is as the model recommends."""

        temperature: float | None = Field(None, ge=0)
        top_k: int | None = Field(None, ge=0)
        top_p: float | None = Field(None, gt=0, le=1)
        min_p: float | None = Field(None, ge=0, le=1)
        max_tokens: int | None = Field(None, ge=0)
        seed: int | None = None

    def __init__(self, name: str) -> None:
        self.model_id = f"pyqwen/{name}"
        self._name = name

    def execute(
        self,
        prompt: llm.Prompt,
        stream: bool,
        response: llm.Response,
        conversation: llm.Conversation | None = None,
    ) -> Iterator[str]:
        """Write the answer; leaving the iterator stops the model."""
        options: dict[str, Any] = prompt.options.model_dump(exclude_none=True)
        if prompt.schema:
            options["response_format"] = prompt.schema
        if prompt.tools:
            options["tools"] = [_described(tool) for tool in prompt.tools]
        messages = [part for message in prompt.messages for part in _messages(message)]
        try:
            with _opened(self._name).stream_chat(messages, **options) as answer:
                for chunk in answer:
                    yield chunk.text
        except PyQwenError as error:
            raise llm.ModelError(str(error)) from error
        reply = answer.completion
        usage = reply.usage
        response.set_usage(
            input=usage.prompt_tokens,
            output=usage.completion_tokens,
            details={"cached_tokens": usage.cached_tokens},
        )
        for call in getattr(reply, "tool_calls", None) or []:
            response.add_tool_call(
                llm.ToolCall(name=call.name, arguments=call.arguments, tool_call_id=call.id)
            )


def _described(tool: llm.Tool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """One of llm's messages as pyqwen takes them: one for each result of a tool."""
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.tool_call_id, "content": result.output}
    if calls:
        called = [
            {
                "id": call.tool_call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in calls
        ]
        yield {"role": message.role, "content": text, "tool_calls": called}
    elif text or not results:
        yield {"role": message.role, "content": text}
