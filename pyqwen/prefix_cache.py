"""Which sequence a request runs in, and how much of its prompt that sequence holds already.

Finished requests leave their keys and values behind. A new request takes over the sequence that
shares the longest beginning with it, or a copy of that beginning where taking it over would lose
something. Knows nothing of threads and batches: the engine's worker is its only user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyqwen.errors import OutOfMemoryError

if TYPE_CHECKING:
    from pyqwen._native import SessionHandle
    from pyqwen.request import Request
    from pyqwen.tokenizer import Tokenizer


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence of the session: the tokens whose keys and values it holds, and who uses it."""

    index: int
    tokens: list[int] = field(default_factory=list)
    request: Request | None = None
    prompt_length: int = 0  # of the request that used it last
    is_chat: bool = False  # whether that was a conversation
    last_used: int = 0


@dataclass(frozen=True, slots=True)
class _Match:
    """``kept`` tokens of a slot and the tokens from ``rest`` on of a prompt are the whole prompt."""

    slot: Slot
    kept: int
    rest: int


class PrefixCache:
    """The slots of one session."""

    def __init__(self, session: SessionHandle, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._clock = 0
        self.slots = [Slot(i) for i in range(session.sequences)]

    def place(self, request: Request) -> bool:
        """Give ``request`` a slot that holds as much of its tokens as any does; False if all are busy.

        ``request.tokens`` may change: the prompt of a chat continues with the tokens that the model
        itself wrote, where encoding their text again would give others.
        """
        idle = [slot for slot in self.slots if slot.request is None]
        if not idle:
            return False
        oldest = min(idle, key=lambda slot: (bool(slot.tokens), slot.last_used))
        match = self._best_match(request)
        slot = oldest
        if match is None:
            self._rewind(oldest, 0)
        elif match.slot is oldest or (match.slot.request is None and not _loses_prompt(match)):
            slot = match.slot
            self._rewind(slot, match.kept)
        else:
            match = self._copy(match, oldest)
        if match is not None:
            request.tokens = match.slot.tokens[: match.kept] + request.tokens[match.rest :]
        # The last token is always computed: its output chooses the first token of the answer.
        self._rewind(slot, min(len(slot.tokens), len(request.tokens) - 1))
        slot.request, request.slot = request, slot
        slot.prompt_length, slot.is_chat = len(request.tokens), request.is_chat
        return True

    def release(self, slot: Slot) -> None:
        """Leave what the slot holds to later requests."""
        self._clock += 1
        slot.request, slot.last_used = None, self._clock

    def forget(self, slot: Slot) -> None:
        """Empty a slot."""
        self._rewind(slot, 0)

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
        idle = [slot for slot in self.slots if slot.request is None and slot.tokens]
        if idle:
            self.forget(min(idle, key=lambda slot: slot.last_used))
        return bool(idle)

    def _best_match(self, request: Request) -> _Match | None:
        if not request.may_reuse:
            return None
        matches = [self._match(slot, request) for slot in self.slots if slot.tokens]
        # Of equal ones an idle slot, which can be taken over without a copy, then the fullest fit.
        key = lambda m: (m.kept, m.slot.request is None, -len(m.slot.tokens))  # noqa: E731
        best = max(matches, key=key, default=None)
        return best if best is not None and best.kept > 0 else None

    def _match(self, slot: Slot, request: Request) -> _Match:
        same = common_prefix(slot.tokens, request.tokens)
        kept, rest = same, same
        if slot.is_chat and request.is_chat:
            kept, rest = self._same_text(slot.tokens, request.tokens, same)
            if kept + len(request.tokens) - rest > self._session.context:
                kept, rest = same, same
        return _Match(slot, kept, rest)

    def _same_text(self, cached: list[int], new: list[int], start: int) -> tuple[int, int]:
        """How many tokens of ``cached`` and of ``new`` write the same text; the first ``start`` agree.

        A text can be cut into tokens in several ways, and a model does not always write the way the
        tokenizer cuts. Control tokens equal only themselves, never the text of their name.
        """
        is_control, text_of = self._tokenizer.is_control, self._tokenizer.token_bytes
        i, j = best = (start, start)
        ahead_cached = ahead_new = b""  # read on that side, not yet on the other; one is empty
        while i < len(cached) or ahead_cached:
            if not ahead_cached and not ahead_new and j < len(new) and cached[i] == new[j]:
                i, j = best = (i + 1, j + 1)
                continue
            if not ahead_cached:
                if i == len(cached) or is_control(cached[i]):
                    break
                ahead_cached, i = text_of(cached[i]), i + 1
            if not ahead_new:
                if j == len(new) or is_control(new[j]):
                    break
                ahead_new, j = text_of(new[j]), j + 1
            n = min(len(ahead_cached), len(ahead_new))
            if n == 0 or ahead_cached[:n] != ahead_new[:n]:
                break
            ahead_cached, ahead_new = ahead_cached[n:], ahead_new[n:]
            if not ahead_cached and not ahead_new:
                best = (i, j)
        return best

    def _copy(self, match: _Match, target: Slot) -> _Match | None:
        """Make ``target`` begin as ``match.slot`` does; None, and an empty target, without memory."""
        kept = match.slot.tokens[: match.kept]
        try:
            self._session.fork(match.slot.index, target.index, match.kept)
        except OutOfMemoryError:
            self._rewind(target, 0)
            return None
        target.tokens = kept
        return _Match(target, match.kept, match.rest)

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
