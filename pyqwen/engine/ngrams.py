"""Drafts that are looked up: what followed the same tokens earlier in this text, or in recent answers.

A text is indexed by its runs of ``ORDER`` tokens, each with a link to the one before it, as compressors
do it (the hash chains of LZ77, Deutsch 1996); of the last few places the one that agrees longest wins.
Prompt lookup decoding (Saxena 2023) drafts from such places.
"""

from __future__ import annotations

from typing import NamedTuple

ORDER = 3  # tokens that have to agree
_PLACES = 12  # that are compared
_LONGEST = 32  # agreeing tokens that are counted
_REACH = 12  # tokens behind a place that went wrong, within which the text may come back to it
MOST_INDEXED = 65_536
"""Tokens of one text that are looked up, about 200 bytes each; older ones are forgotten by half."""
RECENT_TOKENS = 16_384
"""Tokens of recent answers that are kept, of all requests of a model."""


class Match(NamedTuple):
    """A place whose tokens agree with the end of a text: its index goes on at ``at``."""

    source: NgramIndex
    at: int
    length: int


class NgramIndex:
    """Where the n-grams of a growing list of tokens stand. It holds the list, and does not change it."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens
        self._heads: dict[tuple[int, ...], int] = {}  # n-gram: behind its last occurrence
        self._links: dict[int, int] = {}  # such a place: the one before it of the same n-gram
        self._indexed = 0  # places up to here

    def index_to(self, end: int) -> None:
        """Index the n-grams that end at ``end`` or before it."""
        tokens, heads, links = self.tokens, self._heads, self._links
        first = max(self._indexed + 1, ORDER, end - MOST_INDEXED)
        for at in range(first, end + 1):
            key = (tokens[at - 3], tokens[at - 2], tokens[at - 1])
            before = heads.get(key)
            if before is not None:
                links[at] = before
            heads[key] = at
        self._indexed = max(self._indexed, end)
        if len(heads) + len(links) > 2 * MOST_INDEXED:
            self._forget(end - MOST_INDEXED // 2)

    def find(self, text: list[int]) -> Match | None:
        """Return the place that agrees longest with the end of ``text``; of equal ones the last."""
        if len(text) < ORDER:
            return None
        at = self._heads.get((text[-3], text[-2], text[-1]))
        best = None
        for _ in range(_PLACES):
            if at is None:
                break
            length = self.agreement(text, at)
            if best is None or length > best.length:
                best = Match(self, at, length)
                if length >= _LONGEST:
                    break
            at = self._links.get(at)
        return best

    def agreement(self, text: list[int], at: int) -> int:
        """Return how many tokens before place ``at`` are those at the end of ``text``."""
        tokens, most = self.tokens, min(at, len(text), _LONGEST)
        for n in range(1, most + 1):
            if tokens[at - n] != text[-n]:
                return n - 1
        return most

    def return_to(self, text: list[int], at: int) -> Match | None:
        """Find where ``text``, which left place ``at`` a few tokens ago, has come back to its path."""
        best = None
        last = min(at + _REACH, len(self.tokens) - 1, self._indexed)
        for place in range(at + 1, last + 1):
            if self.tokens[place - 1] == text[-1]:
                length = self.agreement(text, place)
                if best is None or length > best.length:
                    best = Match(self, place, length)
        return best

    def following(self, at: int, most: int) -> list[int]:
        """Return the tokens from place ``at`` on; a text that repeats itself is taken to go on so."""
        tokens = self.tokens[at : at + most]
        period = len(tokens)
        while 0 < len(tokens) < most:
            tokens.append(tokens[-period])
        return tokens

    def _forget(self, first: int) -> None:
        """Forget the places before ``first``."""
        self._heads = {key: at for key, at in self._heads.items() if at >= first}
        self._links = {at: before for at, before in self._links.items() if before >= first}


class RecentAnswers:
    """The last answers of a model, whoever asked: tokens in memory, at most ``RECENT_TOKENS``."""

    def __init__(self) -> None:
        self._halves = [NgramIndex([]), NgramIndex([])]  # the newer one first

    def add(self, answer: list[int]) -> None:
        """Note an answer; the oldest are dropped."""
        half = RECENT_TOKENS // 2
        if len(self._halves[0].tokens) + len(answer) > half:
            self._halves = [NgramIndex([]), self._halves[0]]
        newest = self._halves[0]
        newest.tokens += answer[-half + 1 :]
        newest.tokens.append(-1)  # no token: nothing is found across two answers
        newest.index_to(len(newest.tokens))

    def find(self, text: list[int]) -> Match | None:
        """As ``NgramIndex.find``."""
        found = [match for half in self._halves if (match := half.find(text)) is not None]
        return max(found, key=lambda match: match.length, default=None)
