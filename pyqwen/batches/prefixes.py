"""Rows that begin alike, put after each other, so that their common beginning is read once.

Of each row only short digests of its first 64, 128, 256, ... bytes are kept: two rows that share one begin
alike so far. Grouping by the first, then within each group by the second, and so on, gives the order of a
trie, for some tens of bytes a row. Groups, and what is in none, stay in the order of their first rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

_FIRST = 64  # bytes: shorter beginnings are not worth it
_LEVELS = 16  # the last compares 2 MB
_DIGEST = 4


def prefix_key(parts: Iterable[bytes]) -> bytes:
    """What tells how far a prompt of these parts begins as others do."""
    text = b"\0".join(parts)
    state = blake2b(digest_size=_DIGEST)
    key, done, size = [], 0, _FIRST
    for _ in range(_LEVELS):
        state.update(text[done:size])
        key.append(state.digest())
        if size >= len(text):
            break
        done, size = size, 2 * size
    return b"".join(key)


def by_prefix(rows: Sequence[int], keys: Sequence[bytes]) -> list[int]:
    """``rows`` in an order in which those that begin alike follow each other; ``keys[row]`` is a row's."""
    ordered: list[int] = []
    waiting: list[tuple[Sequence[int], int]] = [(rows, 0)]
    while waiting:
        group, level = waiting.pop()
        if len(group) == 1 or level == _LEVELS:
            ordered += group
            continue
        parts: dict[bytes, list[int]] = {}
        for row in group:
            digest = keys[row][level * _DIGEST : (level + 1) * _DIGEST]
            parts.setdefault(digest, []).append(row)
        if b"" in parts:  # these end here, all alike
            ordered += parts.pop(b"")
        waiting += [(part, level + 1) for part in reversed(parts.values())]
    return ordered
