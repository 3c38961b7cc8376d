"""OpenAI's /v1/completions: texts that go on, with ``echo``, ``suffix`` and log-probabilities."""

from __future__ import annotations

import asyncio
from typing import Any

from pyqwen.model import Model
from pyqwen.results import TokenLogprob
from pyqwen.serve.asking import Answers, Ask, Piece, Silence
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import DONE, EventStream, Exchange
from pyqwen.serve.fields import (
    RawJson,
    Sampling,
    biases_of_tokens,
    fingerprint,
    finish_reason,
    new_id,
    now,
    openai_usage,
    timings,
)
from pyqwen.serve.structure import response_format

DEFAULT_MAX_TOKENS = 16  # OpenAI's
MAX_PROMPTS = 64


class CompletionRequest(Sampling, kw_only=True):
    """What is read of a request; other fields are ignored, as OpenAI's servers do."""

    prompt: Any = None
    model: str | None = None
    suffix: str | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool = False
    logprobs: int | bool | None = None
    stream: bool = False
    stream_options: RawJson | None = None
    response_format: RawJson | None = None
    json_schema: RawJson | None = None
    grammar: str | None = None


class Completions:
    """The endpoint."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.body(CompletionRequest)
        prompts = prompts_of(request.prompt)
        n = 1 if request.n is None else request.n
        if request.best_of is not None and request.best_of != n:
            raise ApiError(400, "best_of is supported only where it equals n", param="best_of")
        options = self._options(request)
        async with self._core.registry.lease(request.model, len(prompts) * n) as lease:
            biases_of_tokens(options, lease.model.tokenizer.encode)
            asks = []
            for prompt in prompts:
                if request.suffix:
                    asks.append(Ask(dict(options), gap=_gap(prompt, request), n=n))
                    continue
                ids = await prompt_ids(lease.model, prompt)
                asks.append(Ask(dict(options), prompt=ids, n=n))
            async with self._core.running(lease, asks) as answers:
                writer = _Writer(exchange, request, lease.name, asks, answers, lease.model)
                await (writer.stream() if request.stream else writer.reply())

    def _options(self, request: CompletionRequest) -> RawJson:
        options = request.options()
        limit = request.max_tokens
        options["max_tokens"] = DEFAULT_MAX_TOKENS if limit is None else limit
        if options["max_tokens"] < 0:
            options["max_tokens"] = None
        if request.logprobs is not None and request.logprobs is not False:
            options["logprobs"] = True
            options["top_logprobs"] = int(request.logprobs)
        if request.echo and options.get("logprobs"):
            options["prompt_logprobs"] = True
        options["response_format"] = response_format(
            request.response_format, schema=request.json_schema, gbnf=request.grammar
        )
        return options


def prompts_of(prompt: Any) -> list[str | list[int]]:
    """One or more prompts: a text, ids, or a list of either."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if all(type(item) is int for item in prompt):
            return [prompt]
        if len(prompt) > MAX_PROMPTS:
            raise ApiError(400, f"there are more than {MAX_PROMPTS} prompts", param="prompt")
        if all(
            isinstance(item, str)
            or (isinstance(item, list) and item and all(type(token) is int for token in item))
            for item in prompt
        ):
            return list(prompt)
    raise ApiError(400, "prompt must be a text, token ids, or a list of either", param="prompt")


def _gap(prompt: str | list[int], request: CompletionRequest) -> tuple[str, str]:
    if not isinstance(prompt, str):
        raise ApiError(400, "suffix needs a prompt that is a text", param="suffix")
    if request.echo:
        raise ApiError(400, "echo and suffix exclude each other", param="echo")
    return prompt, request.suffix or ""


async def prompt_ids(model: Model, prompt: str | list[int]) -> list[int]:
    """The tokens of a prompt: control tokens may be written in a text, as elsewhere for this endpoint."""
    if not isinstance(prompt, str):
        return prompt
    if not prompt and model.tokenizer.bos_id is None:
        raise ApiError(400, "the prompt is empty", param="prompt")
    ids = await asyncio.to_thread(model.tokenizer.encode, prompt, True)
    return ids or [model.tokenizer.bos_id or 0]


