"""Waiting for a request: the iterators that callers see, synchronous and for asyncio.

Knows requests and their events, and the engine only as what cancels them. What leaves these objects
early, by ``break``, an exception or garbage collection, stops the model.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast

from pyqwen.engine.preparation import submit
from pyqwen.engine.request import Event, PromptProgress, Request
from pyqwen.errors import PyQwenError
from pyqwen.results import Chunk, Completion, FinishReason
from pyqwen.text.partial_json import parse_partial

if TYPE_CHECKING:
    import asyncio

    from pyqwen.engine.engine import Engine

OnPrompt = Callable[[int, int], object]
"""Called with the tokens of the prompt that are read and their total, in the waiting thread."""

_STOP_SECONDS = 1.0  # within which the engine ends a cancelled request, on a machine that is busy
_POLL_SECONDS = 0.1  # on Windows a wait without a limit would not notice Ctrl-C


def _is_last(event: Event) -> bool:
    return not isinstance(event, Chunk | PromptProgress)


class _LastEvent:
    """The last event of a request, for those who do not read the events before it."""

    def __init__(self) -> None:
        self._event: Event | None = None
        self._is_here = threading.Event()

    def note(self, event: Event) -> None:
        """Keep the event if it is the last."""
        if _is_last(event):
            self._event = event
            self._is_here.set()

    def wait(self, seconds: float) -> Event | None:
        """Wait for it; None if it does not come in time."""
        return self._event if self._is_here.wait(seconds) else None


class Waiter:
    """The events of one request, for the threads that wait for it: each event for one of them.

    The last event stays in the queue, so that it ends the wait of all of them.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._events: SimpleQueue[Event] = SimpleQueue()
        self.last = _LastEvent()

    def deliver(self, event: Event) -> None:
        """Called by the engine's thread."""
        self.last.note(event)
        self._events.put(event)

    def next_event(self) -> Event:
        """Wait for the next event; Ctrl-C interrupts the wait."""
        while True:
            with suppress(Empty):
                event = self._events.get(timeout=_POLL_SECONDS)
                if _is_last(event):
                    self._events.put(event)
                return event
            self.engine.check_process()

    def last_event(self, request: Request) -> Any:
        """Submit and wait for the result; what interrupts the wait cancels the request."""
        return last_events([self], [request])[0]

    def result(self, request: Request) -> Any:
        """Wait for what a submitted request ends with; raise it if it is an exception."""
        while not _is_last(event := self.next_event()):
            pass
        if isinstance(event, BaseException):
            raise event
        return _concluded(request, event)


def _concluded(request: Request, event: Any) -> Any:
    """The last event of a request, and what is made of it if it is an answer; may raise."""
    if request.conclusion is None or not isinstance(event, Completion):
        return event
    return request.conclusion(event)


def last_events(waiters: Sequence[Waiter], requests: Sequence[Request]) -> list[Any]:
    """Submit requests and wait for all results; the first that fails, or an interrupt, cancels all."""
    engine = waiters[0].engine
    try:
        submit(engine, *requests)
        return [w.result(request) for w, request in zip(waiters, requests, strict=True)]
    finally:
        for request in requests:
            engine.cancel(request)


class AsyncWaiter:
    """A ``Waiter`` for the tasks of the running event loop."""

    def __init__(self, engine: Engine) -> None:
        import asyncio  # takes as long as the rest of the package, and most programs do without

        self.engine = engine
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.last = _LastEvent()

    def deliver(self, event: Event) -> None:
        """Called by the engine's thread; ``RuntimeError`` if the loop is closed."""
        self.last.note(event)
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next_event(self) -> Event:
        event = await self._events.get()
        if _is_last(event):
            self._events.put_nowait(event)
        return event

    async def last_event(self, request: Request) -> Any:
        """As ``Waiter.last_event``."""
        return (await async_last_events([self], [request]))[0]

    async def result(self, request: Request) -> Any:
        """As ``Waiter.result``."""
        while not _is_last(event := await self.next_event()):
            pass
        if isinstance(event, BaseException):
            raise event
        return await _concluded_beside(request, event)


async def _concluded_beside(request: Request, event: Any) -> Any:
    """As ``_concluded``; the event loop goes on meanwhile."""
    if request.conclusion is None or not isinstance(event, Completion):
        return event
    import asyncio

    return await asyncio.to_thread(request.conclusion, event)


async def async_last_events(
    waiters: Sequence[AsyncWaiter], requests: Sequence[Request]
) -> list[Any]:
    """As ``last_events``."""
    engine = waiters[0].engine
    try:
        submit(engine, *requests)
        return [await w.result(request) for w, request in zip(waiters, requests, strict=True)]
    finally:
        for request in requests:
            engine.cancel(request)


Answer = TypeVar("Answer", bound=Completion)
"""What a stream ends with."""


