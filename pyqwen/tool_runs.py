"""The calls of a model that answer with tools: they go on until there is an answer in words.

What is said between model and tools is decided in ``tools/loop.py``; here the model is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack

from pyqwen.completions import Completions
from pyqwen.results import ChatCompletion, Chunk, ToolCall

if TYPE_CHECKING:
    from pyqwen.engine.stream import AsyncStream, Stream
    from pyqwen.options import ConversationOptions, ToolLike
    from pyqwen.text.messages import Messages
    from pyqwen.tools.loop import OnCall, ToolLoop, ToolResult

ToolEvent: TypeAlias = "Chunk | ToolCall | ToolResult"
"""A piece of an answer, a call that is about to be made, or what came of it."""


class ToolRuns(Completions):
    """A part of :class:`pyqwen.Model`."""

    def run_tools(
        self,
        messages: Messages,
        tools: Sequence[ToolLike],
        *,
        max_rounds: int = 8,
        on_call: OnCall | None = None,
        **options: Unpack[ConversationOptions],
    ) -> ChatCompletion:
        """As ``chat`` with ``tools``, and calls them until there is an answer; it has ``.messages``, all that
        was said.

        Functions are called one after the other in this thread, async ones too. What a function raises
        becomes its result, so that the model can do otherwise; so does ``on_call(call)`` where it
        returns False. After ``max_rounds`` answers, or where one calls a tool that was given as a dict, the
        last answer is returned with ``finish_reason`` ``tool_calls``. A ``tool_choice`` that forces a call
        counts for the first answer alone.
        """
        return self.stream_tools(
            messages, tools, max_rounds=max_rounds, on_call=on_call, **options
        ).result()

    async def arun_tools(
        self,
        messages: Messages,
        tools: Sequence[ToolLike],
        *,
        max_rounds: int = 8,
        on_call: OnCall | None = None,
        **options: Unpack[ConversationOptions],
    ) -> ChatCompletion:
        """As ``run_tools``. Functions that are not async run in another thread; ``on_call`` may be async."""
        loop = _loop(messages, tools, options, max_rounds, on_call)
        while True:
            reply = await self.achat(loop.messages, **loop.options)
            calls = loop.take(reply)
            if not calls:
                return loop.finished(reply)
            for call in calls:
                await loop.arun(call)

    def stream_tools(
        self,
        messages: Messages,
        tools: Sequence[ToolLike],
        *,
        max_rounds: int = 8,
        on_call: OnCall | None = None,
        **options: Unpack[ConversationOptions],
    ) -> ToolRun:
        """As ``run_tools``, as events: chunks of answers, each ``ToolCall`` before it is made, and its
        ``ToolResult``. Leaving the loop, or ``cancel()``, stops it."""
        loop = _loop(messages, tools, options, max_rounds, on_call)
        return ToolRun(loop, lambda: self.stream_chat(loop.messages, **loop.options))

    def astream_tools(
        self,
        messages: Messages,
        tools: Sequence[ToolLike],
        *,
        max_rounds: int = 8,
        on_call: OnCall | None = None,
        **options: Unpack[ConversationOptions],
    ) -> AsyncToolRun:
        """As ``stream_tools``, for ``async for``."""
        loop = _loop(messages, tools, options, max_rounds, on_call)
        return AsyncToolRun(loop, lambda: self.astream_chat(loop.messages, **loop.options))


def _loop(
    messages: Any, tools: Any, options: Any, max_rounds: Any, on_call: OnCall | None
) -> ToolLoop:
    from pyqwen.tools.loop import ToolLoop

    return ToolLoop(messages, tools, options, max_rounds, on_call)


class _Run:
    """What both kinds of runs know."""

    def __init__(self, loop: ToolLoop) -> None:
        self._loop = loop
        self._stream: Stream[ChatCompletion] | AsyncStream[ChatCompletion] | None = None
        self._is_cancelled = False
        self._completion: ChatCompletion | None = None

    @property
    def completion(self) -> ChatCompletion | Any:
        """The last answer, with ``.messages``; None until the run is over."""
        return self._completion

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All that has been said so far."""
        return list(self._loop.messages)

    def cancel(self) -> None:
        """Stop: the answer that is being written ends with ``finish_reason`` ``cancelled``. A function that
        runs goes on, and nothing is called after it. Any thread may call."""
        self._is_cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    def _calls(self, reply: ChatCompletion) -> list[ToolCall]:
        """Take an answer; without calls the run is over."""
        calls = self._loop.take(reply)
        if not calls:
            self._completion = self._loop.finished(reply)
        return calls

    def _is_stopped(self, reply: ChatCompletion) -> bool:
        """Whether it was cancelled behind an answer; the run is over then."""
        if self._is_cancelled:
            self._completion = self._loop.finished(replace(reply, finish_reason="cancelled"))
        return self._is_cancelled


class ToolRun(_Run):
    """A run of ``stream_tools``: iterate over its events, once."""

    def __init__(self, loop: ToolLoop, ask: Callable[[], Stream[ChatCompletion]]) -> None:
        super().__init__(loop)
        self._events = self._run(ask)

    def __iter__(self) -> Iterator[ToolEvent]:
        with closing(self):
            yield from self._events

    def __next__(self) -> ToolEvent:
        return next(self._events)

    def _run(self, ask: Callable[[], Stream[ChatCompletion]]) -> Iterator[ToolEvent]:
        while True:
            with ask() as stream:
                self._stream = stream
                if self._is_cancelled:
                    stream.cancel()
                yield from stream
            reply: ChatCompletion = stream.result()
            calls = self._calls(reply)
            if not calls:
                return
            for call in calls:
                yield call
                if self._is_stopped(reply):
                    return
                yield self._loop.run(call)
            if self._is_stopped(reply):
                return

    def result(self) -> ChatCompletion:
        """Go on to the end, dropping the events that were not read, and return the last answer."""
        for _ in self._events:
            pass
        if self._completion is None:
            raise RuntimeError("the run was left before its end")
        return self._completion

    def close(self) -> None:
        """Stop, and wait until the model has stopped."""
        self.cancel()
        self._events.close()  # type: ignore[attr-defined]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncToolRun(_Run):
    """A run of ``astream_tools``: a ``ToolRun`` for ``async for`` and ``async with``."""

    def __init__(self, loop: ToolLoop, ask: Callable[[], AsyncStream[ChatCompletion]]) -> None:
        super().__init__(loop)
        self._events = self._run(ask)

    async def __aiter__(self) -> AsyncIterator[ToolEvent]:
        async with aclosing(self):
            async for event in self._events:
                yield event

    async def __anext__(self) -> ToolEvent:
        return await anext(self._events)

    async def _run(
        self, ask: Callable[[], AsyncStream[ChatCompletion]]
    ) -> AsyncIterator[ToolEvent]:
        while True:
            async with ask() as stream:
                self._stream = stream
                if self._is_cancelled:
                    stream.cancel()
                async for chunk in stream:
                    yield chunk
            reply: ChatCompletion = await stream.result()
            calls = self._calls(reply)
            if not calls:
                return
            for call in calls:
                yield call
                if self._is_stopped(reply):
                    return
                yield await self._loop.arun(call)
            if self._is_stopped(reply):
                return

    async def result(self) -> ChatCompletion:
        """Go on to the end, dropping the events that were not read, and return the last answer."""
        async for _ in self._events:
            pass
        if self._completion is None:
            raise RuntimeError("the run was left before its end")
        return self._completion

    async def aclose(self) -> None:
        """Stop, and wait until the model has stopped."""
        self.cancel()
        await self._events.aclose()  # type: ignore[attr-defined]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
