"""Constraints of models that think first: what they think is free, what follows it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyqwen._native import ComingMask, Mask
from pyqwen.constraints.guide import Guide


class AfterThinking:
    """A guide that binds the answer behind the reasoning; the reasoning may be left out.

    Behind its end the model goes on with ``between``, an empty line as templates have it.
    """

    def __init__(
        self, guide: Guide, *, begin: int, end: int, between: Sequence[int], is_open: bool
    ) -> None:
        """``begin`` and ``end`` are the tokens of the tags; ``is_open``: the prompt has begun it."""
        self._guide = guide
        self._begin, self._end, self._between = begin, end, list(between)
        self._is_open = is_open
        self._tokens: list[int] = []  # up to the end of what is between
        self._closed_at: int | None = None  # how many tokens there were with the end

    @property
    def _is_thinking(self) -> bool:
        is_begun = self._is_open or self._tokens[:1] == [self._begin]
        return is_begun and self._closed_at is None

    @property
    def _left_between(self) -> list[int]:
        """What must come before the answer."""
        if self._closed_at is None:
            return []
        return self._between[len(self._tokens) - self._closed_at :]

    def mask(self) -> Mask | ComingMask | None:
        if self._is_thinking:
            return None
        mask = self._guide.mask()
        may_begin = not self._is_open and not self._tokens and self._guide.is_at_start
        return _Wider(mask, self._begin) if may_begin else mask

    def forced(self) -> list[int]:
        if self._is_thinking:
            return []
        if self._left_between:
            return self._left_between
        if not self._is_open and not self._tokens and self._guide.is_at_start:
            return []  # it may think before what is forced
        return self._guide.forced()

    def accept(self, token: int) -> None:
        is_first = not self._is_open and not self._tokens and self._guide.is_at_start
        if self._is_thinking or self._left_between or (is_first and token == self._begin):
            was_thinking = self._is_thinking
            self._tokens.append(token)
            if was_thinking and token == self._end:
                self._closed_at = len(self._tokens)
        else:
            self._guide.accept(token)

    def rewind(self, n: int) -> None:
        of_answer = min(n, self._guide.length)
        if of_answer:
            self._guide.rewind(of_answer)
        if n > of_answer:
            del self._tokens[len(self._tokens) - (n - of_answer) :]
            if self._closed_at is not None and self._closed_at > len(self._tokens):
                self._closed_at = None

    def finished(self) -> bool:
        is_before = self._is_thinking or bool(self._left_between)
        return not is_before and self._guide.finished()


class _Wider:
    """A mask with one more token."""

    def __init__(self, mask: Any, token: int) -> None:
        self._mask, self._token = mask, token

    def get(self) -> Mask:
        words: Mask = self._mask.get().copy()
        words[self._token // 32] |= np.uint32(1 << self._token % 32)
        return words
