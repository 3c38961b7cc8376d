"""Functions of the caller that run beside sampling, in llama-cpp-python's shape: processors of logits, and
criteria that stop an answer.

Both become one ``logits_processor`` of pyqwen, which is called with the ids so far and the logits of the next
token, in the thread that runs all requests of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import ref

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen.options import LogitsProcessor as PyQwenProcessor

LogitsProcessor = Callable[[Any, Any], Any]
"""``process(input_ids, scores)`` returns the scores, changed."""
StoppingCriteria = Callable[[Any, Any], bool]
"""``stop(input_ids, logits)`` says whether the answer ends before its next token."""


class LogitsProcessorList(list[LogitsProcessor]):
    """Processors, applied one after the other."""

    def __call__(
        self, input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
    ) -> npt.NDArray[np.single]:
        for process in self:
            scores = process(input_ids, scores)
        return scores


class StoppingCriteriaList(list[StoppingCriteria]):
    """Criteria, any of which ends the answer."""

    def __call__(self, input_ids: npt.NDArray[np.intc], logits: npt.NDArray[np.single]) -> bool:
        return any(stop(input_ids, logits) for stop in self)


class MinTokensLogitsProcessor:
    """Forbids the end token for the first tokens of an answer."""

    def __init__(self, min_tokens: int, token_eos: int) -> None:
        self.min_tokens = min_tokens
        self.token_eos = token_eos
        self.prompt_tokens: int | None = None

    def __call__(
        self, input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
    ) -> npt.NDArray[np.single]:
        if self.prompt_tokens is None:
            self.prompt_tokens = len(input_ids)
        if len(input_ids) - self.prompt_tokens < self.min_tokens:
            scores[self.token_eos] = -float("inf")
        return scores


class _Cancellable(Protocol):
    def cancel(self) -> None:
        """Stop the model."""


class Watch:
    """The ``logits_processor`` of one request; it stops the request's stream where a criterion says so."""

    def __init__(self, process: Any, criteria: Any, n_vocab: int) -> None:
        """Raises ``TypeError`` for what cannot be called. ``n_vocab``: how many scores functions see."""
        self._process = _callable("logits_processor", process, LogitsProcessorList)
        self._criteria = _callable("stopping_criteria", criteria, StoppingCriteriaList)
        self._n_vocab = n_vocab
        self._scores: Any = None
        self._stream: ref[_Cancellable] | None = None  # which holds this
        self._read: int | None = None  # tokens of the prompt
        self.written: int | None = None
        """Tokens of the answer, if a criterion ended it."""

    def attach(self, stream: _Cancellable) -> None:
        """Name the stream that is stopped."""
        self._stream = ref(stream)
        if self.written is not None:
            stream.cancel()

    def hook(self) -> PyQwenProcessor | None:
        """What pyqwen calls; None if there is nothing to call."""
        if self._process is None and self._criteria is None:
            return None
        return cast("PyQwenProcessor", self._run)

    def _run(self, ids: list[int], logits: npt.NDArray[np.float32]) -> None:
        if self.written is not None:  # the stream ends soon
            return
        import numpy as np

        if self._read is None:
            self._read = len(ids)
        tokens = np.asarray(ids, np.intc)
        if self._criteria is not None and self._criteria(tokens, self._padded(logits)):
            self.written = len(ids) - self._read
            stream = self._stream() if self._stream is not None else None
            if stream is not None:
                stream.cancel()
            return
        if self._process is not None:
            changed = self._process(tokens, self._padded(logits))
            logits[:] = np.asarray(changed, np.float32)[: len(logits)]

    def _padded(self, logits: npt.NDArray[np.float32]) -> Any:
        """The logits as one row of the output matrix, as llama.cpp has them: rows of no token cannot win."""
        import numpy as np

        if self._scores is None:
            self._scores = np.full(max(self._n_vocab, len(logits)), -np.inf, np.float32)
        self._scores[: len(logits)] = logits
        self._scores[len(logits) :] = -np.inf
        return self._scores


def _callable(name: str, given: Any, as_list: type) -> Callable[..., Any] | None:
    if given is None:
        return None
    if isinstance(given, Sequence) and not callable(given) and not isinstance(given, str | bytes):
        given = as_list(given)
    if not callable(given):
        raise TypeError(f"{name} must be a list of functions, not {type(given).__name__}")
    if isinstance(given, list):
        for one in given:
            if not callable(one):
                raise TypeError(f"{name} must hold functions, not {type(one).__name__}")
        if not given:
            return None
    return cast("Callable[..., Any]", given)
