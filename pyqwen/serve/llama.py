"""llama.cpp's own endpoints: health, properties, tokens, templates, plain completions, metrics."""

from __future__ import annotations

import asyncio
from dataclasses import fields as dataclass_fields
from typing import Any

import msgspec

from pyqwen.model import Model
from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError, refusals
from pyqwen.serve.exchange import Exchange
from pyqwen.serve.fields import RawJson, fingerprint
from pyqwen.serve.tool_calls import checked_tools


class TokenizeRequest(msgspec.Struct):
    content: str = ""
    model: str | None = None
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeRequest(msgspec.Struct):
    tokens: list[int] = []
    model: str | None = None


class TemplateRequest(msgspec.Struct):
    messages: list[RawJson]
    model: str | None = None
    tools: list[RawJson] | None = None
    chat_template_kwargs: RawJson | None = None
    add_generation_prompt: bool = True


class LlamaEndpoints:
    """Those that answer at once."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def health(self, exchange: Exchange) -> None:
        """200 once a request would be answered without waiting for the first model."""
        first = self._core.registry.all[0]
        if first.opening is not None and first.model is None:
            raise ApiError(503, "Loading model", code="loading", retry_after=1)
        await exchange.reply({"status": "ok"})

    async def props(self, exchange: Exchange) -> None:
        async with self._core.registry.lease(None) as lease:
            model = lease.model
            defaults = {
                field.name: getattr(model.defaults, field.name)
                for field in dataclass_fields(model.defaults)
            }
            params = {**llama_settings(defaults), "seed": 0xFFFFFFFF, "n_predict": -1}
            try:
                template = model.chat_template.source
            except ValueError:
                template = ""
            tokenizer = model.tokenizer
            await exchange.reply(
                {
                    "default_generation_settings": {"n_ctx": model.context, "params": params},
                    "total_slots": model.max_sequences,
                    "model_alias": lease.served.name,
                    "model_path": model.path.name,
                    "chat_template": template,
                    "bos_token": _text_of(model, tokenizer.bos_id),
                    "eos_token": _text_of(model, tokenizer.eos_id),
                    "modalities": {"vision": False, "audio": False},
                    "build_info": fingerprint(),
                    "is_sleeping": False,
                }
            )

    async def slots(self, exchange: Exchange) -> None:
        """How many places are in use: their contents are nobody else's business."""
        served = self._core.registry.all[0]
        places = served.model.max_sequences if served.model is not None else 0
        context = served.model.context if served.model is not None else 0
        await exchange.reply(
            [{"id": i, "n_ctx": context, "is_processing": i < served.users} for i in range(places)]
        )

    async def metrics(self, exchange: Exchange) -> None:
        metrics = self._core.metrics
        started = (b"process-start-time-unix", str(int(metrics.started)).encode())
        text = metrics.text(waiting=self._core.waiting).encode()
        await exchange.reply_bytes(text, "text/plain; version=0.0.4", 200, [started])

    async def tokenize(self, exchange: Exchange) -> None:
        request = exchange.body(TokenizeRequest)
        async with self._core.registry.lease(request.model) as lease:
            tokenizer = lease.model.tokenizer
            bos = request.add_special and tokenizer.bos_id is not None and tokenizer.add_bos
            ids = await asyncio.to_thread(
                tokenizer.encode, request.content, request.parse_special, add_bos=bos
            )
            tokens: list[Any] = ids
            if request.with_pieces:
                tokens = [{"id": token, "piece": _piece(lease.model, token)} for token in ids]
            await exchange.reply({"tokens": tokens})

    async def detokenize(self, exchange: Exchange) -> None:
        request = exchange.body(DetokenizeRequest)
        async with self._core.registry.lease(request.model) as lease:
            with refusals():
                text = lease.model.tokenizer.decode(request.tokens)
            await exchange.reply({"content": text})

    async def apply_template(self, exchange: Exchange) -> None:
        request = exchange.body(TemplateRequest)
        async with self._core.registry.lease(request.model) as lease:
            prompt = await asyncio.to_thread(_prompt, lease.model, request)
            await exchange.reply({"prompt": prompt})

    async def count_chat_tokens(self, exchange: Exchange) -> None:
        """How many tokens the prompt of a chat has."""
        request = exchange.body(TemplateRequest)
        async with self._core.registry.lease(request.model) as lease:
            ids = await asyncio.to_thread(prompt_ids, lease.model, request)
            await exchange.reply({"input_tokens": len(ids)})


def _prompt(model: Model, request: TemplateRequest) -> str:
    if request.add_generation_prompt:
        return model.tokenizer.decode(prompt_ids(model, request))
    with refusals():
        return model.chat_template.render(
            request.messages,
            tools=checked_tools(request.tools),
            add_generation_prompt=False,
            template_variables=request.chat_template_kwargs,
        ).text


def prompt_ids(model: Model, request: TemplateRequest) -> list[int]:
    """The tokens of the prompt that a chat makes."""
    with refusals():
        return model.chat_prompt(
            request.messages,
            tools=checked_tools(request.tools),
            template_variables=request.chat_template_kwargs,
        )


def _piece(model: Model, token: int) -> str | list[int]:
    data = model.tokenizer.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)


def _text_of(model: Model, token: int | None) -> str:
    return "" if token is None else model.tokenizer.decode([token])


_LLAMA_NAMES = {
    "repetition_penalty": "repeat_penalty",
    "typical_p": "typical_p",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "ignore_eos": "ignore_eos",
}


def llama_settings(options: RawJson) -> RawJson:
    """Settings under llama.cpp's names."""
    settings = {other: options.get(name) for name, other in _LLAMA_NAMES.items()}
    return settings | {"stop": list(options.get("stop") or ())}
