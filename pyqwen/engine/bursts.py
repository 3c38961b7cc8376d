"""Several steps of one answer without a look at anything else, where a step takes little time.

Between two passes over the weights the processor's caches are cold, and what Python does then costs several
times of what it usually does; so does whoever is woken for each token. A burst does only what the next pass
needs, and leaves the rest for its end. It lasts no longer than a picture of a screen.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from pyqwen._native import Sampled
from pyqwen.errors import PyQwenError

if TYPE_CHECKING:
    from pyqwen._native import Run, Sample, SessionHandle
    from pyqwen.engine.request import Request
    from pyqwen.engine.step import Step

BURST_SECONDS = 0.016


def write_on(
    session: SessionHandle,
    work: tuple[Request, Step],
    first: Sampled,
    since: float,
    sample: Callable[[list[Run]], list[Sampled]],
    may_go_on: Callable[[], bool],
) -> tuple[tuple[Request, Step], Sampled]:
    """Run the steps that may follow one that began at ``since`` and gave ``first``, unless it is cancelled.

    Returns all that was sampled, and the step with its followers: their tokens are in the slot, as
    proposals. What fails is left to the next step, which meets it again.
    """
    request, step = work
    slot, run = request.placed, step.run
    samples, failure = list(first.samples), first.failure
    while (
        failure is None
        and len(samples) <= step.more
        and run is not None
        and samples[-1].token not in step.end_ids
        and perf_counter() - since < BURST_SECONDS
        and not request.cancel_requested
        and may_go_on()
    ):
        token = samples[-1].token
        try:
            session.eval((token,), (slot.index,), (1,))
        except PyQwenError:
            break
        slot.tokens.append(token)
        drawn: list[Sample]
        drawn, failure = sample([run])[0]
        samples += drawn
    more = len(slot.tokens) - len(request.tokens)
    return (request, step._replace(proposed=more)), Sampled(samples, failure)
