"""Where user text must be cut so that it cannot form the text of a control token.

Owns that one question, for text that a template may trim and set between its own literals. Knows
nothing of token ids; ``chat_template`` carries the cuts through the template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class ControlTextCutter:
    """Finds the cuts for the control texts of one vocabulary and the literals of one template."""

    def __init__(self, control_texts: Iterable[str], literals: Iterable[str]) -> None:
        texts = sorted(set(control_texts))
        # A lookahead finds texts that overlap, too.
        whole = "|".join(map(re.escape, texts))
        self._whole = re.compile(f"(?={whole})") if texts else None
        heads = {text[:n] for text in texts for n in range(1, len(text))}
        self._heads = tuple(heads)
        self._tails = tuple({text[n:] for text in texts for n in range(1, len(text))})
        # Templates that assemble control texts ('<|' + x + '|>') could do so around user text.
        endings = tuple(literals)
        open_heads = {head for head in heads if any(end.endswith(head) for end in endings)}
        self._middles = {
            text[len(head) : n]
            for head in open_heads
            for text in texts
            if text.startswith(head)
            for n in range(len(head) + 1, len(text))
        }

    def cuts(self, text: str) -> list[int]:
        """Ascending positions at which to cut ``text``; none for nearly every text."""
        if self._whole is None:
            return []
        cuts = {match.start() + 1 for match in self._whole.finditer(text)}
        core = text.strip()
        if core.startswith(self._tails) or core in self._middles:
            cuts.add(text.index(core))
        if core.endswith(self._heads):
            cuts.add(len(text.rstrip()))
        return sorted(cuts)
