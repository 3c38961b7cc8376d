"""What an API wants of a model, and the answers while they are written.

A translation module makes an :class:`Ask` of its request; :func:`answering` runs it and yields events, which
the module turns into its API's words. What an API can ask for and this library cannot do yet is refused here
by its name, never dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any

from pyqwen.engine.stream import AsyncStream, OnPrompt
from pyqwen.model import Model
from pyqwen.options import ChatOptions, GenerateOptions, InfillOptions
from pyqwen.results import Chunk, Completion
from pyqwen.serve.errors import ApiError, refusals
from pyqwen.serve.metrics import Metrics

MAX_ANSWERS = 32

# What a call has when nothing is asked for: such a value is no wish.
_NO_WISH: dict[str, Any] = {"parallel_tool_calls": True, "tool_choice": "auto"}


@dataclass(slots=True)
class Ask:
    """An answer to a conversation (``messages``), the continuation of a text or ids (``prompt``), or
    what stands between two texts (``gap``).

    ``options`` are keywords of the library's calls; None means: not given. ``n`` answers are written to
    one prompt, number i with seed + i.
    """

    options: dict[str, Any] = field(default_factory=dict)
    messages: Any = None
    prompt: str | list[int] | None = None
    gap: tuple[str, str] | None = None
    n: int = 1

    def wanted(self) -> dict[str, Any]:
        """The options that were given; ``ApiError`` for what this version cannot do."""
        kind: type = ChatOptions
        if self.messages is None:
            kind = GenerateOptions if self.gap is None else InfillOptions
        names = kind.__annotations__
        given = {name: value for name, value in self.options.items() if value is not None}
        for name in given.keys() - names.keys():
            if given[name] == _NO_WISH.get(name):
                del given[name]
                continue
            where = "chats" if kind is ChatOptions else "requests of this kind"
            raise ApiError(
                501, f"{name} is not supported for {where} here", code="unsupported", param=name
            )
        return given


@dataclass(frozen=True, slots=True)
class Piece:
    """The next chunk of answer number ``index``."""

    index: int
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Reading:
    """``done`` of ``total`` tokens of the prompt are read; ``cached`` of them were before."""

    done: int
    total: int
    cached: int

    def progress(self) -> dict[str, int]:
        """Under llama.cpp's names."""
        return {"total": self.total, "cache": self.cached, "processed": self.done}


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came for a while: time for a sign of life."""


@dataclass(frozen=True, slots=True)
class _End:
    index: int
    error: BaseException | None


Event = Piece | Reading | Silence


class Answers:
    """The answers to one ask. Iterate over ``events`` once; then ``completions`` has all of them."""

    def __init__(self, model: Model, ask: Ask) -> None:
        self._model = model
        self._ask = ask
        self._events: asyncio.Queue[Piece | Reading | _End] = asyncio.Queue()
        self._prompt_read = asyncio.Event()
        self._first: AsyncStream[Any] | None = None
        self._has_read = False
        self._tasks: list[asyncio.Future[None]] = []
        self.completions: list[Any] = [None] * ask.n

    async def begin(self) -> None:
        """Hand the first answer to the engine; ``ApiError`` for what cannot be asked."""
        first = await self._start(0, self._note_progress)
        self._first = first
        self._tasks.append(asyncio.ensure_future(self._pump(0, first)))
        for i in range(1, self._ask.n):
            self._tasks.append(asyncio.ensure_future(self._follow(i)))

    async def events(self, silence: float | None = None) -> AsyncIterator[Event]:
        """What happens, until all answers are complete; :class:`Silence` after as many seconds."""
        left = self._ask.n
        while left:
            try:
                async with asyncio.timeout(silence):
                    event = await self._events.get()
            except TimeoutError:
                yield Silence()
                continue
            if isinstance(event, _End):
                if event.error is not None:
                    raise event.error
                left -= 1
            else:
                yield event

    async def whole(self) -> list[Any]:
        """Wait for all answers."""
        async for _ in self.events():
            pass
        return self.completions

    async def stop(self) -> None:
        """Stop the model, and wait until it has."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note_progress(self, done: int, total: int) -> None:
        cached = self._first.cached_tokens if self._first is not None else 0
        if not self._has_read:  # where reading began
            self._has_read = True
            self._events.put_nowait(Reading(cached, total, cached))
        self._events.put_nowait(Reading(done, total, cached))

    async def _start(self, index: int, on_prompt: OnPrompt | None = None) -> AsyncStream[Any]:
        ask, options = self._ask, self._seeded(self._ask.wanted(), index)
        with refusals():
            if ask.gap is not None:
                return await self._model.astart_infill(*ask.gap, on_prompt=on_prompt, **options)
            if ask.prompt is None:
                return await self._model.astart_chat(ask.messages, on_prompt=on_prompt, **options)
            return await self._model.astart(ask.prompt, on_prompt=on_prompt, **options)

    @staticmethod
    def _seeded(options: dict[str, Any], index: int) -> dict[str, Any]:
        """The options of answer number ``index``."""
        return {**options, "seed": (options["seed"] + index) % 2**64} if index else options

    async def _follow(self, index: int) -> None:
        """Begin when the first answer has read the prompt, which then need not be read again."""
        await self._prompt_read.wait()
        try:
            stream = await self._start(index)
        except Exception as error:
            self._events.put_nowait(_End(index, error))
            return
        await self._pump(index, stream)

    async def _pump(self, index: int, stream: AsyncStream[Any]) -> None:
        error: BaseException | None = None
        try:
            async for chunk in stream:
                self._prompt_read.set()
                self._events.put_nowait(Piece(index, chunk))
            self.completions[index] = stream.completion
        except Exception as failure:
            error = failure
        finally:
            self._prompt_read.set()
            self._events.put_nowait(_End(index, error))