class _Writer:
    """Writes the answers of one request."""

    def __init__(
        self,
        exchange: Exchange,
        request: CompletionRequest,
        name: str,
        asks: list[Ask],
        answers: list[Answers],
        model: Model,
    ) -> None:
        self._exchange = exchange
        self._request = request
        self._asks = asks
        self._answers = answers
        self._model = model
        self._head = {
            "id": new_id("cmpl-"),
            "object": "text_completion",
            "created": now(),
            "model": name,
            "system_fingerprint": fingerprint(),
        }

    def _echo(self, ask: Ask) -> str:
        if not self._request.echo:
            return ""
        assert isinstance(ask.prompt, list)
        return self._model.tokenizer.decode(ask.prompt)

    async def reply(self) -> None:
        choices: list[RawJson] = []
        for ask, answers in zip(self._asks, self._answers, strict=True):
            prompt = self._echo(ask)
            for done in await answers.whole():
                before = getattr(done, "prompt_logprobs", None) if prompt else None
                choices.append(
                    {
                        "index": len(choices),
                        "text": prompt + done.text,
                        "logprobs": self._logprobs(ask, done.logprobs, before, len(prompt)),
                        "finish_reason": finish_reason(done),
                    }
                )
        usage, first = self._usage()
        await self._exchange.reply(
            {**self._head, "choices": choices, "usage": usage, "timings": timings(first)}
        )

    def _usage(self) -> tuple[RawJson, Any]:
        every = [done for answers in self._answers for done in answers.completions]
        firsts = [answers.completions[0].usage for answers in self._answers]
        prompt = sum(usage.prompt_tokens for usage in firsts)
        cached = sum(usage.cached_tokens for usage in firsts)
        written = sum(done.usage.completion_tokens for done in every)
        return openai_usage(prompt, written, cached), every[0]

    def _logprobs(
        self, ask: Ask, logprobs: list[TokenLogprob] | None, prompt: Any, offset: int
    ) -> RawJson | None:
        if logprobs is None:
            return None
        entries: list[TokenLogprob | None] = [*(prompt or ()), *logprobs]
        if prompt is not None:
            offset = 0
        return legacy_logprobs(entries, offset, ask.prompt if prompt is not None else None, self)

    def piece(self, token: int) -> str:
        """The text of a token."""
        return self._model.tokenizer.token_bytes(token).decode("utf-8", "replace")

    async def stream(self) -> None:
        stream = EventStream(self._exchange)
        await stream.start()
        n = self._asks[0].n
        wants_usage = bool((self._request.stream_options or {}).get("include_usage"))
        with_usage = {"usage": None} if wants_usage else {}
        for number, (ask, answers) in enumerate(zip(self._asks, self._answers, strict=True)):
            echo = self._echo(ask)
            offsets = [len(echo)] * n
            for i in range(n if echo else 0):
                await stream.data({**self._head, "choices": [_choice(number * n + i, echo)]})
            async for event in answers.events(self._exchange.settings.keep_alive):
                if isinstance(event, Silence):
                    await stream.keep_alive()
                elif isinstance(event, Piece):
                    chunk = event.chunk
                    choice = _choice(number * n + event.index, chunk.text)
                    if chunk.logprobs is not None:
                        choice["logprobs"] = legacy_logprobs(
                            list(chunk.logprobs), offsets[event.index], None, self
                        )
                    offsets[event.index] += len(chunk.text)
                    if chunk.text or chunk.logprobs:
                        await stream.data({**self._head, "choices": [choice], **with_usage})
                    if chunk.finish_reason is not None:
                        last = _choice(number * n + event.index, "")
                        last["finish_reason"] = finish_reason(chunk)
                        await stream.data({**self._head, "choices": [last], **with_usage})
        usage, first = self._usage()
        if wants_usage:
            await stream.data(
                {**self._head, "choices": [], "usage": usage, "timings": timings(first)}
            )
        await stream.end(DONE)


def _choice(index: int, text: str) -> RawJson:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": None}


def legacy_logprobs(
    entries: list[TokenLogprob | None], offset: int, ids: Any, writer: _Writer
) -> RawJson:
    """Log-probabilities as this old endpoint has them; of the first token of a prompt there is none.

    ``ids`` are the tokens of the prompt, whose entries come first.
    """
    tokens: list[str] = []
    offsets: list[int] = []
    values: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    for i, entry in enumerate(entries):
        text = entry.text if entry is not None else writer.piece(ids[i])
        tokens.append(text)
        offsets.append(offset)
        offset += len(text)
        values.append(None if entry is None else entry.logprob)
        tops.append(None if entry is None else {one.text: one.logprob for one in entry.top})
    return {
        "tokens": tokens,
        "token_logprobs": values,
        "top_logprobs": tops,
        "text_offset": offsets,
    }
