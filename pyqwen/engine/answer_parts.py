"""The text of one answer, told apart as it comes: reasoning, calls of tools, and what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pyqwen.results import ToolCall, ToolCallDelta
from pyqwen.text.answer_tokens import ids_of_answer, tokens_before

if TYPE_CHECKING:
    from pyqwen.text.reasoning import ReasoningStream
    from pyqwen.tools.scanner import ToolCallScanner


class Piece(NamedTuple):
    """The next text of an answer that is certain."""

    reasoning: str = ""
    text: str = ""
    calls: Sequence[ToolCallDelta] = ()

    def __add__(self, other: object) -> Piece:
        assert isinstance(other, Piece)
        return Piece(
            self.reasoning + other.reasoning,
            self.text + other.text,
            [*self.calls, *other.calls],
        )


class AnswerParts:
    """Takes the text of an answer in pieces, and keeps its parts."""

    def __init__(self, reasoning: ReasoningStream | None, calls: ToolCallScanner | None) -> None:
        """``reasoning`` is there for a thinking model's answer, ``calls`` where tools are offered."""
        self._reasoning = reasoning
        self._calls = calls
        self._written: list[str] = []
        self._thoughts: list[str] = []
        self._answer: list[str] = []  # without the reasoning
        self._shown: list[str] = []  # what of the answer is no call

    def add(self, text: str, *, is_end: bool = False) -> Piece:
        """Take the next text; with the last all that was held back comes."""
        thought, answer = "", text
        if self._reasoning is not None:
            thought, answer = self._reasoning.feed(text)
            if is_end:
                more, rest = self._reasoning.flush()
                thought, answer = thought + more, answer + rest
        piece = Piece(thought, answer)
        if self._calls is not None:
            piece = Piece(thought, *self._calls.feed(answer))
            if is_end:
                piece += Piece("", *self._calls.flush())
        self._written.append(text)
        self._thoughts.append(thought)
        self._answer.append(answer)
        self._shown.append(piece.text)
        return piece

    @property
    def text(self) -> str:
        """What is shown of the answer."""
        return "".join(self._shown)

    @property
    def calls(self) -> list[ToolCall]:
        """The calls that are whole."""
        return self._calls.calls if self._calls is not None else []

    @property
    def is_over(self) -> bool:
        """Whether nothing that comes would be taken any more."""
        return self._calls is not None and self._calls.is_over

    @property
    def reasoning(self) -> str | None:
        """The reasoning, if there is some."""
        if self._reasoning is None or not self._reasoning.found:
            return None
        return "".join(self._thoughts)

    def reasoning_tokens(self, written: Sequence[int], shown: Mapping[int, bytes]) -> int:
        """How many of the tokens ``written`` come before the answer; all, if it has not begun."""
        if self._reasoning is None or not self._reasoning.found:
            return 0
        if not self._reasoning.answer_start:
            return len(written)
        before = "".join(self._written)[: self._reasoning.answer_start]
        return tokens_before(len(before.encode()), written, shown)

    def content_ids(self, written: Sequence[int], shown: Mapping[int, bytes]) -> list[int] | None:
        """Those of the tokens ``written`` that make exactly the text and the calls, if there are such.

        ``shown`` are the bytes that each token shows.
        """
        before = ""
        if self._reasoning is not None and self._reasoning.found:
            before = "".join(self._written)[: self._reasoning.answer_start]
        answer, text = "".join(self._answer), self.text
        if self._calls is not None and self.calls and self._calls.is_cut:
            answer = answer[: self._calls.end]
        elif not self.calls and answer.endswith(
            text
        ):  # a call that is not heard may stand before it
            before, answer = before + answer[: len(answer) - len(text)], text
        return ids_of_answer(answer, written, shown, before)
