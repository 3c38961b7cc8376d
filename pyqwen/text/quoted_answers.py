"""Finding the contents of certain messages in what a template wrote, to set in their tokens.

The contents go through the template between quotes, characters that occur nowhere else. Owns the
quotes; ``chat_template`` runs the template and compares what it wrote with and without them. Knows
nothing of what the tokens mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Part = tuple[str, tuple[int, ...]]
"""A text and the ids of its tokens; none where it is to be encoded."""


class QuotedAnswers:
    """Answers of one conversation, by their place in it: contents and token ids."""

    def __init__(self, answers: Mapping[int, Part], quote: str) -> None:
        """``quote``: a character that is in no variable and no literal of the template."""
        self._answers = {str(i): answer for i, answer in answers.items()}
        self._quote = quote
        self._pattern = re.compile(f"{quote}([0-9]+){quote}([^{quote}]*){quote}")

    @property
    def extra_size(self) -> int:
        """Characters that quoting adds."""
        return sum(len(place) + 3 for place in self._answers)

    def quote(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The messages with the answers among them quoted."""
        quoted = [dict(message) for message in messages]
        for place in self._answers:
            message = quoted[int(place)]
            message["content"] = self._quote.join(("", place, message["content"], ""))
        return quoted

    def split(self, rendered: str, mark: str) -> list[Part]:
        """What a template wrote, without quotes, in parts: their texts and the tokens they are.

        Texts that are not exactly an answer, apart from ``mark`` characters, have no tokens.
        """
        parts: list[Part] = []
        end = 0
        for match in self._pattern.finditer(rendered):
            text = match[2]
            content, ids = self._answers.get(match[1], ("", ()))
            parts.append((self._unquoted(rendered[end : match.start()]), ()))
            parts.append((text, ids if text.replace(mark, "") == content else ()))
            end = match.end()
        parts.append((self._unquoted(rendered[end:]), ()))
        return parts

    def _unquoted(self, text: str) -> str:
        return text.replace(self._quote, "")
