"""The calls of a model that return numbers about given tokens instead of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, cast

from pyqwen.engine.calls import Calls
from pyqwen.engine.engine import Engine
from pyqwen.engine.request import Scoring
from pyqwen.engine.stream import Waiter
from pyqwen.loading.config import ModelConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Scores:
    """A part of :class:`pyqwen.Model`, which has the engine."""

    config: ModelConfig
    _engine: Engine
    _calls: Calls

    def logits(
        self, ids: Sequence[int], *, adapter: str | Mapping[str, float] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the raw logits after every token: float32 (len(ids), ``config.vocab_rows``).

        Nothing is masked: the columns of padding rows are there too. ``adapter`` as in ``generate``.
        """
        import numpy as np

        tokens = self._calls.checked_ids(ids)
        out = np.empty((len(tokens), self.config.vocab_rows), np.float32)
        waiter = Waiter(self._engine)
        request = Scoring(tokens, waiter.deliver, logits=out)
        request.adapter = self._calls.checked_adapter(adapter)
        waiter.last_event(request)
        return out

    def logprobs(
        self,
        ids: Sequence[int],
        targets: Sequence[int] | None = None,
        *,
        adapter: str | Mapping[str, float] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return natural-log probabilities of tokens, each after the ids before it.

        Without ``targets`` those of ids[1], ids[2], ...: len(ids) - 1 numbers. With ``targets``, one
        for each of ``ids``, number i is that of targets[i] after ids[0] ... ids[i]. The matrix of
        all logits is never held.
        """
        tokens = self._calls.checked_ids(ids)
        if targets is None:
            tokens, wanted = tokens[:-1], tokens[1:]
        else:
            wanted = [index(target) for target in targets]
        if len(wanted) != len(tokens):
            raise ValueError(f"{len(wanted)} targets for {len(tokens)} ids; one for each is needed")
        if not tokens:
            import numpy as np

            return np.empty(0, np.float32)
        worst = max(wanted) if min(wanted) >= 0 else min(wanted)
        if not 0 <= worst < self.config.real_tokens:
            raise ValueError(
                f"target {worst} is not a token of this model: 0 to {self.config.real_tokens - 1}"
            )
        waiter = Waiter(self._engine)
        request = Scoring(tokens, waiter.deliver, targets=wanted)
        request.adapter = self._calls.checked_adapter(adapter)
        return cast("npt.NDArray[np.float32]", waiter.last_event(request))
