"""Anthropic's /v1/messages and /v1/messages/count_tokens, which Claude Code speaks."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from pyqwen.model import Model
from pyqwen.serve.asking import Answers, Ask, Piece, Silence
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError, refusals
from pyqwen.serve.exchange import EventStream, Exchange
from pyqwen.serve.fields import RawJson, new_id
from pyqwen.serve.tool_calls import checked_tools


class MessagesRequest(msgspec.Struct, kw_only=True):
    """What is read of a request; other fields are ignored."""

    messages: list[RawJson]
    model: str | None = None
    max_tokens: int | None = None
    system: str | list[RawJson] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stream: bool = False
    tools: list[RawJson] | None = None
    tool_choice: RawJson | None = None
    thinking: RawJson | None = None


class AnthropicMessages:
    """Both endpoints."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def create(self, exchange: Exchange) -> None:
        request = exchange.body(MessagesRequest)
        if request.max_tokens is None:
            raise ApiError(400, "max_tokens: Field required", param="max_tokens")
        ask = _ask(request)
        async with (
            self._core.registry.lease(request.model) as lease,
            self._core.running(lease, [ask]) as (answers,),
        ):
            head = {
                "id": new_id("msg_"),
                "type": "message",
                "role": "assistant",
                "model": lease.name,
            }
            if request.stream:
                tokens = await asyncio.to_thread(_count, lease.model, ask)
                await _Stream(exchange, answers, head, tokens).write()
            else:
                (done,) = await answers.whole()
                await exchange.reply(_body(done, head))

    async def count(self, exchange: Exchange) -> None:
        request = exchange.body(MessagesRequest)
        async with self._core.registry.lease(request.model) as lease:
            tokens = await asyncio.to_thread(_count, lease.model, _ask(request))
            await exchange.reply({"input_tokens": tokens})


def _count(model: Model, ask: Ask) -> int:
    """The tokens of the prompt."""
    names = ("tools", "tool_choice", "parallel_tool_calls", "template_variables")
    options = {name: ask.options[name] for name in names if ask.options.get(name) is not None}
    with refusals():
        return len(model.chat_prompt(ask.messages, **options))


def _ask(request: MessagesRequest) -> Ask:
    messages = []
    if request.system:
        messages.append({"role": "system", "content": _text_of(request.system, "system")})
    for i, message in enumerate(request.messages):
        messages += _messages(message, f"messages.{i}")
    tools = checked_tools([_tool(tool, i) for i, tool in enumerate(request.tools or ())])
    options: RawJson = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop": [text for text in request.stop_sequences or () if text] or None,
        "tools": tools,
        "template_variables": None,
    }
    if request.thinking is not None and request.thinking.get("type") == "disabled":
        options["template_variables"] = {"enable_thinking": False}
    if tools is not None and request.tool_choice is not None:
        options["tool_choice"] = _tool_choice(request.tool_choice)
        if request.tool_choice.get("disable_parallel_tool_use"):
            options["parallel_tool_calls"] = False
    if messages and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        options["continue_final_message"] = True
    return Ask(options, messages=messages)


def _tool(tool: RawJson, index: int) -> RawJson:
    if "input_schema" not in tool:
        return {"type": tool.get("type", "unknown")}  # one of Anthropic's own; nobody here runs it
    if not isinstance(tool.get("name"), str):
        raise ApiError(400, f"tools.{index}.name: Field required", param=f"tools.{index}.name")
    return {
        "type": "function",
        "function": {
            "name": tool["name"],
            "description": tool.get("description") or "",
            "parameters": tool["input_schema"],
        },
    }


def _tool_choice(choice: RawJson) -> Any:
    kind = choice.get("type")
    if kind == "tool" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    words = {"auto": "auto", "any": "required", "none": "none"}
    if kind not in words:
        raise ApiError(400, f"tool_choice.type: unknown {str(kind)[:50]!r}", param="tool_choice")
    return words[kind]


