"""OpenAI's /v1/responses, which Codex speaks: without memory between requests. Tools that are no functions
are skipped, as nobody here runs them."""

from __future__ import annotations

from typing import Any

import msgspec

from pyqwen.serve.asking import Answers, Ask, Piece, Reading, Silence
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import EventStream, Exchange
from pyqwen.serve.fields import RawJson, new_id, now, timings
from pyqwen.serve.structure import response_format
from pyqwen.serve.tool_calls import checked_tools

_TEXT_PARTS = ("input_text", "output_text", "text")


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """What is read of a request; other fields are ignored."""

    input: str | list[RawJson]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stream: bool = False
    text: RawJson | None = None
    tools: list[RawJson] | None = None
    tool_choice: str | RawJson | None = None
    parallel_tool_calls: bool | None = None
    reasoning: RawJson | None = None
    previous_response_id: str | None = None
    conversation: str | RawJson | None = None
    background: bool | None = None
    metadata: RawJson | None = None
    timings_per_token: bool = False
    return_progress: bool = False


class Responses:
    """The endpoint."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.body(ResponsesRequest)
        for name in ("previous_response_id", "conversation", "background"):
            if getattr(request, name):
                raise ApiError(
                    400,
                    f"{name} is not supported: this server keeps nothing between requests; send the "
                    "whole conversation as input",
                    code="unsupported",
                    param=name,
                )
        ask = _ask(request)
        async with (
            self._core.registry.lease(request.model) as lease,
            self._core.running(lease, [ask]) as (answers,),
        ):
            frame = _frame(request, lease.name)
            if request.stream:
                await _Stream(exchange, request, answers, frame).write()
            else:
                (done,) = await answers.whole()
                await exchange.reply(_complete(frame, done, _output(done)))


def _ask(request: ResponsesRequest) -> Ask:
    messages: list[RawJson] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
    if isinstance(request.input, str):
        messages.append({"role": "user", "content": request.input})
    else:
        for i, item in enumerate(request.input):
            _add(messages, item, f"input[{i}]")
    limit = request.max_output_tokens
    options: RawJson = {
        "max_tokens": limit,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "response_format": response_format((request.text or {}).get("format")),
        "tools": checked_tools([_tool(tool) for tool in request.tools or ()]),
    }
    if options["tools"] is not None:
        options["tool_choice"] = _tool_choice(request.tool_choice)
        options["parallel_tool_calls"] = request.parallel_tool_calls
    if (request.reasoning or {}).get("effort") == "none":
        options["template_variables"] = {"enable_thinking": False}
    return Ask(options, messages=messages)


def _tool(tool: RawJson) -> RawJson:
    if tool.get("type") != "function":
        return {"type": str(tool.get("type"))}
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if name in tool}}


def _tool_choice(choice: str | RawJson | None) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _add(messages: list[RawJson], item: RawJson, where: str) -> None:
    """Add one item of the input to the messages."""
    kind = item.get("type", "message")
    if kind == "message":
        role = item.get("role")
        text = _text_of(item.get("content"), f"{where}.content")
        messages.append({"role": role, "content": text})
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
        call = {"id": str(item.get("call_id", "")), "type": "function", "function": function}
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        messages[-1].setdefault("tool_calls", []).append(call)
    elif kind == "function_call_output":
        text = _text_of(item.get("output"), f"{where}.output")
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
    elif kind == "item_reference":
        raise ApiError(400, "this server keeps no items: send them whole", param=where)
    # Reasoning, and calls of tools that run elsewhere, are nothing that a template can show.


def _text_of(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ApiError(400, f"{where} must be a text or a list of parts", param=where)
    texts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise ApiError(
                400, f"{where}[{i}]: {str(kind)[:50]!r} cannot be read here", param=where
            )
        texts.append(part["text"])
    return "\n".join(texts)


def _frame(request: ResponsesRequest, model: str) -> RawJson:
    """The response without its output."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now(),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "model": model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": (request.reasoning or {}).get("effort"), "summary": None},
        "store": False,
        "temperature": request.temperature,
        "text": request.text or {"format": {"type": "text"}},
        "tool_choice": request.tool_choice or "auto",
        "tools": request.tools or [],
        "top_p": request.top_p,
        "truncation": "disabled",
        "usage": None,
        "metadata": request.metadata or {},
    }


def _complete(frame: RawJson, done: Any, output: list[RawJson]) -> RawJson:
    """The response with its output and why it ended."""
    cut = str(done.finish_reason) in ("length", "timeout")
    usage = done.usage
    return {
        **frame,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.total_tokens,
        },
    }


