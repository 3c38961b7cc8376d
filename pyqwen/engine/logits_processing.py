"""Logits that a function of the caller changes before a token is drawn from them: the slow path.

Every token takes a pass of its own, and the logits come to Python. The function runs in the engine's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyqwen._native import ComingMask, Draw, Run, Sample

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen._native import Mask, SamplerHandle, SessionHandle
    from pyqwen.engine.step import Constraint
    from pyqwen.options import LogitsProcessor


class ProcessedDraw:
    """Draws the next token of one request."""

    def __init__(
        self, process: LogitsProcessor, sampler: SamplerHandle, scorer: SamplerHandle, rows: int
    ) -> None:
        """``scorer`` reports log-probabilities of the model's own distribution, which has ``rows``."""
        import numpy as np  # which plain answers do without

        self._process, self._sampler, self._scorer = process, sampler, scorer
        self._logits = np.empty((1, rows), np.float32)
        self._drawn: Sample | None = None

    def draw(
        self, session: SessionHandle, output: int, ids: list[int], constraint: Constraint | None
    ) -> None:
        """Draw from an output; ``take`` returns the sample. After a ``CancelledError`` it can go on."""
        if self._drawn is None:
            forced = constraint.forced() if constraint is not None else []
            if forced:
                self._sampler.accept(forced[:1], generated=True)
                self._drawn = Sample(forced[0], 0.0, [])
            else:
                mask = constraint.mask() if constraint is not None else None
                self._drawn = self._draw_processed(session, output, ids, mask)
        if self._sampler.want_logprob:
            draws = [Draw(0, self._drawn.token, forced=True)]
            (scored,) = session.sample([Run(self._scorer, draws, output)])
            if scored.failure is not None:
                raise scored.failure
            self._drawn = scored.samples[0]

    def take(self) -> list[Sample]:
        """The token that was drawn."""
        drawn, self._drawn = self._drawn, None
        return [drawn] if drawn is not None else []

    def _draw_processed(
        self, session: SessionHandle, output: int, ids: list[int], mask: Mask | ComingMask | None
    ) -> Sample:
        import numpy as np

        session.logits(output, 1, self._logits)
        row = self._logits[0, : self._sampler.real_tokens]
        try:
            changed = self._process(list(ids), row)
        except Exception:
            raise
        except BaseException as error:  # must not end the thread that runs all requests
            raise RuntimeError(f"logits_processor raised {error!r}") from error
        if changed is not None and changed is not row:
            row[:] = _checked(changed, row.shape)
        largest = row.max()
        if not np.isfinite(largest):
            raise ValueError(
                f"the largest logit after logits_processor is {largest}; it must be a finite number"
            )
        return self._sampler.sample(row, mask.get() if isinstance(mask, ComingMask) else mask)


def _checked(changed: object, shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
    import numpy as np

    if not isinstance(changed, np.ndarray) or not np.issubdtype(changed.dtype, np.floating):
        raise TypeError(
            "logits_processor must return None or an array of floats, not "
            f"{getattr(changed, 'dtype', type(changed).__name__)}"
        )
    if changed.shape != shape:
        raise ValueError(f"logits_processor returned {changed.shape} logits, not {shape}")
    return changed
