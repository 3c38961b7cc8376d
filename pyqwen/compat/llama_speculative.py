"""Draft models of llama-cpp-python. Its look-up in the prompt becomes pyqwen's ``draft="ngram"``."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class LlamaDraftModel(abc.ABC):
    """Guesses what follows."""

    @abc.abstractmethod
    def __call__(self, input_ids: npt.NDArray[np.intc], /, **kwargs: Any) -> npt.NDArray[np.intc]:
        """Return the next tokens after ``input_ids``."""


class LlamaPromptLookupDecoding(LlamaDraftModel):
    """Guesses that what followed the same tokens before follows again.

    ``Llama(draft_model=...)`` takes it as ``Model(draft="ngram")``, which chooses the lengths itself, by
    what they gain. Called directly, it does what its arguments say.
    """

    def __init__(self, max_ngram_size: int = 2, num_pred_tokens: int = 10) -> None:
        self.max_ngram_size = max_ngram_size
        self.num_pred_tokens = num_pred_tokens

    @staticmethod
    def find_candidate_pred_tokens(
        input_ids: npt.NDArray[np.intc], max_ngram_size: int, num_pred_tokens: int
    ) -> npt.NDArray[np.intc]:
        """The tokens behind the first earlier place that ends as the whole does, the longest such end first.

        Empty if no end of at most ``max_ngram_size`` tokens occurs before.
        """
        import numpy as np

        ids = np.asarray(input_ids)
        for size in range(min(max_ngram_size, len(ids) - 1), 0, -1):
            # An occurrence that ends before the last token: something follows it.
            windows = np.lib.stride_tricks.sliding_window_view(ids[:-1], size)
            places = np.flatnonzero((windows == ids[-size:]).all(axis=1))
            if places.size:
                start = int(places[0]) + size
                return ids[start : start + num_pred_tokens]
        return np.array([], dtype=np.intc)

    def __call__(self, input_ids: npt.NDArray[np.intc], /, **kwargs: Any) -> npt.NDArray[np.intc]:
        return self.find_candidate_pred_tokens(input_ids, self.max_ngram_size, self.num_pred_tokens)


def drafts_of(draft_model: Any) -> str | None:
    """What ``Model(draft=...)`` makes of a ``draft_model``; ``TypeError`` for what is none."""
    from pyqwen.compat.notices import warn_once

    if draft_model is None:
        return None
    if isinstance(draft_model, LlamaPromptLookupDecoding):
        return "ngram"
    if callable(draft_model):
        warn_once(
            "draft_model",
            f"a {type(draft_model).__name__} is not asked for drafts; LlamaPromptLookupDecoding is",
        )
        return None
    raise TypeError(f"draft_model must be a LlamaDraftModel, not {type(draft_model).__name__}")
