"""Which sequence a request runs in, and how much of its prompt need not be read again.

What requests leave behind is kept in blocks, in a tree (``prefix_tree.py``) that all texts which begin alike
share; a new request begins with a copy of what the tree, or a request that is running, has of its prompt.
Blocks are shared with the sequences, not copied. Knows nothing of threads and batches: the engine's worker
is its only user.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from pyqwen.engine.prefix_tree import PrefixTree
from pyqwen.engine.slot import Slot
from pyqwen.errors import OutOfMemoryError

if TYPE_CHECKING:
    from pyqwen._native import SessionHandle
    from pyqwen.engine.hold import Hold
    from pyqwen.engine.request import Request

Buffer = bytes | bytearray | memoryview

_WORTH_WAITING = 64  # tokens: about what is read between two answers' tokens


class PrefixCache:
    """The slots of one session, and what is kept beside them."""

    def __init__(self, session: SessionHandle, budget: int | None = None) -> None:
        """``budget``: bytes of kept blocks, 0 for none; None: what those that run leave of the memory that
        requests of full length would take, as many as ever ran together."""
        self._session = session
        self.slots = [Slot(i) for i in range(session.sequences)]
        self._tree = PrefixTree(session.block_positions, self._drop)
        self._longest = self._tree.blocks_of(session.context)  # blocks of a request
        self._most = None if budget is None else budget // session.block_bytes
        self._together = 1  # the most requests that ran at once so far

    def place(self, request: Request) -> bool:
        """Give ``request`` a slot that holds what is known of its tokens; False if all are busy.

        ``OutOfMemoryError`` if it is a session's whose positions the budget has no room for.
        """
        slot = next((slot for slot in self.slots if not slot.in_use), None)
        if slot is None:
            return False
        if request.hold is not None:
            self._check_room(request.hold, request.salt, request.tokens)
        if request.may_reuse:
            # The last token is always computed: its output chooses the first token of the answer.
            self._begin(slot, request, len(request.tokens) - 1)
        slot.in_use, request.slot = True, slot
        self._together = max(self._together, sum(slot.in_use for slot in self.slots))
        slot.adapter, slot.salt = request.adapter, request.salt
        return True

    def will_have_more(self, request: Request, active: Sequence[Request]) -> bool:
        """Whether one that reads will soon have read much that ``request`` begins with, and nobody has.

        To wait for that and copy it takes less time than to read it beside the other, for both.
        """
        others = [one for one in active if one.is_reading and one.salt == request.salt]
        if not others or not request.may_reuse:
            return False
        most = max(common_prefix(one.tokens, request.tokens) for one in others)
        if most < _WORTH_WAITING:
            return False
        kept = self._tree.match(request.salt, request.tokens)[1]
        running = self._running_match(request)
        kept = max(kept, running[1] if running else 0)
        return most - kept >= _WORTH_WAITING

    def release(self, slot: Slot, hold: Hold | None = None) -> None:
        """Keep what the slot holds for later requests, and for a session, and free it."""
        if self._most != 0 and slot.tokens:
            with suppress(OutOfMemoryError):  # what was kept so far is of use, too
                path = self._tree.insert(
                    slot.salt, slot.tokens, lambda block: self._session.keep(slot.index, block)
                )
                if hold is not None:
                    hold.pin(self._tree, path)
        if hold is not None:
            hold.adapter, hold.tokens = slot.adapter, slot.tokens.copy()
            hold.has_answer = True
        self.discard(slot)
        self.trim()

    def discard(self, slot: Slot) -> None:
        """Free a slot; nothing is kept of what it holds."""
        self._rewind(slot, 0)
        slot.in_use = False

    def settle(self, slot: Slot, tokens: list[int], proposed: int) -> None:
        """Take those of the last ``proposed`` tokens out of a slot that did not come to be ``tokens``."""
        length = len(slot.tokens) - proposed
        while length < min(len(slot.tokens), len(tokens)) and slot.tokens[length] == tokens[length]:
            length += 1
        self._rewind(slot, length)

    def trim(self) -> None:
        """Give up kept blocks, those first that were not used for longest, until they fit the budget."""
        if self._most is not None:
            while len(self._tree) > self._most and self._tree.evict():
                pass
            return
        most = self._together * self._longest * self._session.block_bytes
        while self._session.kv_bytes > most and self._tree.evict():
            pass

    def drop_oldest(self) -> bool:
        """Give up the kept blocks that were not used for longest until memory is free; False if there
        are none."""
        before = self._session.kv_bytes
        while self._tree.evict():
            if self._session.kv_bytes < before:  # else a running request has it, too
                return True
        return False

    def close(self) -> None:
        """The session is gone."""
        self._tree.close()

    # For open sessions

    def _check_room(self, hold: Hold, salt: Hashable, tokens: Sequence[int]) -> None:
        """``OutOfMemoryError`` if the budget has no room for a session to hold ``tokens`` instead."""
        most = self._longest if self._most is None else self._most
        wanted = self._tree.pinned_with(salt, tokens, hold.path(self._tree))
        if wanted > most:
            size = self._session.block_bytes
            raise OutOfMemoryError(
                f"open sessions would hold {wanted * size:,} bytes of keys and values, and may hold "
                f"{most * size:,}: close one, or open the model with a larger prefix_cache_bytes"
            )

    def holds_all(self, hold: Hold) -> bool:
        """Whether all positions of a session are there: not after the model was unloaded."""
        return len(hold.path(self._tree)) * self._session.block_positions >= len(hold.tokens)

    @property
    def block_sizes(self) -> tuple[int, int]:
        """Positions and bytes of a block."""
        return self._session.block_positions, self._session.block_bytes

    def copy_blocks(self, hold: Hold, first: int, room: Sequence[bytearray]) -> int:
        """Copy the bytes of the blocks of a session from the first-th on; return how many there were."""
        path, positions = hold.path(self._tree), self._session.block_positions
        blocks = path[first : first + len(room)]
        for i, (block, out) in enumerate(zip(blocks, room, strict=False), first):
            filled = min(positions, len(hold.tokens) - i * positions)
            self._session.read_block(block.number, filled, out)
        return len(blocks)

    def identity(self) -> tuple[int, int, int]:
        """What the bytes of blocks depend on besides their tokens."""
        return self._session.identity()

    def begin_loading(self, hold: Hold, tokens: Sequence[int], instead_of: Hold) -> None:
        """``OutOfMemoryError`` if the budget has no room for ``tokens``, ``instead_of`` given up."""
        self._check_room(instead_of, hold.salt(hold.adapter), tokens)

    def add_blocks(
        self, hold: Hold, tokens: Sequence[int], first: int, blocks: Sequence[Buffer]
    ) -> None:
        """Have a session hold ``tokens``, of which ``blocks`` are the bytes from the first-th on."""

        def keep(i: int) -> int:
            return self._session.write_block(blocks[i - first])

        hold.pin(self._tree, self._tree.insert(hold.salt(hold.adapter), tokens, keep))
        hold.tokens = list(tokens)
        self.trim()

    def _begin(self, slot: Slot, request: Request, most: int) -> None:
        """Have an empty slot hold what there is of the first ``most`` tokens of a request."""
        path, length = self._tree.match(request.salt, request.tokens)
        self._tree.touch(path)
        running = self._running_match(request)
        if running is not None and running[1] > length:
            source, length = running[0], min(running[1], most)
            try:
                self._session.fork(source.index, slot.index, length)
            except OutOfMemoryError:
                return
        else:
            length = min(length, most)
            shared = path[: self._tree.blocks_of(length)]
            self._session.adopt(slot.index, [block.number for block in shared], length)
        slot.tokens = request.tokens[:length]

    def _running_match(self, request: Request) -> tuple[Slot, int] | None:
        """The busy slot that holds most of the beginning of a request, and how much."""
        slots = [slot for slot in self.slots if slot.in_use and slot.salt == request.salt]
        if not slots:
            return None
        found = [(slot, common_prefix(slot.tokens, request.tokens)) for slot in slots]
        return max(found, key=lambda match: match[1])

    def _rewind(self, slot: Slot, length: int) -> None:
        if length < len(slot.tokens):
            self._session.rewind(slot.index, length)
            del slot.tokens[length:]

    def _drop(self, block: int) -> None:
        self._session.drop(block)


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
