"""What a quantization did, or would do: the facts for reports and programs."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyqwen._native import QuantizationError


@dataclass(frozen=True, slots=True)
class TypeTotal:
    """The tensors of one type: how many, their bytes and weights."""

    tensors: int
    bytes: int
    weights: int


@dataclass(frozen=True, slots=True)
class WorstBlock:
    """The block with the largest error relative to its weights, and where it begins."""

    error: float
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """One tensor of the output. ``shape`` has the row length last.

    ``rms_error`` is the root mean square of the error, relative to that of the weights;
    ``weighted_error`` the same with each column's importance. They are None where nothing was
    changed, or nothing measured (a dry run), ``weighted_error`` also where no importance is known.
    ``fallback`` says why a tensor did not get the type that was meant for it, ``divergence`` what it
    is expected to add to the mean divergence of the model's predictions, in nats; only AUTO knows.
    """

    name: str
    source_type: str
    type: str
    shape: tuple[int, ...]
    n_bytes: int
    rms_error: float | None = None
    weighted_error: float | None = None
    worst_block: WorstBlock | None = None
    fallback: str | None = None
    divergence: float | None = None

    @property
    def weights(self) -> int:
        """How many weights the tensor has."""
        return math.prod(self.shape)

    @property
    def bits_per_weight(self) -> float:
        """Bits that the file spends on each weight of the tensor."""
        return 8 * self.n_bytes / self.weights if self.weights else 0.0


@dataclass(frozen=True, slots=True)
class Quantization:
    """What ``quantize`` did. ``path`` is None after a dry run; ``file_bytes`` is exact there, too.

    ``rms_error`` is that of all changed tensors together, None where nothing was measured.
    ``notes`` are sentences about what a user should know.
    """

    source: Path
    path: Path | None
    type: str
    architecture: str
    file_bytes: int
    source_bytes: int  # of the tensors in the source
    tensors: tuple[QuantizedTensor, ...]
    rms_error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """How many weights all tensors have."""
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without metadata and padding."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits that the file spends on each weight, over all tensors."""
        return 8 * self.tensor_bytes / self.weights if self.weights else 0.0

    @property
    def fallbacks(self) -> tuple[QuantizedTensor, ...]:
        """The tensors that did not get the type that was meant for them."""
        return tuple(tensor for tensor in self.tensors if tensor.fallback)

    @property
    def types(self) -> dict[str, TypeTotal]:
        """The totals of each type, the one with the most bytes first."""
        count: Counter[str] = Counter()
        n_bytes: Counter[str] = Counter()
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            count[tensor.type] += 1
            n_bytes[tensor.type] += tensor.n_bytes
            weights[tensor.type] += tensor.weights
        return {
            kind: TypeTotal(count[kind], size, weights[kind])
            for kind, size in n_bytes.most_common()
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary for JSON; the keys are part of the interface."""
        return {
            "source": str(self.source),
            "output": None if self.path is None else str(self.path),
            "type": self.type,
            "architecture": self.architecture,
            "file_bytes": self.file_bytes,
            "tensor_bytes": self.tensor_bytes,
            "source_bytes": self.source_bytes,
            "weights": self.weights,
            "bits_per_weight": self.bits_per_weight,
            "rms_error": self.rms_error,
            "types": {kind: asdict(total) for kind, total in self.types.items()},
            "fallbacks": {tensor.name: tensor.fallback for tensor in self.fallbacks},
            "notes": list(self.notes),
            "tensors": [_tensor_to_dict(tensor) for tensor in self.tensors],
        }


def _tensor_to_dict(tensor: QuantizedTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "source_type": tensor.source_type,
        "type": tensor.type,
        "shape": list(tensor.shape),
        "bytes": tensor.n_bytes,
        "bits_per_weight": tensor.bits_per_weight,
        "rms_error": tensor.rms_error,
        "weighted_error": tensor.weighted_error,
        "worst_block": asdict(tensor.worst_block) if tensor.worst_block else None,
        "fallback": tensor.fallback,
        "divergence": tensor.divergence,
    }


def joined_errors(
    before: QuantizationError | None, error: QuantizationError, start: int
) -> QuantizationError:
    """The errors of a tensor with those of its next rows, which begin at ``start``."""
    error = error._replace(worst_row=error.worst_row + start)
    if before is None:
        return error
    worst = error if error.worst > before.worst else before
    return worst._replace(
        error=before.error + error.error,
        energy=before.energy + error.energy,
        weighted_error=before.weighted_error + error.weighted_error,
        weighted_energy=before.weighted_energy + error.weighted_energy,
    )


def relative_error(error: float, energy: float) -> float:
    """The root mean square of errors relative to that of what they are errors of, from sums of squares."""
    return math.sqrt(error / energy) if energy > 0 else 0.0
