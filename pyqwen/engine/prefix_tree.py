"""Which kept blocks hold the keys and values of which tokens: a tree, shared by all texts that begin alike.

A node is one block of positions: the tokens of a block, after those of the nodes above it. So a path from a
root spells a text, and two texts part where their tokens do. The last block of a text may be held in part;
it has no nodes below it. Each root belongs to one ``salt``: what else the positions depend on, such as an
adapter. Blocks that were not used for longest are given up first, from the ends of their texts on, unless
somebody pinned them.

Knows blocks by their numbers only, and nothing of sequences, budgets or threads.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

_TOKEN_BYTES = 4


class Block:
    """A node: the tokens of one block, packed so that they sort as the tokens do."""

    __slots__ = ("below", "key", "keys", "number", "parent", "pins")

    def __init__(self, parent: Block | None, key: bytes, number: int) -> None:
        self.parent, self.key, self.number = parent, key, number
        self.keys: list[bytes] = []  # sorted, of the blocks in ``below``
        self.below: list[Block] = []
        self.pins = 0

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.key) // _TOKEN_BYTES

    def closest(self, key: bytes) -> tuple[Block | None, int]:
        """The block below that begins most like ``key``, and how many tokens they share."""
        at = bisect_left(self.keys, key)  # what shares most with it is its neighbor in this order
        best, most = None, 0
        for block in self.below[max(0, at - 1) : at + 1]:
            same = _common_bytes(block.key, key) // _TOKEN_BYTES
            if same > most:
                best, most = block, same
        return best, most

    def add(self, block: Block) -> None:
        at = bisect_left(self.keys, block.key)
        self.keys.insert(at, block.key)
        self.below.insert(at, block)

    def remove(self, block: Block) -> None:
        at = bisect_left(self.keys, block.key)
        del self.keys[at], self.below[at]

    def longer(self, block: Block) -> bool:
        """Whether a block below begins as ``block``, which is one of them, and goes on."""
        at = bisect_left(self.keys, block.key) + 1
        return at < len(self.keys) and self.keys[at].startswith(block.key)

    def shorter(self, key: bytes) -> Block | None:
        """A block below with which ``key`` begins, and that it goes beyond."""
        at = bisect_left(self.keys, key) - 1
        found = at >= 0 and len(self.keys[at]) < len(key) and key.startswith(self.keys[at])
        return self.below[at] if found else None


Path = list[Block]
"""Neighboring blocks from a root on."""


class PrefixTree:
    """The blocks of one session. ``drop`` gives a block up, by its number."""

    def __init__(self, positions: int, drop: Callable[[int], None]) -> None:
        """``positions``: of one block."""
        self._positions, self._drop = positions, drop
        self._roots: dict[Hashable, Block] = {}
        self._unpinned: OrderedDict[Block, None] = OrderedDict()
        """In the order of their last use; each before the one above it, so that the first has none below."""
        self.pinned = 0

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self._unpinned) + self.pinned

    def blocks_of(self, length: int) -> int:
        """How many blocks a text of so many tokens has."""
        return -(-length // self._positions)

    def match(self, salt: Hashable, tokens: Sequence[int]) -> tuple[Path, int]:
        """The blocks that hold the longest beginning of ``tokens``, and its length.

        The last of them may hold more than that: other tokens follow there.
        """
        path: Path = []
        length = 0
        node = self._roots.get(salt)
        while node is not None and length < len(tokens):
            block, same = node.closest(_packed(tokens[length : length + self._positions]))
            if block is None:
                break
            path.append(block)
            length += same
            node = block if same == self._positions else None
        return path, length

    def insert(self, salt: Hashable, tokens: Sequence[int], keep: Callable[[int], int]) -> Path:
        """Have blocks for all of ``tokens``, used now; return them.

        ``keep(i)`` gives the number of the i-th block, where the tree has none; what it raises leaves the
        blocks before it in the tree.
        """
        node = self._roots.setdefault(salt, Block(None, b"", -1))
        path: Path = []
        try:
            for i, start in enumerate(range(0, len(tokens), self._positions)):
                key = _packed(tokens[start : start + self._positions])
                block, same = node.closest(key)
                if block is None or same * _TOKEN_BYTES < len(key):
                    block = Block(node, key, keep(i))
                    node.add(block)
                    self._unpinned[block] = None
                    self._forget_shorter(node, key)
                path.append(block)
                node = block
        finally:
            self.touch(path)
            self._forget_empty(salt)
        return path

    def touch(self, path: Path) -> None:
        """Note that the blocks of a path are used."""
        for block in reversed(path):
            if block.pins == 0:
                self._unpinned.move_to_end(block)

    def pin(self, path: Path) -> None:
        """Keep the blocks of a path until ``unpin``."""
        for block in path:
            if block.pins == 0:
                del self._unpinned[block]
                self.pinned += 1
            block.pins += 1

    def unpin(self, path: Path) -> None:
        """Take a ``pin`` back."""
        for block in reversed(path):
            block.pins -= 1
            if block.pins == 0:
                self.pinned -= 1
                self._unpinned[block] = None
        if path and path[-1].pins == 0:
            last, above = path[-1], path[-1].parent
            assert above is not None
            if last.length < self._positions and above.longer(last):
                self._remove(last)

    def evict(self) -> bool:
        """Give up the block that was not used for longest; False if all are pinned."""
        block = next(iter(self._unpinned), None)
        if block is not None:
            self._remove(block)
        return block is not None

    def pinned_with(self, salt: Hashable, tokens: Sequence[int], instead_of: Path) -> int:
        """How many blocks would be pinned if those of ``tokens`` were, and no longer ``instead_of``."""
        path, length = self.match(salt, tokens)
        # A last block that goes on otherwise, or not far enough, will be another one.
        stay = path if length == len(tokens) else path[: length // self._positions]
        already = sum(1 for block in stay if block.pins > 0)
        kept = set(stay)
        freed = sum(1 for block in instead_of if block.pins == 1 and block not in kept)
        return self.pinned + self.blocks_of(len(tokens)) - already - freed

    def close(self) -> None:
        """The session is gone, and all blocks with it; pins may still be taken back."""
        self._drop = lambda number: None

    def _remove(self, block: Block) -> None:
        assert block.parent is not None
        assert not block.below, "a block that is needed"
        block.parent.remove(block)
        del self._unpinned[block]
        self._drop(block.number)
        root = block.parent
        if root.parent is None and not root.below:
            for salt in [salt for salt, node in self._roots.items() if node is root]:
                del self._roots[salt]

    def _forget_shorter(self, node: Block, key: bytes) -> None:
        """Remove the beginning of a new block, which was the end of a text until now."""
        shorter = node.shorter(key)
        if shorter is not None and shorter.pins == 0:
            self._remove(shorter)

    def _forget_empty(self, salt: Hashable) -> None:
        if not self._roots[salt].below:
            del self._roots[salt]


def _packed(tokens: Sequence[int]) -> bytes:
    """Tokens as bytes that sort as they do: four for each, the highest first."""
    packed = array("I", tokens)
    if sys.byteorder == "little":
        packed.byteswap()
    return packed.tobytes()


def _common_bytes(a: bytes, b: bytes) -> int:
    """How many bytes two have in common at their beginning."""
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit
    # Leading zeros of the difference, for which both are numbers.
    differ = int.from_bytes(a[:limit], "big") ^ int.from_bytes(b[:limit], "big")
    return limit - (differ.bit_length() + 7) // 8
