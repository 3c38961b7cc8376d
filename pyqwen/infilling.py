"""The calls of a model that fill in the middle: what stands between two texts, and the same for asyncio."""

from __future__ import annotations

from typing import Unpack, cast

from pyqwen.engine.calls import Calls
from pyqwen.engine.engine import Engine
from pyqwen.engine.stream import AsyncStream, AsyncWaiter, OnPrompt, Stream, Waiter
from pyqwen.options import InfillOptions
from pyqwen.results import Completion
from pyqwen.sampling import SamplingParams


class Infilling:
    """A part of :class:`pyqwen.Model`, which has the engine."""

    _engine: Engine
    _calls: Calls

    def infill(
        self,
        prefix: str,
        suffix: str,
        params: SamplingParams | None = None,
        **options: Unpack[InfillOptions],
    ) -> Completion:
        """Fill in what stands between ``prefix`` and ``suffix``: for Coder models.

        ``files={name: text}`` are other files of the repository that the model should know,
        ``filename=`` is the name of this one, ``repository=`` that of all. What does not fit the context
        is left out: the first of the files, the beginning of the prefix, the end of the suffix. At most
        512 tokens are written unless ``max_tokens`` says otherwise. Names of control tokens in these
        texts are but text. ``UnsupportedModelError`` if the model has no tokens for this; the rest as in
        ``generate``.
        """
        waiter = Waiter(self._engine)
        request = self._calls.filling(prefix, suffix, params, options, waiter.deliver)
        return cast(Completion, waiter.last_event(request))

    def stream_infill(
        self,
        prefix: str,
        suffix: str,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[InfillOptions],
    ) -> Stream[Completion]:
        """As ``infill``, in chunks as they are written. ``on_prompt`` as in ``stream``."""
        waiter = Waiter(self._engine)
        request = self._calls.filling(prefix, suffix, params, options, waiter.deliver, True)
        return Stream(self, self._engine, waiter, request, on_prompt)

    async def ainfill(
        self,
        prefix: str,
        suffix: str,
        params: SamplingParams | None = None,
        **options: Unpack[InfillOptions],
    ) -> Completion:
        """As ``infill``. Cancelling the task stops the model."""
        import asyncio

        waiter = AsyncWaiter(self._engine)
        request = await asyncio.to_thread(
            self._calls.filling, prefix, suffix, params, options, waiter.deliver
        )
        return cast(Completion, await waiter.last_event(request))

    def astream_infill(
        self,
        prefix: str,
        suffix: str,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[InfillOptions],
    ) -> AsyncStream[Completion]:
        """As ``stream_infill``, for ``async for``; called in a running event loop."""
        waiter = AsyncWaiter(self._engine)
        request = self._calls.filling(prefix, suffix, params, options, waiter.deliver, True)
        return AsyncStream(self, self._engine, waiter, request, on_prompt)

    async def astart_infill(
        self,
        prefix: str,
        suffix: str,
        params: SamplingParams | None = None,
        *,
        on_prompt: OnPrompt | None = None,
        **options: Unpack[InfillOptions],
    ) -> AsyncStream[Completion]:
        """As ``astream_infill``, but the event loop goes on while the prompt is made."""
        import asyncio

        waiter = AsyncWaiter(self._engine)
        request = await asyncio.to_thread(
            self._calls.filling, prefix, suffix, params, options, waiter.deliver, True
        )
        return AsyncStream(self, self._engine, waiter, request, on_prompt)
