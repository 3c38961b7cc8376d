"""Token bytes to text, as it comes: whole characters only, and never a part of a stop string.

Owns what must be held back while an answer is streamed. Knows nothing of tokens or models.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable


class TextStream:
    """Incremental decoder with stop strings.

    ``feed`` the bytes of each token and show what it returns; ``flush`` once at the end. Without a
    stop the chunks together equal ``all_bytes.decode("utf-8", "replace")``. With one they equal
    that text up to the stop string that is complete first (the longest of several that end at the
    same character), however the bytes were cut. What follows a stop is ignored. Control tokens,
    which show nothing, are ``feed_unseen``, so that stop strings find their texts, too.
    """

    def __init__(self, stop: str | Iterable[str] = ()) -> None:
        """``stop``: one stop string or several; empty strings are a ``ValueError``."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = _StopAutomaton([stop] if isinstance(stop, str) else stop)
        self._state = 0
        # What may be the beginning of a stop string, by character: "" for one that is not shown.
        self._held: list[str] = []
        self._matched: str | None = None

    @property
    def matched_stop(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._matched

    def feed(self, data: bytes) -> str:
        """Take the bytes of the next token; return the text that is now certain."""
        return self._advance(self._decoder.decode(data), is_shown=True)

    def feed_unseen(self, text: str) -> str:
        """Take the text of a token that shows nothing; return the text that is now certain."""
        return self._advance(text, is_shown=False)

    def flush(self) -> str:
        """Return all text still held back: no more bytes will come."""
        text = self._advance(self._decoder.decode(b"", final=True), is_shown=True)
        text += "".join(self._held)
        self._held = []
        self._state = 0
        return text

    def _advance(self, new: str, *, is_shown: bool) -> str:
        if self._matched is not None:
            return ""
        if not self._stops:
            return new if is_shown else ""
        text = self._held
        for char in new:
            text.append(char if is_shown else "")
            self._state = self._stops.next_state(self._state, char)
            stop = self._stops.ends[self._state]
            if stop:
                self._matched = stop
                self._held = []
                return "".join(text[: len(text) - len(stop)])
        certain = len(text) - self._stops.depth[self._state]
        self._held = text[certain:]
        return "".join(text[:certain])


class _StopAutomaton:
    """Finds many strings in one pass over a text (Aho and Corasick, CACM 18(6), 1975).

    A state stands for the longest suffix of the text read so far that begins a stop string: its
    ``depth`` is how many characters must be held back.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fallback = [0]
        self.depth = [0]
        self.ends = [""]  # the longest stop string that ends in each state
        for stop in stops:
            self._insert(stop)
        self._link()

    def __bool__(self) -> bool:
        return len(self._next) > 1

    def next_state(self, state: int, char: str) -> int:
        """The state after one more character; amortized constant time."""
        while state and char not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(char, 0)

    def _insert(self, stop: str) -> None:
        if not isinstance(stop, str):
            raise TypeError(f"a stop string must be str, not {type(stop).__name__}")
        if not stop:
            raise ValueError("a stop string must not be empty: it would end every answer at once")
        state = 0
        for char in stop:
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fallback.append(0)
                self.depth.append(self.depth[state] + 1)
                self.ends.append("")
            state = self._next[state][char]
        self.ends[state] = stop

    def _link(self) -> None:
        # Breadth first: the fallback of a state is always less deep, so it is already known.
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self._next[state].items():
                self._fallback[child] = self.next_state(self._fallback[state], char)
                self.ends[child] = self.ends[child] or self.ends[self._fallback[child]]
                queue.append(child)
