"""Candidates for the matrices over the vocabulary: look-up of tokens, and logits.

A tied matrix serves both, so its rows are quantized for both: with the second moments of the hidden
states that are projected, weighted with the sensitivity of the logits, and beside them, on the
diagonal, the sensitivity of the residual stream to the tokens that are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pyqwen._native import QuantizationError, dequantize_rows, measure_quantization
from pyqwen.quantize.calibration.gptq import inverse_factor
from pyqwen.quantize.calibration.layers import DAMPING, Candidate, Methods, encode
from pyqwen.quantize.calibration.scratch import Scratch
from pyqwen.quantize.calibration.sensitivity import Sensitivities
from pyqwen.quantize.calibration.source_weights import SourceWeights
from pyqwen.quantize.quantization import joined_errors

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def quantize_vocabulary_matrix(
    name: str,
    weights: SourceWeights,
    moments: F32,
    frequencies: F64,
    sensitivities: Sensitivities | None,
    types: Sequence[str],
    methods: Methods,
    scratch: Scratch,
    threads: int,
    advance: Callable[[], None],
) -> tuple[list[Candidate], list[float]]:
    """Quantize ``name``, the embedding or the output matrix, to ``types``.

    ``moments`` (hidden, hidden) are of what is projected; ``frequencies`` say how often each token is
    looked up, their sum is 1. Returned are the candidates, and the divergence expected from each
    (0 without ``sensitivities``).
    """
    tensor = weights.tensor(name)
    looked_up = name == weights.embedding
    projected = not looked_up or weights.tied
    hidden = tensor.columns
    target = np.zeros((hidden, hidden), np.float32)
    if projected:
        target += moments * np.float32(sensitivities.output.sum() if sensitivities else 1.0)
    if looked_up:
        on_diagonal = np.mean(np.diag(moments)) * np.ones(hidden) * (0.05 if projected else 1.0)
        if sensitivities:
            on_diagonal = sensitivities.embedded
        target.ravel()[:: hidden + 1] += on_diagonal.astype(np.float32)
    factor = inverse_factor(target, DAMPING) if methods.gptq else None
    importance = np.ascontiguousarray(np.diag(target))
    candidates, losses = [], []
    for kind in types:
        first, n_bytes, loss = None, 0, 0.0
        measured: QuantizationError | None = None
        for start, stop in tensor.slices():
            values = weights.read_rows(name, start, stop)
            encoded = encode(values, kind, importance, factor, threads)
            place = scratch.put(encoded.data)
            first = place[0] if first is None else first
            n_bytes += place[1]
            if sensitivities:
                error = dequantize_rows(encoded.data, kind) - values
                if projected:
                    at_logits = np.einsum("ij,ij->i", error @ moments, error, dtype=np.float64)
                    loss += 0.5 * float(at_logits @ sensitivities.output[start:stop])
                if looked_up:
                    at_input = np.square(error, dtype=np.float64) @ sensitivities.embedded
                    loss += 0.5 * float(at_input @ frequencies[start:stop])
            measured = joined_errors(
                measured,
                measure_quantization(
                    encoded.data, values, kind, importance=importance, threads=threads
                ),
                start,
            )
            advance()
        assert first is not None
        assert measured is not None
        candidates.append(Candidate(kind, (first, n_bytes), np.zeros(0), measured))
        losses.append(loss)
    return candidates, losses
