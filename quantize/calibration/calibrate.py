"""What a text teaches about quantizing a model: candidates for every matrix, and what each would
cost.

The order of the work; the parts are in the modules beside this one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyqwen.errors import CancelledError, NumericError
from pyqwen.quantize.calibration import transformer
from pyqwen.quantize.calibration.layers import (
    BATCH,
    Candidate,
    Methods,
    Prepared,
    pass_layer,
    quantize_layer,
)
from pyqwen.quantize.calibration.scratch import Scratch
from pyqwen.quantize.calibration.sensitivity import Sensitivities, measure_sensitivities
from pyqwen.quantize.calibration.source_weights import SourceWeights
from pyqwen.quantize.calibration.vocabulary_matrices import quantize_vocabulary_matrix
from pyqwen.text.tokenizer import Tokenizer

F32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

LENGTH = 512  # tokens of a sequence
MOST_SEQUENCES = 64
_SENSITIVITY_SEQUENCES = 8  # whose gradients are carried back


@dataclass(frozen=True, slots=True)
class Calibration:
    """``losses[name]`` goes with ``candidates[name]``: expected divergences in nats, or 0 where they
    were not asked for. ``vectors`` replace the source's norms and biases."""

    candidates: dict[str, list[Candidate]]
    losses: dict[str, list[float]]
    vectors: dict[str, F32]
    tokens: int


def sequences_of(text: str, tokenizer: Tokenizer) -> Ids:
    """Cut a text into sequences of tokens (n, LENGTH), at most ``MOST_SEQUENCES``, from all of it.

    Those at the front are from all of it, too. ``ValueError`` for a text that is too short.
    """
    ids = np.array(tokenizer.encode(text, add_bos=False), np.int64)
    count = len(ids) // LENGTH
    if count == 0:
        raise ValueError(
            f"the calibration text has {len(ids):,} tokens; {LENGTH:,} are the least, and "
            f"{MOST_SEQUENCES * LENGTH:,} are used of a longer one"
        )
    sequences = ids[: count * LENGTH].reshape(count, LENGTH)
    sequences = sequences[_spread(count, min(count, MOST_SEQUENCES))]
    front = _spread(len(sequences), min(len(sequences), _SENSITIVITY_SEQUENCES))
    order = [*front, *(i for i in range(len(sequences)) if i not in set(front))]
    sequences = sequences[order]
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        sequences[:, 0] = tokenizer.bos_id
    return sequences


