"""OpenAI's /v1/chat/completions: request to question, answers to choices or events."""

from __future__ import annotations

from typing import Any

from pyqwen.serve.asking import Answers, Ask, Piece, Reading, Silence, merged_usage
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import DONE, EventStream, Exchange
from pyqwen.serve.fields import (
    RawJson,
    Sampling,
    biases_of_tokens,
    chat_logprobs,
    fingerprint,
    finish_reason,
    new_id,
    now,
    openai_usage,
    timings,
)
from pyqwen.serve.structure import response_format
from pyqwen.serve.tool_calls import call_deltas, calls_of, checked_tools


class ChatRequest(Sampling, kw_only=True):
    """What is read of a request; other fields are ignored, as OpenAI's servers do."""

    messages: list[RawJson]
    model: str | None = None
    stream: bool = False
    stream_options: RawJson | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: RawJson | None = None
    json_schema: RawJson | None = None
    grammar: str | None = None
    tools: list[RawJson] | None = None
    tool_choice: str | RawJson | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: RawJson | None = None
    reasoning_effort: str | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    return_progress: bool = False
    timings_per_token: bool = False


def chat_ask(request: ChatRequest) -> Ask:
    """The question of a request."""
    options = request.options()
    limit = request.max_completion_tokens
    options["max_tokens"] = _limit(request.max_tokens if limit is None else limit)
    if request.top_logprobs and not request.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    options["logprobs"] = request.logprobs
    options["top_logprobs"] = request.top_logprobs
    options["response_format"] = response_format(
        request.response_format, schema=request.json_schema, gbnf=request.grammar
    )
    options["tools"] = checked_tools(request.tools)
    if options["tools"] is not None:
        options["tool_choice"] = request.tool_choice
        options["parallel_tool_calls"] = request.parallel_tool_calls
    options["template_variables"] = _template_variables(request)
    if request.continue_final_message and request.add_generation_prompt:
        raise ApiError(400, "continue_final_message and add_generation_prompt exclude each other")
    options["continue_final_message"] = request.continue_final_message or None
    return Ask(options, messages=request.messages, n=1 if request.n is None else request.n)


def _limit(tokens: int | None) -> int | None:
    return None if tokens is None or tokens < 0 else tokens


def _template_variables(request: ChatRequest) -> RawJson | None:
    variables = dict(request.chat_template_kwargs or {})
    if request.reasoning_effort == "none":
        variables.setdefault("enable_thinking", False)
    return variables or None


class ChatCompletions:
    """The endpoint."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.body(ChatRequest)
        ask = chat_ask(request)
        async with self._core.registry.lease(request.model, ask.n) as lease:
            biases_of_tokens(ask.options, lease.model.tokenizer.encode)
            async with self._core.running(lease, [ask]) as (answers,):
                head = {
                    "id": new_id("chatcmpl-"),
                    "created": now(),
                    "model": lease.name,
                    "system_fingerprint": fingerprint(),
                }
                if request.stream:
                    await _stream(exchange, request, answers, head)
                else:
                    await _reply(exchange, answers, head)


async def _reply(exchange: Exchange, answers: Answers, head: RawJson) -> None:
    completions = await answers.whole()
    choices = [
        {
            "index": i,
            "message": _message(done),
            "logprobs": chat_logprobs(done.logprobs),
            "finish_reason": finish_reason(done),
        }
        for i, done in enumerate(completions)
    ]
    await exchange.reply(
        {
            **head,
            "object": "chat.completion",
            "choices": choices,
            "usage": openai_usage(*merged_usage(completions)),
            "timings": timings(completions[0]),
        }
    )


def _message(done: Any) -> RawJson:
    calls = calls_of(done)
    message: RawJson = {
        "role": "assistant",
        "content": done.text if done.text or not calls else None,
        "refusal": None,
    }
    if done.reasoning is not None:
        message["reasoning_content"] = message["reasoning"] = done.reasoning
    if calls:
        message["tool_calls"] = calls
    return message


async def _stream(
    exchange: Exchange, request: ChatRequest, answers: Answers, head: RawJson
) -> None:
    head = {**head, "object": "chat.completion.chunk"}
    wants_usage = bool((request.stream_options or {}).get("include_usage"))
    with_usage = {"usage": None} if wants_usage else {}
    stream = EventStream(exchange)
    await stream.start()
    n = len(answers.completions)
    for i in range(n):
        first = {"role": "assistant", "content": None}
        await stream.data({**head, "choices": [_choice(i, first)], **with_usage})
    async for event in answers.events(exchange.settings.keep_alive):
        if isinstance(event, Silence):
            await stream.keep_alive()
        elif isinstance(event, Reading):
            if request.return_progress:
                await stream.data({**head, "choices": [], "prompt_progress": event.progress()})
        elif isinstance(event, Piece):
            for choice in _choices(event):
                await stream.data({**head, "choices": [choice], **with_usage})
    completions = answers.completions
    if wants_usage or request.timings_per_token:
        usage = openai_usage(*merged_usage(completions))
        last = {**head, "choices": [], "usage": usage, "timings": timings(completions[0])}
        await stream.data(last)
    await stream.end(DONE)


def _choices(piece: Piece) -> list[RawJson]:
    """The choices that tell of a chunk: what was written, and at the end why it ended."""
    chunk = piece.chunk
    delta: RawJson = {}
    if chunk.reasoning:
        delta["reasoning_content"] = delta["reasoning"] = chunk.reasoning
    if chunk.text:
        delta["content"] = chunk.text
    calls = call_deltas(chunk)
    if calls:
        delta["tool_calls"] = calls
    choices = []
    if delta or chunk.logprobs:
        choices.append(_choice(piece.index, delta, chat_logprobs(chunk.logprobs)))
    if chunk.finish_reason is not None:
        choices.append({**_choice(piece.index, {}), "finish_reason": finish_reason(chunk)})
    return choices


def _choice(index: int, delta: RawJson, logprobs: RawJson | None = None) -> RawJson:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
