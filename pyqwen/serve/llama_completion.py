"""llama.cpp's /completion and /infill."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import msgspec

from pyqwen.model import Model
from pyqwen.serve.asking import Answers, Ask, Piece, Reading, Silence
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import EventStream, Exchange
from pyqwen.serve.fields import RawJson, Sampling, biases_of_tokens, llama_logprob, timings
from pyqwen.serve.llama import llama_settings
from pyqwen.serve.openai_completions import MAX_PROMPTS
from pyqwen.serve.registry import Lease
from pyqwen.serve.structure import response_format


class LlamaRequest(Sampling, kw_only=True):
    prompt: Any = None
    model: str | None = None
    n_predict: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    n_cmpl: int | None = None
    n_probs: int = 0
    post_sampling_probs: bool = False
    stream: bool = False
    return_tokens: bool = False
    return_progress: bool = False
    response_fields: list[str] | None = None
    grammar: str | None = None
    json_schema: RawJson | None = None
    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[RawJson] = msgspec.field(default_factory=list)


class LlamaCompletion:
    """Both endpoints."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def complete(self, exchange: Exchange) -> None:
        request = exchange.body(LlamaRequest)
        prompts, is_list = _prompts(request.prompt)
        options = self._options(request)
        n = request.n_cmpl or request.n or 1
        async with self._core.registry.lease(request.model, len(prompts) * n) as lease:
            biases_of_tokens(options, lease.model.tokenizer.encode)
            many = await asyncio.to_thread(
                lambda: [_encode(lease.model, prompt) for prompt in prompts]
            )
            asks = [Ask(dict(options), prompt=ids, n=n) for ids in many]
            await self._answer(exchange, request, lease, asks, is_list or n > 1)

    async def infill(self, exchange: Exchange) -> None:
        request = exchange.body(LlamaRequest)
        options = self._options(request)
        files: dict[str, str] = {}
        for file in request.input_extra:
            name, text = file.get("filename", ""), file.get("text")
            if not isinstance(name, str) or not isinstance(text, str):
                raise ApiError(400, "extra files have a filename and a text", param="input_extra")
            files[name or f"file {len(files) + 1}"] = text
        prompt = request.prompt or ""
        if not isinstance(prompt, str):
            raise ApiError(400, "the prompt of /infill is a text", param="prompt")
        async with self._core.registry.lease(request.model) as lease:
            biases_of_tokens(options, lease.model.tokenizer.encode)
            options["files"] = files or None
            ask = Ask(options, gap=(request.input_prefix + prompt, request.input_suffix))
            await self._answer(exchange, request, lease, [ask], False)

    def _options(self, request: LlamaRequest) -> RawJson:
        options = request.options()
        limit = request.max_tokens if request.n_predict is None else request.n_predict
        options["max_tokens"] = None if limit is None or limit < 0 else limit
        if request.n_probs > 0:
            if request.post_sampling_probs:
                raise ApiError(
                    501,
                    "post_sampling_probs is not supported: probabilities are the model's own",
                    code="unsupported",
                    param="post_sampling_probs",
                )
            options["logprobs"], options["top_logprobs"] = True, request.n_probs
        options["response_format"] = response_format(
            None, schema=request.json_schema, gbnf=request.grammar
        )
        return options

    async def _answer(
        self,
        exchange: Exchange,
        request: LlamaRequest,
        lease: Lease,
        asks: list[Ask],
        is_list: bool,
    ) -> None:
        writer = _Writer(request, lease.name, lease.model)
        async with self._core.running(lease, asks) as running:
            if request.stream:
                await writer.stream(exchange, asks, running)
                return
            bodies: list[RawJson] = []
            for ask, answers in zip(asks, running, strict=True):
                for done in await answers.whole():
                    bodies.append(writer.last(len(bodies), ask, done, done.text))
            await exchange.reply(bodies if is_list else bodies[0])


def _prompts(prompt: Any) -> tuple[list[list[Any]], bool]:
    """Prompts as lists of texts and ids, and whether there is a list of them."""
    if isinstance(prompt, str | dict):
        return [[_part(prompt)]], False
    if isinstance(prompt, list) and prompt and len(prompt) <= 2**20:
        if any(type(part) is int for part in prompt):
            return [[_part(part) for part in prompt]], False  # texts and ids in one sequence
        if len(prompt) <= MAX_PROMPTS:
            many = [
                [_part(part) for part in item] if isinstance(item, list) else [_part(item)]
                for item in prompt
            ]
            return many, True
    raise ApiError(400, "prompt must be a text, token ids, or a list of them", param="prompt")


