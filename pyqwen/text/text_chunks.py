"""A text cut as llama-perplexity does, so that what is measured on it can be compared.

The tokens are cut into chunks of ``context``; each is read from an empty cache, and only the
predictions of its second half count, which have at least half a context before them. Where the
model wants a beginning-of-text token, it takes the place of the first token of each chunk. (Source
of the method: tools/perplexity/perplexity.cpp of llama.cpp.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyqwen._native import SessionHandle


class TextChunks:
    """The first ``chunks`` whole chunks of a text of token ids, all of them for None.

    ``ValueError`` where the text has fewer than ``at_least``.
    """

    def __init__(
        self,
        ids: Sequence[int],
        context: int,
        chunks: int | None = None,
        *,
        bos: int | None = None,
        at_least: int = 2,
    ) -> None:
        if context < 4:
            raise ValueError(
                f"a context of {context} tokens leaves nothing to predict; use 4 or more"
            )
        if chunks is not None and chunks < 1:
            raise ValueError(f"{chunks} chunks leave nothing to read; use 1 or more")
        if len(ids) < at_least * context:
            raise ValueError(
                f"the text has {len(ids):,} tokens, but a context of {context} needs "
                f"{at_least * context:,} or more: give a longer text or a smaller context (-c)"
            )
        whole = len(ids) // context
        self.context = context
        self.count = whole if chunks is None else min(chunks, whole)
        self._ids, self._bos = ids, bos

    def inputs(self, chunk: int) -> list[int]:
        """Return what the model reads: the tokens of a chunk, the first perhaps replaced."""
        tokens = self._tokens(chunk)
        return tokens if self._bos is None else [self._bos, *tokens[1:]]

    def read(
        self,
        chunk: int,
        sessions: Sequence[SessionHandle],
        score: Callable[[list[int]], None],
    ) -> None:
        """Let the sessions read a chunk, each from an empty cache, a batch at a time.

        After each batch with predictions that count, ``score`` gets the tokens that they should have
        predicted, in the order of the sessions' outputs.
        """
        tokens, inputs = self._tokens(chunk), self.inputs(chunk)[:-1]
        first = self.context // 2
        batch = min(session.batch for session in sessions)
        for session in sessions:
            session.rewind(0, 0)
        for begin in range(0, len(inputs), batch):
            positions = range(begin, min(begin + batch, len(inputs)))
            outputs = [1 if position >= first else 0 for position in positions]
            for session in sessions:
                session.eval(inputs[begin : positions.stop], [0] * len(positions), outputs)
            if any(outputs):
                score([tokens[i + 1] for i in positions if i >= first])

    def _tokens(self, chunk: int) -> list[int]:
        return list(self._ids[chunk * self.context : (chunk + 1) * self.context])
