"""Quantizing with a calibration text: types by a recipe or within a budget, and the file that comes
of it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyqwen._native import QuantizationError, default_threads, tensor_types
from pyqwen.quantize.calibration.allocation import Option, allocate
from pyqwen.quantize.calibration.calibrate import Calibration, calibrate, sequences_of
from pyqwen.quantize.calibration.layers import Candidate, Methods
from pyqwen.quantize.calibration.scratch import Scratch
from pyqwen.quantize.calibration.source_weights import SourceWeights
from pyqwen.quantize.output.output_model import (
    OutputTensor,
    Progress,
    model_bytes,
    tensor_bytes,
    write_model,
)
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor, plain_values
from pyqwen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import gguf

# What AUTO chooses from: those with good quality for their bits, of 256 columns to a block and of 32.
_TYPES = ("Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
_TYPES_32 = ("IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
_BITS_BELOW, _BITS_ABOVE = 1.1, 2.0  # how far from the average a tensor's type may be


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: ``types``, the errors of the weights, and the divergence expected of each tensor
    (None where types were given). ``tokens`` were used."""

    file_bytes: int
    types: dict[str, str]
    measured: dict[str, QuantizationError]
    divergence: dict[str, float] | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The most bytes of the file, or of its tensors, and what that is in bits per weight, roughly."""

    file_bytes: int | None
    tensor_bytes: int | None
    bits_per_weight: float


def candidate_types(columns: int, bits_per_weight: float) -> list[str]:
    """The types that AUTO tries for rows of ``columns``, the smallest first."""
    kinds = _TYPES if columns % 256 == 0 else _TYPES_32
    bits = {kind: 8 * tensor_types()[kind].n_bytes / tensor_types()[kind].block for kind in kinds}
    near = [
        kind
        for kind in kinds
        if bits_per_weight - _BITS_BELOW <= bits[kind] <= bits_per_weight + _BITS_ABOVE
    ]
    below = [kind for kind in kinds if bits[kind] <= bits_per_weight]
    return near or below[-1:] or [kinds[0]]


def quantize_with_calibration(
    model: ModelSource,
    out: Path | None,
    keys: Mapping[str, gguf.GGUFValue],
    text: str,
    types: Mapping[str, str | None],
    methods: Methods,
    *,
    budget: Budget | None,
    finish_keys: Callable[[dict[str, str]], Mapping[str, gguf.GGUFValue]],
    threads: int | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> Written:
    """Quantize ``model`` to ``out``, for what ``text`` makes of its activations; None: write nothing.

    ``types`` has for every tensor its type, or None: then ``budget`` decides. ``finish_keys`` makes
    the file's metadata of the types, once these are known; its size must not depend on them. Errors are
    those of `pyqwen.quantize.quantize`.
    """
    weights = SourceWeights(model, plain_values(keys))
    sequences = sequences_of(
        text, Tokenizer.from_metadata(plain_values(keys), source=str(model.path))
    )
    tensors = {tensor.name: tensor for tensor in model.tensors}

    def types_of(name: str) -> Sequence[str]:
        given = types[name]
        if given is not None:
            return [given]
        assert budget is not None
        return candidate_types(tensors[name].columns, budget.bits_per_weight)

    with Scratch(out.resolve().parent if out else Path(tempfile.gettempdir())) as scratch:
        calibration = calibrate(
            weights,
            sequences,
            types_of,
            methods,
            scratch,
            with_losses=budget is not None,
            threads=default_threads() if threads is None else threads,
            progress=progress,
            cancel=cancel,
        )
        chosen = _choose(model, finish_keys, calibration, budget)
        outputs = [_output(t, calibration, chosen, scratch) for t in model.tensors]
        final = finish_keys({t.name: t.type for t in outputs})
        if out is None:
            size = model_bytes(final, outputs)
        else:
            size = write_model(
                out,
                final,
                outputs,
                inputs=model.inputs,
                check=model.check_unchanged,
                cancel=cancel,
            )
    return Written(
        size,
        {t.name: t.type for t in outputs},
        {name: candidate.measured for name, (candidate, _) in chosen.items()},
        {name: loss for name, (_, loss) in chosen.items()} if budget else None,
        calibration.tokens,
    )


def _choose(
    model: ModelSource,
    finish_keys: Callable[[dict[str, str]], Mapping[str, gguf.GGUFValue]],
    calibration: Calibration,
    budget: Budget | None,
) -> dict[str, tuple[Candidate, float]]:
    """For each matrix the candidate that is written, and its expected divergence."""
    pairs = {
        name: list(zip(candidates, calibration.losses[name], strict=True))
        for name, candidates in calibration.candidates.items()
    }
    if budget is None:
        return {name: choices[0] for name, choices in pairs.items()}
    smallest = {name: choices[0][0].type for name, choices in pairs.items()}
    kinds = {t.name: smallest.get(t.name, t.type) for t in model.tensors}
    unwritten = [OutputTensor(t.name, kinds[t.name], t.shape, lambda: ()) for t in model.tensors]
    size = model_bytes(finish_keys(kinds), unwritten)
    shapes = {t.name: t.shape for t in model.tensors}
    rest = size - sum(_room(kind, shapes[name]) for name, kind in smallest.items())
    allowed = budget.file_bytes
    if allowed is None:  # the header does not count
        assert budget.tensor_bytes is not None
        allowed = budget.tensor_bytes + size - sum(_room(t.type, t.shape) for t in unwritten)
    options = {
        name: [Option(c.type, _room(c.type, shapes[name]), loss) for c, loss in choices]
        for name, choices in pairs.items()
    }
    try:
        types = allocate(options, allowed - rest)
    except ValueError:
        raise ValueError(
            f"the smallest file that can be made with these types has {size:,} bytes, and "
            f"{allowed:,} are allowed; allow more"
        ) from None
    return {
        name: next(pair for pair in choices if pair[0].type == types[name].type)
        for name, choices in pairs.items()
    }


def _room(kind: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor in the file, up to the next multiple of the alignment."""
    return -(-tensor_bytes(kind, shape) // 32) * 32


def _output(
    tensor: SourceTensor,
    calibration: Calibration,
    chosen: Mapping[str, tuple[Candidate, float]],
    scratch: Scratch,
) -> OutputTensor:
    if tensor.name in chosen:
        candidate = chosen[tensor.name][0]
        return OutputTensor(
            tensor.name, candidate.type, tensor.shape, partial(scratch.parts, candidate.place)
        )
    if (values := calibration.vectors.get(tensor.name)) is not None:
        return OutputTensor(tensor.name, "F32", tensor.shape, lambda: (values,))
    return OutputTensor(
        tensor.name,
        tensor.type,
        tensor.shape,
        lambda: (tensor.read_raw(start, stop) for start, stop in tensor.slices()),
    )
