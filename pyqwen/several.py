"""The calls of a model that answer one prompt several times, whole or as streams, and the same for asyncio.

The prompt is read once; each answer begins with a copy of what was read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, Unpack

from pyqwen.engine.calls import Calls, Prompt
from pyqwen.engine.engine import Engine
from pyqwen.engine.request import Deliver
from pyqwen.engine.stream import (
    AsyncStream,
    AsyncWaiter,
    OnPrompt,
    Stream,
    Waiter,
    async_last_events,
    last_events,
)
from pyqwen.options import ChatOptions, GenerateOptions
from pyqwen.results import ChatCompletion, Completion
from pyqwen.sampling import SamplingParams
from pyqwen.text.messages import Messages

W = TypeVar("W", Waiter, AsyncWaiter)


class SeveralAnswers:
    """A part of :class:`pyqwen.Model`, which has the engine."""

    _engine: Engine
    _calls: Calls

    def _waiters(self, kind: Callable[[Engine], W], n: int) -> tuple[list[W], list[Deliver]]:
        waiters = [kind(self._engine) for _ in range(self._calls.checked_count(n))]
        return waiters, [waiter.deliver for waiter in waiters]

    def generate_n(
        self,
        prompt: Prompt,
        n: int,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion]:
        """Continue ``prompt`` in ``n`` ways, at most 1,024.

        Number i is what ``generate`` gives with ``seed`` plus i: ``Completion.seed`` tells. The prompt
        is read once. Up to ``max_sequences`` answers are written together, the others after them. If
        one fails, or the wait is interrupted, all end.
        """
        waiters, delivers = self._waiters(Waiter, n)
        return last_events(waiters, self._calls.continuations(prompt, params, options, delivers))

    def chat_n(
        self,
        messages: Messages,
        n: int,
        *,
        params: SamplingParams | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[ChatCompletion]:
        """Answer a conversation in ``n`` ways: ``chat`` as ``generate_n``."""
        waiters, delivers = self._waiters(Waiter, n)
        return last_events(waiters, self._calls.answers(messages, params, options, delivers))

    def stream_n(
        self,
        prompt: Prompt,
        n: int,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Stream[Completion]]:
        """As ``generate_n``, a stream for each answer; they may be read, left and cancelled one by one.

        ``on_prompt`` is called by who reads the first.
        """
        waiters, delivers = self._waiters(Waiter, n)
        requests = self._calls.continuations(prompt, params, options, delivers, True)
        notes = [on_prompt, *[None] * (n - 1)]
        return [
            Stream(self, self._engine, *each) for each in zip(waiters, requests, notes, strict=True)
        ]

    def stream_chat_n(
        self,
        messages: Messages,
        n: int,
        *,
        params: SamplingParams | None = None,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[Stream[ChatCompletion]]:
        """As ``chat_n``, a stream for each answer; see ``stream_n``."""
        waiters, delivers = self._waiters(Waiter, n)
        requests = self._calls.answers(messages, params, options, delivers, True)
        notes = [on_prompt, *[None] * (n - 1)]
        return [
            Stream(self, self._engine, *each) for each in zip(waiters, requests, notes, strict=True)
        ]

    async def agenerate_n(
        self,
        prompt: Prompt,
        n: int,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[Completion]:
        """As ``generate_n``. Cancelling the task stops the model."""
        import asyncio

        waiters, delivers = self._waiters(AsyncWaiter, n)
        requests = await asyncio.to_thread(
            self._calls.continuations, prompt, params, options, delivers
        )
        return await async_last_events(waiters, requests)

    async def achat_n(
        self,
        messages: Messages,
        n: int,
        *,
        params: SamplingParams | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[ChatCompletion]:
        """As ``chat_n``. Cancelling the task stops the model."""
        import asyncio

        waiters, delivers = self._waiters(AsyncWaiter, n)
        requests = await asyncio.to_thread(self._calls.answers, messages, params, options, delivers)
        return await async_last_events(waiters, requests)

    def astream_n(
        self,
        prompt: Prompt,
        n: int,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[AsyncStream[Completion]]:
        """As ``stream_n``, for ``async for``; called in a running event loop, as ``astream``."""
        waiters, delivers = self._waiters(AsyncWaiter, n)
        requests = self._calls.continuations(prompt, params, options, delivers, True)
        notes = [on_prompt, *[None] * (n - 1)]
        return [
            AsyncStream(self, self._engine, *each)
            for each in zip(waiters, requests, notes, strict=True)
        ]

    def astream_chat_n(
        self,
        messages: Messages,
        n: int,
        *,
        params: SamplingParams | None = None,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[ChatOptions],
    ) -> list[AsyncStream[ChatCompletion]]:
        """As ``stream_chat_n``, for ``async for``; called in a running event loop."""
        waiters, delivers = self._waiters(AsyncWaiter, n)
        requests = self._calls.answers(messages, params, options, delivers, True)
        notes = [on_prompt, *[None] * (n - 1)]
        return [
            AsyncStream(self, self._engine, *each)
            for each in zip(waiters, requests, notes, strict=True)
        ]
