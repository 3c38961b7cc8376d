"""Ollama's API: chats, generations and embeddings in lines of JSON, and the models that there are."""

from __future__ import annotations

import math
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pyqwen.serve.asking import Answers, Ask, Piece
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import NDJSON, Exchange, encode_json
from pyqwen.serve.fields import (
    RawJson,
    biases_of_tokens,
    chat_logprobs,
    finish_reason,
    stops,
    version,
)
from pyqwen.serve.file_facts import file_facts
from pyqwen.serve.registry import Lease, Served
from pyqwen.serve.tool_calls import checked_tools

API_VERSION = "0.12.6"
"""The version of Ollama whose API this is: clients ask for at least some version."""

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(-?\d+(?:\.\d+)?)(ms|s|m|h)")


class Options(msgspec.Struct):
    """Settings of a request under Ollama's names."""

    num_predict: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None

    def options(self) -> RawJson:
        limit, seed = self.num_predict, self.seed
        return {
            "max_tokens": None if limit is None or limit < 0 else limit,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "typical_p": self.typical_p,
            "repetition_penalty": self.repeat_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": None if seed is None or seed < 0 else seed,
            "stop": stops(self.stop),
        }


class OllamaRequest(msgspec.Struct, kw_only=True):
    """What chats and generations share."""

    model: str
    stream: bool = True
    format: str | RawJson | None = None
    options: Options | None = None
    keep_alive: str | float | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def wishes(self) -> RawJson:
        options = (self.options or Options()).options()
        options["logprobs"] = self.logprobs
        options["top_logprobs"] = self.top_logprobs
        options["response_format"] = _format(self.format)
        if self.think is not None:
            options["template_variables"] = {"enable_thinking": self.think is not False}
        return options


class OllamaChat(OllamaRequest, kw_only=True):
    messages: list[RawJson] = msgspec.field(default_factory=list)
    tools: list[RawJson] | None = None


class OllamaGenerate(OllamaRequest, kw_only=True):
    prompt: str = ""
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    raw: bool = False
    images: list[str] | None = None


class NameRequest(msgspec.Struct):
    model: str | None = None
    name: str | None = None