def _messages(message: RawJson, where: str) -> list[RawJson]:
    """One message of Anthropic's as those of OpenAI's: results of tools are messages of their own."""
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant", "system"):
        raise ApiError(400, f"{where}.role: {str(role)[:50]!r} is not user or assistant")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if not isinstance(content, list):
        raise ApiError(400, f"{where}.content: must be a text or a list of blocks")
    results: list[RawJson] = []
    texts: list[str] = []
    calls: list[RawJson] = []
    thoughts: list[str] = []
    for i, block in enumerate(content):
        place = f"{where}.content.{i}"
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "tool_use" and isinstance(block.get("name"), str):
            function = {"name": block["name"], "arguments": block.get("input") or {}}
            call = {"id": str(block.get("id", "")), "type": "function", "function": function}
            calls.append(call)
        elif kind == "tool_result":
            text = _text_of(block.get("content") or "", place)
            results.append(
                {"role": "tool", "tool_call_id": str(block.get("tool_use_id")), "content": text}
            )
        elif kind == "thinking" and isinstance(block.get("thinking"), str):
            thoughts.append(block["thinking"])
        elif kind != "redacted_thinking":
            raise ApiError(400, f"{place}: a block of type {str(kind)[:50]!r} cannot be read here")
    if calls or texts or not results:
        plain: RawJson = {"role": role, "content": "\n".join(texts)}
        if calls:
            plain["tool_calls"] = calls
        if thoughts:  # where Qwen3's template looks for them
            plain["reasoning_content"] = "\n".join(thoughts)
        results.append(plain)
    return results


def _text_of(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = []
        for i, block in enumerate(content):
            if not isinstance(block, dict) or not isinstance(block.get("text"), str):
                raise ApiError(400, f"{where}.{i}: only blocks of text can be read here")
            texts.append(block["text"])
        return "\n".join(texts)
    raise ApiError(400, f"{where}: must be a text or a list of blocks")


def _stop(done: Any) -> RawJson:
    reason = str(done.finish_reason)
    words = {"length": "max_tokens", "timeout": "max_tokens", "tool_calls": "tool_use"}
    word = words.get(reason, "end_turn")
    sequence = done.stop_reason if isinstance(done.stop_reason, str) else None
    return {
        "stop_reason": "stop_sequence" if sequence and word == "end_turn" else word,
        "stop_sequence": sequence,
    }


def _usage(done: Any) -> RawJson:
    usage = done.usage
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }


def _body(done: Any, head: RawJson) -> RawJson:
    content: list[RawJson] = []
    if done.reasoning:
        content.append({"type": "thinking", "thinking": done.reasoning, "signature": ""})
    calls = getattr(done, "tool_calls", None) or []
    if done.text or not calls:
        content.append({"type": "text", "text": done.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in calls
    ]
    return {**head, "content": content, **_stop(done), "usage": _usage(done)}


class _Stream:
    """The events of one answer: its blocks one after the other."""

    def __init__(self, exchange: Exchange, answers: Answers, head: RawJson, tokens: int) -> None:
        self._exchange = exchange
        self._answers = answers
        self._head = head
        self._tokens = tokens
        self._events = EventStream(exchange)
        self._index = -1
        self._kind: Any = None  # of the open block; for a call its index

    async def write(self) -> None:
        await self._events.start()
        usage = {"input_tokens": self._tokens, "output_tokens": 0}
        start = {**self._head, "content": [], "stop_reason": None, "stop_sequence": None}
        await self._tell({"type": "message_start", "message": {**start, "usage": usage}})
        await self._tell({"type": "ping"})
        async for event in self._answers.events(self._exchange.settings.keep_alive):
            if isinstance(event, Silence):
                await self._tell({"type": "ping"})
            elif isinstance(event, Piece):
                await self._piece(event.chunk)
        if self._index < 0:
            await self._open("text", {"type": "text", "text": ""})
        await self._close()
        (done,) = self._answers.completions
        delta = _stop(done)
        await self._tell({"type": "message_delta", "delta": delta, "usage": _usage(done)})
        await self._tell({"type": "message_stop"})
        await self._events.end()

    async def _tell(self, event: RawJson) -> None:
        await self._events.event(event["type"], event)

    async def _piece(self, chunk: Any) -> None:
        if chunk.reasoning:
            await self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            await self._delta({"type": "thinking_delta", "thinking": chunk.reasoning})
        if chunk.text:
            await self._open("text", {"type": "text", "text": ""})
            await self._delta({"type": "text_delta", "text": chunk.text})
        for call in getattr(chunk, "tool_calls", None) or ():
            if call.name is not None:
                block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
                await self._open(call.index, block)
            if call.arguments:
                await self._delta({"type": "input_json_delta", "partial_json": call.arguments})

    async def _delta(self, delta: RawJson) -> None:
        await self._tell({"type": "content_block_delta", "index": self._index, "delta": delta})

    async def _open(self, kind: Any, block: RawJson) -> None:
        if kind == self._kind:
            return
        await self._close()
        self._kind = kind
        self._index += 1
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        await self._tell(start)

    async def _close(self) -> None:
        if self._kind is not None:
            await self._tell({"type": "content_block_stop", "index": self._index})
            self._kind = None
