"""Where a prompt must be cut so that no text of a user forms a control token.

Owns that one question, for a text of which it is known who wrote what. Knows nothing of token ids,
nor of templates.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence


class ControlTextCutter:
    """Finds the cuts for the control texts of one vocabulary."""

    def __init__(self, control_texts: Iterable[str]) -> None:
        self._texts = sorted(filter(None, set(control_texts)))
        heads = "".join(sorted({re.escape(text[0]) for text in self._texts}))
        self._head = re.compile(f"[{heads}]") if heads else None
        self._longest = max(map(len, self._texts), default=0)
        # The longest text that each one begins with, by their places in the sorted list.
        self._shorter: list[int] = []
        for i, text in enumerate(self._texts):
            j = i - 1
            while j >= 0 and not text.startswith(self._texts[j]):
                j = self._shorter[j]
            self._shorter.append(j)

    def cuts(self, text: str, users: Sequence[tuple[int, int]]) -> list[int]:
        """Ascending positions at which to cut ``text``; none for nearly every text.

        ``users``: the places in ``text`` that users wrote, as ascending (start, end). A control
        text that has a character of theirs is cut inside, one that has none stays whole.
        """
        if not users or self._head is None:
            return []
        starts = [start for start, _ in users]
        cuts: list[int] = []
        for match in self._head.finditer(text):
            start = match.start()
            end = start + self._length_at(text, start)
            i = bisect_right(starts, start) - 1
            if i >= 0 and users[i][1] > start:
                # The user wrote its first character: a cut behind that one cannot be inside a
                # control text of the template, and is inside each that begins here.
                if end > start + 1:
                    cuts.append(start + 1)
            elif i + 1 < len(starts) and starts[i + 1] < end:
                cuts.append(starts[i + 1])
        return sorted(set(cuts))

    def _length_at(self, text: str, start: int) -> int:
        """The length of the longest control text at ``start``, or 0."""
        i = bisect_right(self._texts, text[start : start + self._longest]) - 1
        while i >= 0 and not text.startswith(self._texts[i], start):
            i = self._shorter[i]
        return len(self._texts[i]) if i >= 0 else 0
