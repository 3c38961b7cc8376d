"""How many rows may run at once by the memory that their caches may take.

A cache grows as its row is read and written. Sixteen long rows may not fit where sixteen usual ones do, and a
system that runs out of memory kills the process. So a row begins when there is room for all it may come to.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from pyqwen._native import machine
from pyqwen.engine.calls import CHAT_MAX_TOKENS
from pyqwen.loading.memory_plan import plan
from pyqwen.model import Model

_SHARE = 0.8  # of the memory that is free when the model is open
_BYTES_PER_TOKEN = 3  # of requests: texts in Latin letters have more, in others about as many


class _Limits(msgspec.Struct):
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None


def room_for(model: Model) -> int:
    """How many tokens in the cache of a model fit the memory that is free now; one context at least."""
    each = plan(model.path, kv_type=model.kv_type, context=model.context).kv_per_token
    return max(model.context, int(machine()["available_bytes"] * _SHARE) // each)


def most_tokens(body: bytes, context: int) -> int:
    """How many tokens a request may come to, at most a context for each answer."""
    try:
        limits = msgspec.json.decode(body, type=_Limits)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0  # which will be its answer
    given = (limits.max_completion_tokens, limits.max_output_tokens, limits.max_tokens)
    written = next((limit for limit in given if limit is not None and limit >= 0), CHAT_MAX_TOKENS)
    read = len(body) // _BYTES_PER_TOKEN
    return max(1, limits.n or 1) * min(context, read + written)


class Room:
    """Tokens that rows take while they run; those that wait enter in their order. For one event loop."""

    def __init__(self, tokens: int) -> None:
        self._tokens, self._taken = tokens, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, tokens: int) -> None:
        """Wait until there is room; a row that is too large for all of it runs alone."""
        if not self._waiting and self._fits(tokens):
            self._taken += tokens
            return
        place = tokens, asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place[1]
        except asyncio.CancelledError:
            if place in self._waiting:
                self._waiting.remove(place)
            else:  # it was let in at the same moment
                self.leave(tokens)
            raise

    def leave(self, tokens: int) -> None:
        """A row has ended."""
        self._taken -= tokens
        while self._waiting and self._fits(self._waiting[0][0]):
            waiting, future = self._waiting.popleft()
            if not future.done():
                self._taken += waiting
                future.set_result(None)

    def _fits(self, tokens: int) -> bool:
        return not self._taken or self._taken + tokens <= self._tokens
