"""Which sequence a request runs in, and how much of its prompt that sequence holds already.

Finished requests leave their keys and values behind. A new request takes over the sequence that
shares the longest beginning with it, or a copy of that beginning where taking it over would lose
something. Knows nothing of threads and batches: the engine's worker is its only user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyqwen.engine.slot import Slot
from pyqwen.errors import OutOfMemoryError

if TYPE_CHECKING:
    from pyqwen._native import SessionHandle
    from pyqwen.engine.request import Request


_WORTH_WAITING = 64  # tokens: about what is read between two answers' tokens


@dataclass(frozen=True, slots=True)
class _Match:
    """The first ``kept`` tokens of a slot are those of a prompt."""

    slot: Slot
    kept: int


class PrefixCache:
    """The slots of one session."""

    def __init__(self, session: SessionHandle) -> None:
        self._session = session
        self._clock = 0
        self.slots = [Slot(i) for i in range(session.sequences)]

    def place(self, request: Request) -> bool:
        """Give ``request`` a slot that holds as much of its tokens as any does; False if all are busy."""
        idle = [slot for slot in self.slots if not slot.in_use]
        if not idle:
            return False
        oldest = min(idle, key=lambda slot: (bool(slot.tokens), slot.last_used))
        match = self._best_match(request)
        slot = oldest
        if match is None:
            self._rewind(oldest, 0)
        elif match.slot is oldest or (not match.slot.in_use and not _loses_prompt(match)):
            slot = match.slot
            self._rewind(slot, match.kept)
        else:
            self._copy(match, oldest)
        # The last token is always computed: its output chooses the first token of the answer.
        self._rewind(slot, min(len(slot.tokens), len(request.tokens) - 1))
        slot.in_use, request.slot = True, slot
        slot.adapter = request.adapter
        slot.prompt_length = len(request.tokens)
        return True

    def will_have_more(self, request: Request, active: Sequence[Request]) -> bool:
        """Whether one that reads will soon have read much that ``request`` begins with, and no slot has.

        To wait for that and copy it takes less time than to read it beside the other, for both.
        """
        others = [one for one in active if one.is_reading and one.adapter == request.adapter]
        if not others or not request.may_reuse:
            return False
        match = self._best_match(request)
        kept = match.kept if match is not None else 0
        return any(
            common_prefix(one.tokens, request.tokens) - kept >= _WORTH_WAITING for one in others
        )

    def release(self, slot: Slot) -> None:
        """Leave what the slot holds to later requests."""
        self._clock += 1
        slot.in_use, slot.last_used = False, self._clock

    def forget(self, slot: Slot) -> None:
        """Empty a slot."""
        self._rewind(slot, 0)

    def settle(self, slot: Slot, tokens: list[int], proposed: int) -> None:
        """Take those of the last ``proposed`` tokens out of a slot that did not come to be ``tokens``."""
        length = len(slot.tokens) - proposed
        while length < min(len(slot.tokens), len(tokens)) and slot.tokens[length] == tokens[length]:
            length += 1
        self._rewind(slot, length)

    def trim(self) -> None:
        """Drop what idle slots hold, the oldest first, while all slots together exceed one context.

        So the cache takes no more memory than the longest single request could, unless several
        requests that are running need it.
        """
        while sum(len(slot.tokens) for slot in self.slots) > self._session.context:
            if not self.drop_oldest():
                return

    def drop_oldest(self) -> bool:
        """Empty the idle slot that was used longest ago; False if all idle ones are empty."""
        idle = [slot for slot in self.slots if not slot.in_use and slot.tokens]
        if idle:
            self.forget(min(idle, key=lambda slot: slot.last_used))
        return bool(idle)

    def _best_match(self, request: Request) -> _Match | None:
        if not request.may_reuse:
            return None
        tokens = request.tokens
        slots = [slot for slot in self.slots if slot.adapter == request.adapter]
        matches = [_Match(slot, common_prefix(slot.tokens, tokens)) for slot in slots]
        # Of equal ones an idle slot, which can be taken over without a copy, then the fullest fit.
        key = lambda m: (m.kept, not m.slot.in_use, -len(m.slot.tokens))  # noqa: E731
        best = max(matches, key=key, default=None)
        return best if best is not None and best.kept > 0 else None

    def _copy(self, match: _Match, target: Slot) -> None:
        """Make ``target`` begin as ``match.slot`` does, or empty it if there is no memory for that."""
        kept = match.slot.tokens[: match.kept]
        try:
            self._session.fork(match.slot.index, target.index, match.kept)
        except OutOfMemoryError:
            self._rewind(target, 0)
            return
        target.tokens = kept

    def _rewind(self, slot: Slot, length: int) -> None:
        if length < len(slot.tokens):
            self._session.rewind(slot.index, length)
            del slot.tokens[length:]


def _loses_prompt(match: _Match) -> bool:
    """Whether taking the slot over loses a part of its last prompt: another branch, worth keeping.

    An answer that is not continued, or its end behind a stop string, is not.
    """
    return match.kept < min(match.slot.prompt_length, len(match.slot.tokens))


def common_prefix(a: list[int], b: list[int]) -> int:
    """Return how many items two lists have in common at their beginning, by comparing slices."""
    same, limit = 0, min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    while limit - same > 1:  # a[:same] == b[:same], a[:limit] != b[:limit]
        middle = (same + limit) // 2
        if a[same:middle] == b[same:middle]:
            same = middle
        else:
            limit = middle
    return same