class Ollama:
    """The endpoints."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def root(self, exchange: Exchange) -> None:
        await exchange.reply_bytes(b"Ollama is running", "text/plain; charset=utf-8")

    async def version(self, exchange: Exchange) -> None:
        await exchange.reply({"version": f"{API_VERSION}-pyqwen.{version()}"})

    async def tags(self, exchange: Exchange) -> None:
        models = [await self._entry(served) for served in self._core.registry.all]
        await exchange.reply({"models": models})

    async def ps(self, exchange: Exchange) -> None:
        loaded = []
        for served in self._core.registry.all:
            model = served.model
            if model is not None:
                entry = await self._entry(served)
                entry |= {
                    "size": model.weight_bytes + model.kv_bytes,
                    "size_vram": 0,
                    "context_length": model.context,
                    "expires_at": _expiry(served),
                }
                loaded.append(entry)
        await exchange.reply({"models": loaded})

    async def show(self, exchange: Exchange) -> None:
        request = exchange.body(NameRequest)
        served = self._core.registry.find(request.model or request.name or "?")
        facts = await file_facts(served)
        names = ("license", "template", "details", "model_info", "capabilities", "modified_at")
        body = {name: facts[name] for name in names}
        await exchange.reply({"modelfile": "", "parameters": "", **body})

    async def _entry(self, served: Served) -> RawJson:
        facts = await file_facts(served)
        names = ("modified_at", "size", "digest", "details")
        label = served.name if ":" in served.name else f"{served.name}:latest"
        return {"name": label, "model": label, **{name: facts[name] for name in names}}

    # Answers

    async def chat(self, exchange: Exchange) -> None:
        request = exchange.body(OllamaChat)
        options = request.wishes()
        options["tools"] = checked_tools(request.tools)
        messages = [_message(message) for message in request.messages]
        if messages and messages[-1].get("role") == "assistant":
            options["continue_final_message"] = True
        async with self._leased(request) as lease:
            if not messages:
                await exchange.reply(_loaded(lease, request, "message"))
                return
            await self._answer(exchange, request, lease, Ask(options, messages=messages), "message")

    async def generate(self, exchange: Exchange) -> None:
        request = exchange.body(OllamaGenerate)
        if request.images:
            raise ApiError(501, "this server reads texts alone, no images")
        if request.template:
            raise ApiError(501, "template is not supported: the model's own is used")
        options = request.wishes()
        async with self._leased(request) as lease:
            if not request.prompt:
                await exchange.reply(_loaded(lease, request, "response"))
                return
            if request.suffix:
                ask = Ask(_without_template(options), gap=(request.prompt, request.suffix))
            elif request.raw:
                ask = Ask({**_without_template(options), "special": True}, prompt=request.prompt)
            else:
                messages = [{"role": "user", "content": request.prompt}]
                if request.system is not None:
                    messages.insert(0, {"role": "system", "content": request.system})
                ask = Ask(options, messages=messages)
            await self._answer(exchange, request, lease, ask, "response")

    def _leased(self, request: OllamaRequest) -> Any:
        """A lease; when it ends the model stays for as long as the request says."""
        served = self._core.registry.find(request.model)
        if request.keep_alive is not None:
            seconds = _seconds(request.keep_alive)
            self._core.registry.unload_when_idle(served, seconds)
        return self._core.registry.lease(request.model)

    async def _answer(
        self, exchange: Exchange, request: OllamaRequest, lease: Lease, ask: Ask, key: str
    ) -> None:
        biases_of_tokens(ask.options, lease.model.tokenizer.encode)
        async with self._core.running(lease, [ask]) as (answers,):
            if request.stream:
                await exchange.start(200, NDJSON)
                await _write_lines(exchange, request, answers, key)
            (done,) = await answers.whole() if not request.stream else answers.completions
            body = _last(request, lease, done, key, with_text=not request.stream)
            if request.stream:
                await exchange.end(encode_json(body) + b"\n")
            else:
                await exchange.reply(body)


async def _write_lines(
    exchange: Exchange, request: OllamaRequest, answers: Answers, key: str
) -> None:
    async for event in answers.events():
        if isinstance(event, Piece):
            chunk = event.chunk
            if not chunk.text and not chunk.reasoning and not chunk.logprobs:
                continue
            line = {**_head(request), **_text(key, chunk.text, chunk.reasoning), "done": False}
            if chunk.logprobs is not None:
                line["logprobs"] = (chat_logprobs(chunk.logprobs) or {})["content"]
            await exchange.write(encode_json(line) + b"\n")


def _head(request: OllamaRequest) -> RawJson:
    return {"model": request.model, "created_at": datetime.now(UTC).isoformat()}


def _text(key: str, text: str, thinking: str | None) -> RawJson:
    if key == "response":
        return {"response": text, **({"thinking": thinking} if thinking else {})}
    message: RawJson = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    return {"message": message}


def _last(request: OllamaRequest, lease: Lease, done: Any, key: str, *, with_text: bool) -> RawJson:
    """The line that ends an answer."""
    body = {**_head(request), **_text(key, "", None)}
    if with_text:
        body |= _text(key, done.text, getattr(done, "reasoning", None))
        if done.logprobs is not None:
            body["logprobs"] = (chat_logprobs(done.logprobs) or {})["content"]
    calls = getattr(done, "tool_calls", None)
    if calls and key == "message":
        body["message"]["tool_calls"] = [
            {"function": {"index": i, "name": call.name, "arguments": call.arguments}}
            for i, call in enumerate(calls)
        ]
    reason = finish_reason(done)
    times = done.timings
    load = int(lease.load_seconds * 1e9)
    spent = times.queue_seconds + times.prompt_seconds + times.decode_seconds
    return body | {
        "done": True,
        "done_reason": "stop" if reason == "tool_calls" else reason,
        "total_duration": load + int(spent * 1e9),
        "load_duration": load,
        "prompt_eval_count": done.usage.prompt_tokens,
        "prompt_eval_duration": int(times.prompt_seconds * 1e9),
        "eval_count": done.usage.completion_tokens,
        "eval_duration": int(times.decode_seconds * 1e9),
    }


def _loaded(lease: Lease, request: OllamaRequest, key: str) -> RawJson:
    """The answer to who asks for nothing but that the model be loaded, or let go of."""
    reason = (
        "unload" if request.keep_alive is not None and _seconds(request.keep_alive) == 0 else "load"
    )
    return {**_head(request), **_text(key, "", None), "done": True, "done_reason": reason}


def _message(message: RawJson) -> RawJson:
    """A message as the library takes it: without empty lists, and images refused."""
    if message.get("images"):
        raise ApiError(501, "this server reads texts alone, no images")
    dropped = ("images", "thinking", "tool_calls", "tool_name")
    plain = {name: value for name, value in message.items() if name not in dropped}
    if message.get("tool_calls"):
        plain["tool_calls"] = message["tool_calls"]
    if message.get("tool_name"):
        plain["name"] = message["tool_name"]
    if message.get("thinking"):
        plain["reasoning_content"] = message["thinking"]  # where Qwen3's template looks for it
    plain.setdefault("content", "")
    return plain


def _without_template(options: RawJson) -> RawJson:
    return {name: value for name, value in options.items() if name != "template_variables"}


def _format(given: str | RawJson | None) -> RawJson | None:
    if not given:
        return None
    if given == "json":
        return {"type": "json_object"}
    if isinstance(given, dict):
        return {"type": "json_schema", "json_schema": {"schema": given}}
    raise ApiError(400, 'format is "json" or a JSON schema')


def _seconds(keep_alive: str | float) -> float | None:
    """How long a model is to stay; None: always."""
    if isinstance(keep_alive, str):
        text = keep_alive.strip()
        parts = _DURATION.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        else:
            try:
                seconds = float(text)
            except ValueError:
                raise ApiError(400, f"keep_alive {text[:50]!r} is no duration such as 5m") from None
    else:
        seconds = keep_alive
    if math.isnan(seconds):
        raise ApiError(400, "keep_alive is not a number")
    return None if seconds < 0 or math.isinf(seconds) else min(seconds, 1e7)


def _expiry(served: Served) -> str:
    left = served.unload_after
    if left is None or served.is_lent:
        return datetime(9999, 1, 1, tzinfo=UTC).isoformat()
    idle = 0.0 if served.users else time.monotonic() - served.last_used
    return (datetime.now(UTC) + timedelta(seconds=max(0.0, left - idle))).isoformat()
