"""Quantizing with a calibration text, from the arguments of `pyqwen.quantize.quantize` to its result."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyqwen.quantize.calibration.options import CalibrationOptions
from pyqwen.quantize.calibration.pipeline import Budget, Written, quantize_with_calibration
from pyqwen.quantize.output.output_model import OutputTensor, Progress, tensor_bytes
from pyqwen.quantize.output.runnable import check_runnable
from pyqwen.quantize.quantization import Quantization, QuantizedTensor, WorstBlock, relative_error
from pyqwen.quantize.recipes import (
    AUTO,
    FILE_TYPES,
    Choice,
    ModelShape,
    TensorShape,
    TypeOptions,
    choose_types,
    given_types,
)
from pyqwen.quantize.source.model_source import ModelSource, set_key
from pyqwen.quantize.type_plan import (
    QUANTIZATION_VERSION,
    refuse_requantizing,
    unused_patterns,
)

if TYPE_CHECKING:
    import gguf

# general.file_type has no number for a mixture: that of the recipe named after most of the bytes.
_FILE_TYPE_OF = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}


def quantize_calibrated(
    model: ModelSource,
    out: Path | None,
    recipe: str,
    type_options: TypeOptions,
    options: CalibrationOptions,
    *,
    allow_requantize: bool,
    notes: Sequence[str],
    threads: int | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> Quantization:
    """Quantize the open ``model``; with ``out`` None do all but write. See `quantize` for the rest."""
    choices = _choices(model, recipe, type_options)
    for tensor in model.tensors:
        choice = choices.get(tensor.name)
        if len(tensor.shape) > 1 and not allow_requantize:
            refuse_requantizing(tensor, choice.type if choice else "another type")
    keys = model.keys()
    as_they_are = [OutputTensor(t.name, t.type, t.shape, lambda: ()) for t in model.tensors]
    check_runnable(keys, as_they_are, model.path)

    def finish_keys(types: dict[str, str]) -> dict[str, gguf.GGUFValue]:
        set_key(keys, "general.quantization_version", QUANTIZATION_VERSION)
        set_key(keys, "general.file_type", _file_type(model, recipe, types))
        return keys

    written = quantize_with_calibration(
        model,
        out,
        keys,
        options.text,
        {t.name: choices[t.name].type if t.name in choices else None for t in model.tensors},
        options.methods,
        budget=_budget(model, options),
        finish_keys=finish_keys,
        threads=threads,
        progress=progress,
        cancel=cancel,
    )
    tensors = tuple(
        _result(model, index, written, choices.get(tensor.name))
        for index, tensor in enumerate(model.tensors)
    )
    errors = written.measured.values()
    return Quantization(
        source=model.path,
        path=out,
        type=recipe,
        architecture=model.architecture,
        file_bytes=written.file_bytes,
        source_bytes=sum(tensor_bytes(t.type, t.shape) for t in model.tensors),
        tensors=tensors,
        rms_error=relative_error(
            math.fsum(e.error for e in errors), math.fsum(e.energy for e in errors)
        ),
        notes=(
            *model.notes,
            *notes,
            *unused_patterns(type_options, model),
            *_notes(options, written),
        ),
    )


def _choices(model: ModelSource, recipe: str, options: TypeOptions) -> dict[str, Choice]:
    """The types that no budget decides."""
    shapes = [TensorShape(t.name, t.type, t.shape) for t in model.tensors]
    if recipe == AUTO:
        return given_types(model.architecture, shapes, options)
    sizes = ModelShape(model.architecture, model.layers, model.heads, model.kv_heads)
    return choose_types(recipe, sizes, shapes, options, weighted=True)


def _budget(model: ModelSource, options: CalibrationOptions) -> Budget | None:
    weights = sum(tensor.elements for tensor in model.tensors)
    if options.target_size is not None:
        return Budget(options.target_size, None, 8 * options.target_size / weights)
    if options.target_bpw is not None:
        return Budget(None, int(options.target_bpw * weights / 8), options.target_bpw)
    return None


def _file_type(model: ModelSource, recipe: str, types: dict[str, str]) -> int:
    if recipe != AUTO:
        return FILE_TYPES[recipe]
    n_bytes: dict[str, int] = {}
    for tensor in model.tensors:
        if len(tensor.shape) > 1:
            kind = types[tensor.name]
            n_bytes[kind] = n_bytes.get(kind, 0) + tensor_bytes(kind, tensor.shape)
    most = max(n_bytes, key=lambda kind: n_bytes[kind])
    return FILE_TYPES[_FILE_TYPE_OF.get(most, most)]


def _result(
    model: ModelSource, index: int, written: Written, choice: Choice | None
) -> QuantizedTensor:
    tensor = model.tensors[index]
    kind = written.types[tensor.name]
    error = written.measured.get(tensor.name)
    return QuantizedTensor(
        tensor.name,
        tensor.type,
        kind,
        tensor.shape,
        tensor_bytes(kind, tensor.shape),
        rms_error=error.relative if error else None,
        weighted_error=(
            relative_error(error.weighted_error, error.weighted_energy) if error else None
        ),
        worst_block=(
            WorstBlock(error.worst, error.worst_row, error.worst_column) if error else None
        ),
        fallback=choice.fallback if choice else None,
        divergence=written.divergence.get(tensor.name) if written.divergence else None,
    )


def _notes(options: CalibrationOptions, written: Written) -> list[str]:
    methods = options.methods
    used = [
        name
        for name, on in (
            ("GPTQ", methods.gptq),
            ("AWQ", methods.awq),
        )
        if on
    ]
    notes = [
        f"calibrated with {written.tokens:,} tokens: {' and '.join(used) or 'importances of columns'}"
    ]
    if methods.awq:
        notes.append("errors are those of the matrices with AWQ's scales folded in")
    if written.divergence:
        expected = math.fsum(written.divergence.values())
        notes.append(
            f"expected mean divergence {expected:.4f} nats; measure it with pyqwen compare, on a text "
            "that was not used here"
        )
    return notes
