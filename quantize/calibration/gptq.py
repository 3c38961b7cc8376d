"""GPTQ on GGUF's block formats: a matrix is quantized for what it does to its inputs.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"
(arXiv 2210.17323). The core quantizes panels of columns (csrc/quantizer/gptq.c); this module
makes the factor they need and carries their errors to the columns on the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyqwen._native import gptq_panel
from pyqwen.loading import environment

F32 = npt.NDArray[np.float32]

_SMALL = 128  # triangles up to this size are inverted by LAPACK
PANEL = 256  # columns that go to the core at once: a super-block


@dataclass(frozen=True, slots=True)
class Encoded:
    """A matrix as the file's bytes (rows, bytes per row), and the squared error of each row's outputs:
    the mean over the tokens that the moments were taken of."""

    type: str
    data: npt.NDArray[np.uint8]
    error: npt.NDArray[np.float64]


def inverse_factor(moments: F32, damping: float) -> F32:
    """U, upper triangular, with U^T U the inverse of ``moments`` (n, n) + damping * their mean diagonal.

    Made without inverting: with the order of columns reversed a lower Cholesky factor is an upper one.
    """
    n = len(moments)
    damped = np.array(moments[::-1, ::-1], dtype=np.float32, order="C")
    mean = float(np.trace(damped)) / n
    damped.ravel()[:: n + 1] += np.float32(damping * mean if mean > 0 else 1.0)
    lower = np.linalg.cholesky(damped)
    del damped  # of the widest input it is larger than all else
    return np.ascontiguousarray(_inverse_of_lower(lower)[::-1, ::-1])


def _inverse_of_lower(lower: F32) -> F32:
    """The inverse of a lower triangle by halves: [[a, 0], [b, c]] has -c^-1 b a^-1 at b's place."""
    n = len(lower)
    if n <= _SMALL:
        return np.asarray(np.tril(np.linalg.inv(lower)), np.float32)
    half = n // 2
    out = np.zeros_like(lower)
    out[:half, :half] = _inverse_of_lower(lower[:half, :half])
    out[half:, half:] = _inverse_of_lower(lower[half:, half:])
    out[half:, :half] = -(out[half:, half:] @ (lower[half:, :half] @ out[:half, :half]))
    return out


def quantize_matrix(
    weights: F32,
    tensor_type: str,
    factor: F32,
    *,
    threads: int | None = None,
) -> Encoded:
    """Quantize ``weights`` (rows, cols) with the ``factor`` of their inputs."""
    rows, cols = weights.shape
    rest = weights.copy()
    parts = []
    error = np.zeros(rows)
    for start in range(0, cols, PANEL):
        stop = min(start + PANEL, cols)
        block = np.ascontiguousarray(factor[start:stop, start:stop])
        data, errors = gptq_panel(
            rest[:, start:stop], tensor_type, block, threads=threads, isa=environment.isa()
        )
        parts.append(data)
        error += np.einsum("ij,ij->i", errors, errors, dtype=np.float64)
        if stop < cols:
            rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return Encoded(tensor_type, np.concatenate(parts, axis=1), error)