def _spread(count: int, n: int) -> list[int]:
    """n of the numbers 0 .. count - 1, evenly apart."""
    return [i * count // n for i in range(n)]


def calibrate(
    weights: SourceWeights,
    sequences: Ids,
    types_of: Callable[[str], Sequence[str]],
    methods: Methods,
    scratch: Scratch,
    *,
    with_losses: bool,
    threads: int,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Calibration:
    """Quantize every matrix to the types that ``types_of(name)`` gives, for the texts ``sequences``.

    ``progress(done, total)`` gets units of work; ``cancel`` raises ``CancelledError``.
    ``NumericError`` where the model computes what is no number.
    """
    ids = sequences.reshape(-1)
    front = ids[: min(len(sequences), _SENSITIVITY_SEQUENCES) * LENGTH] if with_losses else ids[:0]
    meter = _Meter(_work(weights, len(ids), len(front), types_of), progress, cancel)
    r = transformer.rotation(weights.frequencies(), LENGTH)
    x = weights.embed(ids)
    prepared, layer_inputs = Prepared(), []
    for index in range(weights.layers):
        layer = weights.layer(index)
        layer_inputs.append(x[: len(front)].copy())
        moments = pass_layer(layer, weights.shape, r, x, meter.step(_batch_cost(weights)))
        _check_numbers(moments, index)
        quantize_layer(
            index,
            layer,
            weights,
            moments,
            types_of,
            methods,
            scratch,
            prepared,
            threads,
            meter.step(_candidate_cost(weights)),
        )
    sensitivities = None
    if with_losses:
        step = meter.step(3 * _batch_cost(weights))
        sensitivities = measure_sensitivities(weights, r, layer_inputs, x[: len(front)], step)
    losses = {
        name: [_loss(c, name, prepared, sensitivities) for c in candidates]
        for name, candidates in prepared.candidates.items()
    }
    final_moments = _final_moments(weights, x)
    frequencies = np.bincount(ids, minlength=weights.tensor(weights.embedding).rows) / len(ids)
    for name in dict.fromkeys((weights.embedding, weights.output)):
        prepared.candidates[name], losses[name] = quantize_vocabulary_matrix(
            name,
            weights,
            final_moments,
            frequencies,
            sensitivities,
            types_of(name),
            methods,
            scratch,
            threads,
            meter.step(_slice_cost(weights)),
        )
    return Calibration(prepared.candidates, losses, prepared.vectors, len(ids))


def _loss(
    candidate: Candidate, name: str, prepared: Prepared, sensitivities: Sensitivities | None
) -> float:
    if sensitivities is None:
        return 0.0
    rows = sensitivities.rows[name]
    if name in prepared.rows_divided:  # what is divided by s disturbs s times as much
        rows = rows * np.square(prepared.rows_divided[name], dtype=np.float64)
    return 0.5 * float(rows @ candidate.error)


def _final_moments(weights: SourceWeights, x: F32) -> F32:
    norm, hidden = weights.read(weights.names.name("output_norm")), weights.shape.hidden
    total = np.zeros((hidden, hidden), np.float32)
    for start in range(0, len(x), BATCH):
        final = transformer.rms_norm(x[start : start + BATCH], norm, weights.shape.norm_eps)
        total += final.T @ final
    return total / np.float32(len(x))


def _check_numbers(moments: dict[str, F32], layer: int) -> None:
    for name, values in moments.items():
        if not np.isfinite(values).all():
            raise NumericError(
                f"calibration: the inputs '{name}' of layer {layer} overflow float32; the model is "
                "damaged, or calibrate with another text"
            )


# ------------------------------------------------------------------------------------- how much work it is

_SEARCH = 6000  # multiply-adds in the time that one weight takes to be quantized


def _layer_weights(weights: SourceWeights) -> int:
    s = weights.shape
    attention = 2 * s.hidden * s.head_dim * (s.heads + s.kv_heads)
    return attention + 3 * s.hidden * s.ffn


def _batch_cost(weights: SourceWeights) -> int:
    """Of one batch through one layer, moments included; in thousands of multiply-adds."""
    s = weights.shape
    return BATCH * (_layer_weights(weights) + 2 * s.hidden**2 + s.ffn**2 // 4) // 1000


def _candidate_cost(weights: SourceWeights) -> int:
    """Of one matrix of a layer in one type, on average."""
    return _layer_weights(weights) // len(weights.names.inputs) * _SEARCH // 1000


def _slice_cost(weights: SourceWeights) -> int:
    tensor = weights.tensor(weights.embedding)
    return tensor.elements // len(list(tensor.slices())) * _SEARCH // 1000


def _work(
    weights: SourceWeights, tokens: int, front: int, types_of: Callable[[str], Sequence[str]]
) -> int:
    batches, back = -(-tokens // BATCH), -(-front // BATCH)
    total = weights.layers * (batches + 3 * back) * _batch_cost(weights)
    for index in range(weights.layers):
        for role in weights.names.inputs:
            total += len(types_of(weights.names.name(role, index))) * _candidate_cost(weights)
    for name in dict.fromkeys((weights.embedding, weights.output)):
        slices = len(list(weights.tensor(name).slices()))
        total += len(types_of(name)) * slices * _slice_cost(weights)
    return total


class _Meter:
    """Counts work, tells the caller, and stops when it is asked to."""

    def __init__(
        self, total: int, progress: Progress | None, cancel: threading.Event | None
    ) -> None:
        self._done, self._total, self._progress, self._cancel = 0, total, progress, cancel

    def step(self, cost: int) -> Callable[[], None]:
        """A function to call when ``cost`` more is done."""

        def advance() -> None:
            self._done += cost
            if self._progress:
                self._progress(min(self._done, self._total), self._total)
            if self._cancel and self._cancel.is_set():
                raise CancelledError("the quantization was cancelled; the output is as it was")

        return advance