class _Progress(Generic[Answer]):
    """What both kinds of streams know about their request."""

    def __init__(
        self,
        owner: object,
        engine: Engine,
        last: _LastEvent,
        request: Request,
        on: OnPrompt | None,
    ) -> None:
        self._owner = owner  # the model: must not be collected before its stream
        self._engine = engine
        self._last = last
        self._request = request
        self._on_prompt = on
        self._cancelled = False
        self._completion: Answer | None = None
        self._error: BaseException | None = None
        self._texts: list[str] = []  # of the chunks so far

    @property
    def partial(self) -> Any:
        """The JSON so far, as far as it parses: open strings, lists and objects as they are; None before
        there is any. It takes as long as the text is: ask when something is to be shown."""
        text = "".join(self._texts)
        self._texts[:] = [text]
        return parse_partial(text)

    @property
    def completion(self) -> Answer | Any:
        """The whole answer with its usage and timings; None until the stream has ended.

        A stream that was cancelled, by ``cancel``, by leaving its loop or with its task, ends within
        milliseconds, and this waits for it.
        """
        if self._completion is None and self._cancelled and self._error is None:
            last = self._last.wait(_STOP_SECONDS)
            if not isinstance(last, Completion):
                return None
            with suppress(PyQwenError):  # it had ended before it was cancelled, and is no good
                last = _concluded(self._request, last)
            return last
        return self._completion  # typed so that those who read the stream to its end need no check

    @property
    def _ended(self) -> bool:
        return self._completion is not None or self._error is not None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the answer ended; None until the stream has ended. It waits as ``completion`` does."""
        completion = self.completion
        return completion.finish_reason if completion is not None else None

    @property
    def cached_tokens(self) -> int:
        """How many tokens of the prompt need not be read: known when reading has begun."""
        return int(getattr(self._request, "cached", 0))

    def cancel(self) -> None:
        """Stop the model; the stream ends with ``finish_reason`` ``cancelled``. Any thread may call."""
        self._cancelled = True
        self._engine.cancel(self._request)

    def _chunk_of(self, event: Event) -> Chunk | None:
        """Note what an event says; return it if it is a chunk, raise it if it is an exception."""
        if isinstance(event, Chunk):
            self._texts.append(event.text)
            return event
        if isinstance(event, BaseException):
            self._error = event
            raise event
        if isinstance(event, PromptProgress):
            if self._on_prompt is not None:
                self._on_prompt(event.done, event.total)
        elif isinstance(event, Completion):
            self._completion = cast(Answer, event)
        return None

    def _result(self) -> Answer:
        if self._error is not None:
            raise self._error
        assert self._completion is not None, "the stream has not ended"
        return self._completion

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: it is a running request"
        )

    def __del__(self) -> None:
        if "_error" in self.__dict__ and not self._ended:  # else __init__ failed
            self.cancel()


class Stream(_Progress[Answer]):
    """An answer while it is written: iterate over its ``Chunk`` objects, once.

    Leaving the loop, the ``with`` block or the last reference stops the model. The ``completion`` is
    there when the stream has ended. Several threads may use one stream: each chunk goes to one of
    them, and the end ends the wait of all.
    """

    def __init__(
        self,
        owner: object,
        engine: Engine,
        waiter: Waiter,
        request: Request,
        on_prompt: OnPrompt | None,
    ) -> None:
        super().__init__(owner, engine, waiter.last, request, on_prompt)
        self._waiter = waiter
        submit(engine, request)

    def __iter__(self) -> Iterator[Chunk]:
        try:
            while (chunk := self._advance()) is not None:
                yield chunk
        finally:
            self.cancel()

    def __next__(self) -> Chunk:
        chunk = self._advance()
        if chunk is None:
            raise StopIteration
        return chunk

    def _advance(self) -> Chunk | None:
        while not self._ended:
            event = self._waiter.next_event()
            try:
                event = _concluded(self._request, event)
            except PyQwenError as error:
                event = error
            chunk = self._chunk_of(event)
            if chunk is not None:
                return chunk
        return None

    def result(self) -> Answer:
        """Wait for the end, dropping the chunks that were not read, and return the whole answer."""
        while self._advance() is not None:
            pass
        return self._result()

    def close(self) -> None:
        """Stop the model and wait until it has stopped; not an error when the stream has ended."""
        self.cancel()
        if not self._ended:
            with suppress(PyQwenError):
                self.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncStream(_Progress[Answer]):
    """A ``Stream`` for ``async for`` and ``async with``; it belongs to one event loop."""

    def __init__(
        self,
        owner: object,
        engine: Engine,
        waiter: AsyncWaiter,
        request: Request,
        on_prompt: OnPrompt | None,
    ) -> None:
        super().__init__(owner, engine, waiter.last, request, on_prompt)
        self._waiter = waiter
        submit(engine, request)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            while (chunk := await self._advance()) is not None:
                yield chunk
        finally:
            self.cancel()

    async def __anext__(self) -> Chunk:
        chunk = await self._advance()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def _advance(self) -> Chunk | None:
        from asyncio import CancelledError

        while not self._ended:
            try:
                event = await self._waiter.next_event()
                event = await _concluded_beside(self._request, event)
            except CancelledError:
                self.cancel()
                raise
            except PyQwenError as error:
                event = error
            chunk = self._chunk_of(event)
            if chunk is not None:
                return chunk
        return None

    async def result(self) -> Answer:
        """Wait for the end, dropping the chunks that were not read, and return the whole answer."""
        while await self._advance() is not None:
            pass
        return self._result()

    async def close(self) -> None:
        """Stop the model and wait until it has stopped; not an error when the stream has ended."""
        self.cancel()
        if not self._ended:
            with suppress(PyQwenError):
                await self.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
