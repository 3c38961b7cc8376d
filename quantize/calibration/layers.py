"""Calibration, layer by layer: all texts pass through a layer, and its matrices are quantized to
every candidate.

The inputs are those of the unquantized model. What the candidates look like is kept in a scratch
file until it is known which of them the budget allows (allocation.py); for that, the gradients of
the output's divergence are carried back through the layers for a part of the texts
(sensitivity.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pyqwen._native import (
    QuantizationError,
    dequantize_rows,
    measure_quantization,
    quantize_weights,
)
from pyqwen.loading import environment
from pyqwen.quantize.calibration import transformer
from pyqwen.quantize.calibration.awq import FOLDED_VECTORS, fold_awq_scales
from pyqwen.quantize.calibration.gptq import Encoded, inverse_factor, quantize_matrix
from pyqwen.quantize.calibration.scratch import Scratch
from pyqwen.quantize.calibration.source_weights import SourceWeights
from pyqwen.quantize.calibration.transformer import Layer, Rotation, Shape

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

BATCH = 2048  # tokens that pass through a layer at once
DAMPING = 0.01  # of the mean diagonal, as in the GPTQ paper
# The widest input's moments cost the most, by far; this many tokens are enough for them.
_DOWN_TOKENS = 16384


@dataclass(frozen=True, slots=True)
class Methods:
    """What calibration does beside weighting errors by the size of the activations."""

    gptq: bool = True
    awq: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """A matrix in one type: where its bytes lie, each row's expected squared error, and for the report
    the errors of its weights."""

    type: str
    place: tuple[int, int]
    error: F64
    measured: QuantizationError


@dataclass(slots=True)
class Prepared:
    """What calibration made: for each matrix its candidates, and the tensors that folding changed."""

    candidates: dict[str, list[Candidate]] = field(default_factory=dict)
    vectors: dict[str, F32] = field(default_factory=dict)  # norms and biases
    rows_divided: dict[str, F32] = field(default_factory=dict)


def pass_layer(
    layer: Layer, shape: Shape, r: Rotation, x: F32, advance: Callable[[], None]
) -> dict[str, F32]:
    """Replace the hidden states ``x`` (tokens, hidden) by the layer's output.

    Returned are the second moments of its inputs, X^T X / tokens. ``advance`` is called after each batch.
    """
    sums: dict[str, F32] = {}
    counts: dict[str, int] = {}
    every = -(-len(x) // _DOWN_TOKENS)  # batches, so that they are of all the text
    for number, start in enumerate(range(0, len(x), BATCH)):
        y, done = transformer.forward(layer, shape, r, x[start : start + BATCH])
        x[start : start + BATCH] = y
        for name, values in done.inputs.items():
            if name == "down" and number % every:
                continue
            product = values.T @ values
            if name in sums:
                sums[name] += product
            else:
                sums[name] = product
            counts[name] = counts.get(name, 0) + len(values)
        advance()
    for name, total in sums.items():
        total /= np.float32(counts[name])
    return sums


def quantize_layer(
    index: int,
    layer: Layer,
    weights: SourceWeights,
    moments: dict[str, F32],
    types_of: Callable[[str], Sequence[str]],
    methods: Methods,
    scratch: Scratch,
    prepared: Prepared,
    threads: int,
    advance: Callable[[], None],
) -> None:
    """Quantize a layer's matrices, each to the types that ``types_of(its name)`` gives.

    ``layer`` and ``moments`` are used up. ``advance`` is called after each candidate.
    """
    names = weights.names
    if methods.awq:
        divided = fold_awq_scales(layer, weights.shape, moments)
        for role, rows in divided.items():
            prepared.rows_divided[names.name(role, index)] = rows
        for role in FOLDED_VECTORS:
            if role in layer.vector:
                prepared.vectors[names.name(role, index)] = layer.vector[role]
    for source in dict.fromkeys(layer.input_of.values()):
        importance = np.ascontiguousarray(np.diag(moments[source]))
        factor = inverse_factor(moments[source], DAMPING) if methods.gptq else None
        del moments[source]
        for role, read in layer.input_of.items():
            if read != source:
                continue
            name = names.name(role, index)
            values = layer.matrix.pop(role)
            for kind in types_of(name):
                encoded = encode(values, kind, importance, factor, threads)
                measured = measure_quantization(
                    encoded.data, values, kind, importance=importance, threads=threads
                )
                prepared.candidates.setdefault(name, []).append(
                    Candidate(kind, scratch.put(encoded.data), encoded.error, measured)
                )
                advance()


def encode(values: F32, kind: str, importance: F32, factor: F32 | None, threads: int) -> Encoded:
    """A matrix in one type, by GPTQ where there is a ``factor``."""
    if factor is not None:
        return quantize_matrix(values, kind, factor, threads=threads)
    data = quantize_weights(
        values, kind, importance=importance, threads=threads, isa=environment.isa()
    )
    difference = dequantize_rows(data, kind) - values
    error = np.einsum("ij,ij,j->i", difference, difference, importance, dtype=np.float64)
    return Encoded(kind, data, error)
