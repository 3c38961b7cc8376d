"""The reasoning that a thinking model writes before its answer, told apart from the answer.

Qwen3 and others begin with ``<think>``, their reasoning and ``</think>``. Their templates leave it out of
the history, and so does who reads the answer. Knows nothing of tokens or models.
"""

from __future__ import annotations

BEGIN, END = "<think>", "</think>"


def is_thinking(template: str) -> bool:
    """Whether a chat template (its source) is that of a model that thinks."""
    return END in template


def is_open(prompt: str) -> bool:
    """Whether a prompt ends inside reasoning, which the answer then goes on with."""
    return prompt.rstrip().endswith(BEGIN)


def is_closed(prompt: str) -> bool:
    """Whether a prompt ends behind reasoning, left empty so that the model does not think."""
    return prompt.rstrip().endswith(END)


def is_inside(answer: str) -> bool:
    """Whether a part of an answer ends inside its reasoning."""
    return answer.rfind(BEGIN) > answer.rfind(END)


class ReasoningStream:
    """Splits the text of an answer, as it comes, into reasoning and answer.

    ``feed`` the pieces in order and ``flush`` at the end; both return what is now certain of the
    reasoning and of the answer. Newlines at either end of the reasoning, and those between it and the
    answer, are left out, as templates do. An answer that does not begin with reasoning stays as it is.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        """``is_open``: the prompt has begun the reasoning, see ``is_open``."""
        self._step = self._reason if is_open else self._look_for_begin
        self._held = ""
        self._read = 0
        self._is_first = True  # of the reasoning: what comes next is its beginning
        self.found = is_open
        """Whether there is reasoning, be it empty."""
        self.answer_start = 0
        """How many characters of the whole text stand before the answer, once it has begun."""

    def feed(self, text: str) -> tuple[str, str]:
        """Take the next piece; return what is now certain of the reasoning and of the answer."""
        self._read += len(text)
        self._held += text
        return self._step(False)

    def flush(self) -> tuple[str, str]:
        """Return all that was held back: nothing more will come."""
        return self._step(True)

    def _look_for_begin(self, is_end: bool) -> tuple[str, str]:
        start = self._held.lstrip()
        if not is_end and BEGIN.startswith(start):  # it may come yet
            return "", ""
        if not start.startswith(BEGIN):
            self._step = self._answer
            return self._answer(is_end)
        self._held = start[len(BEGIN) :]
        self._step, self.found = self._reason, True
        return self._reason(is_end)

    def _reason(self, is_end: bool) -> tuple[str, str]:
        before, end, after = self._held.partition(END)
        if end:
            self._held = after
            self._step = self._begin_answer
            return self._without_first_newlines(before.rstrip("\n")), self._begin_answer(is_end)[1]
        certain = len(before) if is_end else len(before) - _length_of_beginning(before, END)
        text = before[:certain].rstrip("\n")
        self._held = "" if is_end else before[len(text) :]
        return self._without_first_newlines(text), ""

    def _without_first_newlines(self, text: str) -> str:
        if self._is_first:
            text = text.lstrip("\n")
            self._is_first = not text
        return text

    def _begin_answer(self, is_end: bool) -> tuple[str, str]:
        self._held = self._held.lstrip("\n")
        self.answer_start = self._read - len(self._held)
        if not self._held:
            return "", ""
        self._step = self._answer
        return self._answer(is_end)

    def _answer(self, is_end: bool) -> tuple[str, str]:
        text, self._held = self._held, ""
        return "", text


def _length_of_beginning(text: str, whole: str) -> int:
    """How many characters at the end of ``text`` may be the beginning of ``whole``."""
    for n in range(min(len(text), len(whole) - 1), 0, -1):
        if whole.startswith(text[-n:]):
            return n
    return 0