class WholeAnswers(Answers):
    """:class:`Answers` of which nothing is told while they are written, which takes less time: no events."""

    async def begin(self) -> None:
        self._tasks.append(asyncio.ensure_future(self._write()))

    async def whole(self) -> list[Any]:
        await self._tasks[0]
        return self.completions

    async def _write(self) -> None:
        model, ask, options = self._model, self._ask, self._ask.wanted()
        with refusals():
            if ask.gap is not None:
                self.completions = await asyncio.gather(
                    *(model.ainfill(*ask.gap, **self._seeded(options, i)) for i in range(ask.n))
                )
            elif ask.prompt is None:
                self.completions = await model.achat_n(ask.messages, ask.n, **options)
            else:
                self.completions = await model.agenerate_n(ask.prompt, ask.n, **options)


@asynccontextmanager
async def answering(
    model: Model, asks: Sequence[Ask], metrics: Metrics, kind: type[Answers] = Answers
) -> AsyncIterator[list[Answers]]:
    """Run several asks together; leaving stops those that are not complete."""
    running = [kind(model, ask) for ask in asks]
    for ask in asks:
        if not 1 <= ask.n <= MAX_ANSWERS:
            raise ApiError(400, f"n must be from 1 to {MAX_ANSWERS}, not {ask.n}", param="n")
        if ask.n > 1 and ask.options.get("seed") is None:
            ask.options["seed"] = SystemRandom().getrandbits(63)
    metrics.processing += len(running)
    try:
        for answers in running:
            await answers.begin()
        yield running
    finally:
        metrics.processing -= len(running)
        await asyncio.gather(*(answers.stop() for answers in running))
        for answers in running:
            metrics.note(done for done in answers.completions if done is not None)


def merged_usage(completions: Sequence[Completion]) -> tuple[int, int, int, int]:
    """Tokens of the prompt, which counts once, written, of the prompt that were cached, and of reasoning."""
    written = sum(done.usage.completion_tokens for done in completions)
    thoughts = sum(done.usage.reasoning_tokens for done in completions)
    usage = completions[0].usage
    return usage.prompt_tokens, written, usage.cached_tokens, thoughts