def _part(part: Any) -> str | int:
    if isinstance(part, dict):
        if part.get("multimodal_data"):
            raise ApiError(501, "this server reads texts alone", param="prompt")
        part = part.get("prompt_string")
    if isinstance(part, str) or type(part) is int:
        return part
    raise ApiError(400, "prompt holds what is neither text nor token ids", param="prompt")


def _encode(model: Model, parts: list[str | int]) -> list[int]:
    ids: list[int] = []
    for i, part in enumerate(parts):
        if isinstance(part, int):
            ids.append(part)
        elif i == 0:
            ids += model.tokenizer.encode(part, True)
        else:
            ids += model.tokenizer.encode(part, True, add_bos=False)
    if not ids:
        raise ApiError(400, "the prompt is empty", param="prompt")
    return ids


class _Writer:
    def __init__(self, request: LlamaRequest, name: str, model: Model) -> None:
        self._request = request
        self._name = name
        self._model = model

    async def stream(self, exchange: Exchange, asks: list[Ask], running: list[Answers]) -> None:
        stream = EventStream(exchange)
        await stream.start()
        number = 0
        for ask, answers in zip(asks, running, strict=True):
            async for event in answers.events(exchange.settings.keep_alive):
                if isinstance(event, Silence):
                    await stream.keep_alive()
                elif isinstance(event, Reading) and self._request.return_progress:
                    body = {"index": number, "content": "", "tokens": [], "stop": False}
                    await stream.data({**body, "prompt_progress": event.progress()})
                elif isinstance(event, Piece) and (event.chunk.text or event.chunk.token_ids):
                    await stream.data(self._next(number + event.index, event.chunk))
            for done in answers.completions:
                await stream.data(self.last(number, ask, done, ""))
                number += 1
        await stream.end()

    def _next(self, index: int, chunk: Any) -> RawJson:
        body: RawJson = {
            "index": index,
            "content": chunk.text,
            "tokens": chunk.token_ids,
            "stop": False,
            "id_slot": -1,
        }
        if chunk.logprobs is not None:
            body["completion_probabilities"] = _probabilities(chunk.logprobs)
        return body

    def last(self, index: int, ask: Ask, done: Any, text: str) -> RawJson:
        """The body that tells everything about a complete answer."""
        prompt = self._model.tokenizer.decode(ask.prompt) if isinstance(ask.prompt, list) else ""
        stop = {"length": "limit", "timeout": "limit"}.get(str(done.finish_reason))
        settings = {
            **llama_settings({**_defaults(self._model), **_given(ask.options)}),
            "n_predict": -1 if ask.options["max_tokens"] is None else ask.options["max_tokens"],
            "seed": done.seed,
            "logit_bias": self._biases(ask),
        }
        body: RawJson = {
            "index": index,
            "content": text,
            "tokens": done.token_ids if self._request.return_tokens else [],
            "id_slot": -1,
            "stop": True,
            "model": self._name,
            "tokens_predicted": done.usage.completion_tokens,
            "tokens_evaluated": done.usage.prompt_tokens,
            "tokens_cached": done.usage.cached_tokens,
            "generation_settings": settings,
            "prompt": prompt,
            "has_new_line": "\n" in done.text,
            "truncated": False,
            "stop_type": stop or ("word" if isinstance(done.stop_reason, str) else "eos"),
            "stopping_word": done.stop_reason if isinstance(done.stop_reason, str) else "",
            "timings": timings(done),
        }
        if done.logprobs is not None and not self._request.stream:
            body["completion_probabilities"] = _probabilities(done.logprobs)
        if self._request.response_fields:
            return {
                name: value
                for name in self._request.response_fields
                if (value := _field(body, name)) is not None
            }
        return body

    def _biases(self, ask: Ask) -> list[RawJson]:
        """Of each token that has one; None stands for minus infinity."""
        bias = dict(ask.options.get("logit_bias") or {})
        if ask.options.get("ignore_eos"):
            bias |= dict.fromkeys(self._model.tokenizer.eog_ids, -math.inf)
        return [
            {"token": token, "bias": None if math.isinf(value) else value}
            for token, value in bias.items()
        ]


def _field(body: RawJson, path: str) -> Any:
    value: Any = body
    for name in path.split("/"):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _given(options: RawJson) -> RawJson:
    return {name: value for name, value in options.items() if value is not None}


def _defaults(model: Model) -> RawJson:
    return {name: getattr(model.defaults, name) for name in model.defaults.__slots__}


def _probabilities(logprobs: Any) -> list[RawJson]:
    return [llama_logprob(one, with_top=True) for one in logprobs]
