"""The step protocol: what a request wants to run next, and what may guide an answer.

The engine asks every request for its next :class:`Step`, runs the steps of all requests as one batch, and
gives back what came of them. It does not know whether the tokens are a prompt, one token of an answer, a
draft to be verified, what a grammar forces, or a text to be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import NamedTuple, Protocol

from pyqwen._native import ComingMask, Draw, Mask, Run, SessionHandle

ReadOutputs = Callable[[SessionHandle, int, int, int], None]
"""``read(session, output, index, n)``: use ``n`` outputs of the session from ``output`` on, which are
those of the step from ``index`` on. It is called again if it raises ``CancelledError``."""


class Step(NamedTuple):
    """What a request runs next, and what it wants of that.

    ``tokens`` are appended to its sequence; ``outputs`` says of each with 1 that its final hidden state is
    needed. ``run`` samples from these outputs, ``read`` uses them otherwise. The last ``proposed`` tokens
    are a proposal: they are taken out of the sequence unless they come to be tokens of the request.

    After a step whose run is one draw, up to ``more`` like it may follow at once, each with the token that
    was sampled before, until one is in ``end_ids``.
    """

    tokens: list[int]
    outputs: list[int]
    run: Run | None = None
    proposed: int = 0
    read: ReadOutputs | None = None
    more: int = 0
    end_ids: Container[int] = ()


class Draft(Protocol):
    """Guesses how a text goes on. Right guesses save time, wrong ones change no answer."""

    def propose(self, tokens: list[int]) -> list[int]:
        """Return the tokens that may follow ``tokens``, a prompt and what was written; [] for no idea.

        They are ids of the model. It may be called again for the same tokens, and must leave the list
        alone.
        """


class Constraint(Protocol):
    """Says which tokens may follow. It stands behind the last token that it accepted."""

    def mask(self) -> Mask | ComingMask | None:
        """Return which tokens may come next, one bit each; None for all of them.

        A mask that is still to come is asked for when the model has run.
        """

    def forced(self) -> list[int]:
        """Return the tokens that come next whatever a model thinks; [] if more than one could."""

    def accept(self, token: int) -> None:
        """Go on behind a token that may come next."""

    def rewind(self, n: int) -> None:
        """Take back the last ``n`` accepted tokens."""

    def finished(self) -> bool:
        """Whether the answer is whole, and nothing can follow."""


def plan_run(
    tokens: list[int],
    room: int,
    *,
    draft: Draft | None,
    constraint: Constraint | None,
    end_ids: Container[int],
    wants_logprobs: bool,
) -> tuple[list[Draw], list[int]]:
    """Return how the tokens after ``tokens`` are found, and those of them that are known or guessed.

    These, at most ``room``, are run before it is known whether they are right: there is one draw for each
    and one for what follows them. Nothing follows a token in ``end_ids``, or one with which the constraint
    has finished. The constraint is left as it was.
    """
    draws: list[Draw] = []
    proposals: list[int] = []
    guesses = draft.propose(tokens) if draft is not None and room > 0 else []
    forced: list[int] = []
    output = accepted = 0
    try:
        while True:
            at = len(proposals)
            if constraint is not None and not forced:
                forced = list(constraint.forced())
            if forced:
                token = forced.pop(0)
                draws.append(Draw(output, token, forced=True))
                output += wants_logprobs
            else:
                mask = constraint.mask() if constraint is not None else None
                token = guesses[at] if at < len(guesses) else -1
                if token < 0 or not _allows(mask, token):
                    token = -1
                draws.append(Draw(output, token, mask=mask))
                output += 1
            if token < 0 or token in end_ids or at >= room:
                return draws, proposals
            if at < len(guesses) and guesses[at] != token:  # forced otherwise: the guess was wrong
                guesses = []
            if constraint is not None:
                constraint.accept(token)
                accepted += 1
                if constraint.finished():
                    return draws, proposals
            proposals.append(token)
    finally:
        if constraint is not None and accepted:
            constraint.rewind(accepted)


def _allows(mask: Mask | ComingMask | None, token: int) -> bool:
    if mask is None:
        return True
    words = mask.get() if isinstance(mask, ComingMask) else mask
    return bool(int(words[token // 32]) >> token % 32 & 1)