def _output(done: Any) -> list[RawJson]:
    output = []
    if done.reasoning:
        output.append(_reasoning(new_id("rs_"), done.reasoning))
    calls = getattr(done, "tool_calls", None) or []
    if done.text or not calls:
        output.append(_message(new_id("msg_"), done.text, "completed"))
    output += [
        _call(new_id("fc_"), call.id, call.name, call.arguments_json, "completed") for call in calls
    ]
    return output


def _reasoning(item: str, text: str) -> RawJson:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"type": "reasoning", "id": item, "summary": [], "content": content}


def _part(text: str) -> RawJson:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(item: str, text: str | None, status: str) -> RawJson:
    content = [] if text is None else [_part(text)]
    return {
        "type": "message",
        "id": item,
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _call(item: str, call_id: str, name: str, arguments: str, status: str) -> RawJson:
    return {
        "type": "function_call",
        "id": item,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        "status": status,
    }


class _Stream:
    """The events of one response: its items one after the other."""

    def __init__(
        self, exchange: Exchange, request: ResponsesRequest, answers: Answers, frame: RawJson
    ) -> None:
        self._exchange = exchange
        self._request = request
        self._answers = answers
        self._frame = frame
        self._events = EventStream(exchange)
        self._sequence = 0
        self._items: list[RawJson] = []  # those that are complete
        self._kind: Any = None  # of the open item; for a call its index
        self._id = ""
        self._call: tuple[str, str] = ("", "")
        self._text: list[str] = []

    async def write(self) -> None:
        await self._events.start()
        await self._tell("response.created", response=self._frame)
        await self._tell("response.in_progress", response=self._frame)
        async for event in self._answers.events(self._exchange.settings.keep_alive):
            if isinstance(event, Silence):
                await self._events.keep_alive()
            elif isinstance(event, Reading):
                if self._request.return_progress:
                    await self._tell(
                        "response.in_progress",
                        response=self._frame,
                        prompt_progress=event.progress(),
                    )
            elif isinstance(event, Piece):
                await self._piece(event.chunk)
        if not self._items and self._kind is None:
            await self._open("text")
        await self._close()
        (done,) = self._answers.completions
        whole = _complete(self._frame, done, self._items)
        extra = {"timings": timings(done)} if self._request.timings_per_token else {}
        await self._tell(f"response.{whole['status']}", response=whole, **extra)
        await self._events.end()

    async def _tell(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        await self._events.event(kind, event)

    def _place(self, *, part: bool = True) -> RawJson:
        place: RawJson = {"item_id": self._id, "output_index": len(self._items)}
        return {**place, "content_index": 0} if part else place

    async def _piece(self, chunk: Any) -> None:
        if chunk.reasoning:
            await self._open("reasoning")
            self._text.append(chunk.reasoning)
            await self._tell(
                "response.reasoning_text.delta", **self._place(), delta=chunk.reasoning
            )
        if chunk.text:
            await self._open("text")
            self._text.append(chunk.text)
            await self._tell(
                "response.output_text.delta", **self._place(), delta=chunk.text, logprobs=[]
            )
        for call in getattr(chunk, "tool_calls", None) or ():
            if call.name is not None:
                await self._open(call.index, (call.id, call.name))
            if call.arguments:
                self._text.append(call.arguments)
                await self._tell(
                    "response.function_call_arguments.delta",
                    **self._place(part=False),
                    delta=call.arguments,
                )

    async def _open(self, kind: Any, call: tuple[str, str] = ("", "")) -> None:
        if kind == self._kind:
            return
        await self._close()
        self._kind, self._call, self._text = kind, call, []
        if kind == "reasoning":
            self._id = new_id("rs_")
            item = _reasoning(self._id, "")
        elif kind == "text":
            self._id = new_id("msg_")
            item = _message(self._id, None, "in_progress")
        else:
            self._id = new_id("fc_")
            item = _call(self._id, *call, "", "in_progress")
        await self._tell("response.output_item.added", output_index=len(self._items), item=item)
        if kind == "text":
            await self._tell("response.content_part.added", **self._place(), part=_part(""))

    async def _close(self) -> None:
        if self._kind is None:
            return
        text = "".join(self._text)
        if self._kind == "reasoning":
            await self._tell("response.reasoning_text.done", **self._place(), text=text)
            item = _reasoning(self._id, text)
        elif self._kind == "text":
            await self._tell("response.output_text.done", **self._place(), text=text, logprobs=[])
            await self._tell("response.content_part.done", **self._place(), part=_part(text))
            item = _message(self._id, text, "completed")
        else:
            await self._tell(
                "response.function_call_arguments.done",
                **self._place(part=False),
                name=self._call[1],
                arguments=text,
            )
            item = _call(self._id, *self._call, text, "completed")
        await self._tell("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._kind = None
