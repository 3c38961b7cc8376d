"""How much the model's answers change with an error at the output of each matrix.

For small errors the divergence of the next-token distributions is a quadratic form: half the error
times the Fisher information of what it disturbs. Of that the diagonal is estimated: the mean
square, over tokens, of the gradient at each output, for logit gradients g = (I - p 1^T) (sqrt(p) *
s) with random signs s, whose second moments are the Fisher information diag(p) - p p^T of a
softmax. With it and the errors of the outputs (gptq.py) the expected divergence of a
quantized matrix is 1/2 sum over rows of sensitivity * error; those of all matrices add up. (Martens
and Grosse, K-FAC, arXiv 1503.05671, for the factors; Dong et al., HAWQ, arXiv 1905.03696, for types
by sensitivity.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyqwen.quantize.calibration import transformer
from pyqwen.quantize.calibration.layers import BATCH
from pyqwen.quantize.calibration.source_weights import SourceWeights
from pyqwen.quantize.calibration.transformer import Rotation

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_LOGIT_BYTES = 128 << 20  # of the logits that are held at once
_SEED = 0  # of the random signs: the same model gives the same file


@dataclass(frozen=True, slots=True)
class Sensitivities:
    """Mean squares of gradients over tokens: at each matrix's outputs (its rows), at the logits
    (``output``: vocabulary rows) and at the embedded tokens (``embedded``: hidden)."""

    rows: dict[str, F64]
    output: F64
    embedded: F64


def measure_sensitivities(
    weights: SourceWeights,
    r: Rotation,
    layer_inputs: list[F32],
    final: F32,
    advance: Callable[[], None],
) -> Sensitivities:
    """Carry gradients back from the logits of ``final`` (tokens, hidden: what the last layer gave).

    ``layer_inputs`` are the same tokens' hidden states before each layer. ``advance`` is called
    after each batch of a layer.
    """
    dx, output = _at_the_end(weights, final)
    rows: dict[str, F64] = {}
    for index in reversed(range(weights.layers)):
        layer = weights.layer(index)
        for start in range(0, len(dx), BATCH):
            batch = np.s_[start : start + BATCH]
            _, done = transformer.forward(layer, weights.shape, r, layer_inputs[index][batch])
            dx[batch], gradients = transformer.backward(layer, weights.shape, r, done, dx[batch])
            for role, gradient in gradients.items():
                name = weights.names.name(role, index)
                rows[name] = rows.get(name, np.float64(0)) + _square_sum(gradient)
            advance()
    n = len(dx)
    embedded = _square_sum(dx) / n
    return Sensitivities({name: total / n for name, total in rows.items()}, output, embedded)


def _square_sum(x: F32) -> F64:
    return np.asarray(np.einsum("ij,ij->j", x, x, dtype=np.float64))


def _at_the_end(weights: SourceWeights, final: F32) -> tuple[F32, F64]:
    """The gradients at ``final``, and the mean over tokens of p (1 - p) for each row of the output."""
    tensor = weights.tensor(weights.output)
    norm = weights.read(weights.names.name("output_norm"))
    signs = np.random.default_rng(_SEED)
    dx = np.empty_like(final)
    sensitivity = np.zeros(tensor.rows)
    step = max(1, _LOGIT_BYTES // (4 * tensor.rows))
    matrix = weights.read(tensor.name)
    for start in range(0, len(final), step):
        x = final[start : start + step]
        p = transformer.rms_norm(x, norm, weights.shape.norm_eps) @ matrix.T
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        sensitivity += (p * (1.0 - p)).sum(axis=0)
        g = np.sqrt(p)
        g *= signs.integers(0, 2, p.shape, dtype=np.int8) * np.float32(2) - np.float32(1)
        g -= p * g.sum(axis=1, keepdims=True)
        dx[start : start + step] = transformer.rms_norm_backward(
            g @ matrix, x, norm, weights.shape.norm_eps
        )
    return dx, sensitivity / len(final)
