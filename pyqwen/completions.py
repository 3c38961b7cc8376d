"""The calls of a model that write text: whole or in chunks, continuing a text or answering a chat, and the
same for asyncio. What a call means becomes a request in ``engine/calls.py``; its keywords are in
``options.py``.
"""

from __future__ import annotations

from typing import Unpack, cast

from pyqwen.engine.calls import Calls, Prompt
from pyqwen.engine.engine import Engine
from pyqwen.engine.stream import AsyncStream, AsyncWaiter, OnPrompt, Stream, Waiter
from pyqwen.options import ChatOptions, GenerateOptions
from pyqwen.results import ChatCompletion, Completion
from pyqwen.sampling import SamplingParams
from pyqwen.text.messages import Messages


class Completions:
    """A part of :class:`pyqwen.Model`, which has the engine."""

    _engine: Engine
    _calls: Calls

    def generate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """Continue ``prompt``, a text or token ids, and return the whole continuation.

        ``params`` and keywords of the same names set how; both leave the rest to ``defaults``.
        In a text, the names of control tokens count as text unless ``special=True``.
        Raises ``ContextOverflowError`` for a prompt longer than the context, ``CancelledError`` if
        the model is closed meanwhile, ``NumericError`` if the weights are damaged.
        """
        waiter = Waiter(self._engine)
        request = self._calls.continuation(prompt, params, options, waiter.deliver)
        return cast(Completion, waiter.last_event(request))

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Stream[Completion]:
        """As ``generate``, in chunks as they are written.

        ``on_prompt(done, total)`` is called now and then while the prompt is read, by the thread
        that waits for the chunks.
        """
        waiter = Waiter(self._engine)
        request = self._calls.continuation(prompt, params, options, waiter.deliver, True)
        return Stream(self, self._engine, waiter, request, on_prompt)

    def chat(
        self,
        messages: Messages,
        *,
        params: SamplingParams | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion:
        """Answer a conversation: a user's text, or messages ``{"role": ..., "content": ...}``.

        The prompt is made by the file's own template. What an earlier call read or wrote is not
        computed again: append ``ChatCompletion.message`` to the conversation, which carries the
        tokens that the model wrote. ``template=`` names another one that the file holds, such as
        ``"tool_use"``. ``template_variables=`` are seen by the template, such as Qwen3's
        ``{"enable_thinking": False}``. The rest as in ``generate``; besides, ``TemplateError`` for
        messages that the template refuses, ``ValueError`` for ``token_ids`` of another content.
        """
        waiter = Waiter(self._engine)
        request = self._calls.answer(messages, params, options, waiter.deliver)
        return cast(ChatCompletion, waiter.last_event(request))

    def chat_prompt(self, messages: Messages, **options: Unpack[ChatOptions]) -> list[int]:
        """The tokens that ``chat`` would read, its template, tools and all. Nothing is computed.

        Raises as ``chat`` does for what cannot be asked.
        """
        return self._calls.chat_prompt(messages, options)

    def stream_chat(
        self,
        messages: Messages,
        *,
        params: SamplingParams | None = None,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[ChatOptions],
    ) -> Stream[ChatCompletion]:
        """As ``chat``, in chunks as they are written. ``on_prompt`` as in ``stream``."""
        waiter = Waiter(self._engine)
        request = self._calls.answer(messages, params, options, waiter.deliver, True)
        return Stream(self, self._engine, waiter, request, on_prompt)

    async def agenerate(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Completion:
        """As ``generate``. Cancelling the task stops the model."""
        from asyncio import to_thread

        waiter = AsyncWaiter(self._engine)
        # Cutting megabytes into tokens takes longer than an event loop may stand still.
        request = await to_thread(self._calls.continuation, prompt, params, options, waiter.deliver)
        return cast(Completion, await waiter.last_event(request))

    def astream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream[Completion]:
        """As ``stream``, for ``async for``; called in a running event loop.

        A long text is cut into tokens before this returns, which takes some 0.05 s per megabyte: in a
        server ``await model.astart(text)`` instead.
        """
        waiter = AsyncWaiter(self._engine)
        request = self._calls.continuation(prompt, params, options, waiter.deliver, True)
        return AsyncStream(self, self._engine, waiter, request, on_prompt)

    async def astart(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncStream[Completion]:
        """As ``astream``, but the event loop goes on while the prompt is cut into tokens."""
        from asyncio import to_thread

        waiter = AsyncWaiter(self._engine)
        request = await to_thread(
            self._calls.continuation, prompt, params, options, waiter.deliver, True
        )
        return AsyncStream(self, self._engine, waiter, request, on_prompt)

    async def achat(
        self,
        messages: Messages,
        *,
        params: SamplingParams | None = None,
        **options: Unpack[ChatOptions],
    ) -> ChatCompletion:
        """As ``chat``. Cancelling the task stops the model."""
        from asyncio import to_thread

        waiter = AsyncWaiter(self._engine)
        request = await to_thread(self._calls.answer, messages, params, options, waiter.deliver)
        return cast(ChatCompletion, await waiter.last_event(request))

    def astream_chat(
        self,
        messages: Messages,
        *,
        params: SamplingParams | None = None,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[ChatOptions],
    ) -> AsyncStream[ChatCompletion]:
        """As ``stream_chat``, for ``async for``; called in a running event loop."""
        waiter = AsyncWaiter(self._engine)
        request = self._calls.answer(messages, params, options, waiter.deliver, True)
        return AsyncStream(self, self._engine, waiter, request, on_prompt)

    async def astart_chat(
        self,
        messages: Messages,
        *,
        params: SamplingParams | None = None,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[ChatOptions],
    ) -> AsyncStream[ChatCompletion]:
        """As ``astream_chat``, but the event loop goes on while the prompt is made."""
        from asyncio import to_thread

        waiter = AsyncWaiter(self._engine)
        request = await to_thread(
            self._calls.answer, messages, params, options, waiter.deliver, True
        )
        return AsyncStream(self, self._engine, waiter, request, on_prompt)
