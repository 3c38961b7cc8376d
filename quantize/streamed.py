"""Quantizing a model as its rows stream by: reading, quantizing, measuring and writing, some rows at a time.

A thread reads ahead, the core's threads quantize and measure, a thread writes behind; memory does not
grow with the model.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyqwen._native import (
    QuantizationError,
    dequantize_rows,
    measure_quantization,
    quantize_weights,
    tensor_types,
)
from pyqwen.errors import NumericError
from pyqwen.loading import environment
from pyqwen.quantize.calibration.importance import Importance
from pyqwen.quantize.encode import BadValues, check_finite, check_range, refusal
from pyqwen.quantize.output.background import ReadAhead
from pyqwen.quantize.output.output_model import (
    OutputTensor,
    Part,
    Progress,
    model_bytes,
    tensor_bytes,
    write_model,
)
from pyqwen.quantize.output.runnable import check_runnable
from pyqwen.quantize.quantization import (
    Quantization,
    QuantizedTensor,
    WorstBlock,
    joined_errors,
    relative_error,
)
from pyqwen.quantize.recipes import COPY, FILE_TYPES, TypeOptions
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor, set_key
from pyqwen.quantize.type_plan import QUANTIZATION_VERSION, plan_types, unused_patterns

if TYPE_CHECKING:
    import gguf


def quantize_streamed(
    model: ModelSource,
    out: Path | None,
    recipe: str,
    options: TypeOptions,
    importance: Importance | None,
    *,
    allow_requantize: bool,
    threads: int | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> Quantization:
    """Quantize the open ``model`` by a recipe; with ``out`` None compute types and sizes only.

    Errors are those of `pyqwen.quantize.quantize`.
    """
    weighted = importance is not None and bool(importance.values)
    planned = plan_types(
        model, recipe, options, weighted=weighted, allow_requantize=allow_requantize
    )
    keys = _keys(model, recipe, importance)
    notes = [
        *model.notes,
        *unused_patterns(options, model),
        *_without_importance(planned, importance),
    ]
    result = Quantization(
        source=model.path,
        path=None,
        type=recipe,
        architecture=model.architecture,
        file_bytes=0,
        source_bytes=sum(tensor_bytes(t.type, t.shape) for t in model.tensors),
        tensors=tuple(planned),
        notes=tuple(notes),
    )
    unwritten = [OutputTensor(t.name, t.type, t.shape, lambda: ()) for t in planned]
    check_runnable(keys, unwritten, model.path)
    if out is None:
        return replace(result, file_bytes=model_bytes(keys, unwritten))
    work = _Work(model, planned, importance, threads)
    size = work.write(out, keys, progress, cancel)
    return replace(
        result,
        path=out,
        file_bytes=size,
        tensors=tuple(work.measured(tensor) for tensor in planned),
        rms_error=work.rms_error,
    )


def _keys(
    model: ModelSource, recipe: str, importance: Importance | None
) -> dict[str, gguf.GGUFValue]:
    keys = model.keys()
    set_key(keys, "general.quantization_version", QUANTIZATION_VERSION)
    if recipe != COPY:
        set_key(keys, "general.file_type", FILE_TYPES[recipe])
    if importance is not None and importance.values:
        importance.add_keys(keys)
    return keys


def _without_importance(
    planned: Sequence[QuantizedTensor], importance: Importance | None
) -> list[str]:
    if importance is None:
        return []
    quantized = [
        t.name for t in planned if t.type != t.source_type and tensor_types()[t.type].block > 1
    ]
    missing = importance.missing(quantized)
    if not missing:
        return []
    more = f" and {len(missing) - 1} more tensors" if len(missing) > 1 else ""
    return [f"the importance matrix says nothing about {missing[0]}{more}: all columns count alike"]


class _Work:
    """Writes a model, and knows afterwards what was lost."""

    def __init__(
        self,
        model: ModelSource,
        planned: Sequence[QuantizedTensor],
        importance: Importance | None,
        threads: int | None,
    ) -> None:
        self._model, self._planned, self._threads = model, planned, threads
        self._importance = importance.values if importance else {}
        self._errors: dict[str, QuantizationError] = {}

    def write(
        self,
        target: Path,
        keys: dict[str, gguf.GGUFValue],
        progress: Progress | None,
        cancel: threading.Event | None,
    ) -> int:
        with ReadAhead(self._read()) as ahead:
            slices = iter(ahead)
            tensors = [
                OutputTensor(to.name, to.type, to.shape, partial(self._parts, slices, tensor, to))
                for tensor, to in zip(self._model.tensors, self._planned, strict=True)
            ]
            return write_model(
                target,
                keys,
                tensors,
                inputs=self._model.inputs,
                check=self._model.check_unchanged,
                progress=progress,
                cancel=cancel,
            )

    def _read(self) -> Iterator[tuple[int, Part]]:
        """The first row and the rows of every slice: as they are to be copied, or as float32."""
        for tensor, to in zip(self._model.tensors, self._planned, strict=True):
            read = tensor.read_raw if tensor.type == to.type else tensor.read_rows
            for start, stop in tensor.slices():
                yield start, read(start, stop)

    def _parts(
        self, slices: Iterator[tuple[int, Part]], tensor: SourceTensor, to: QuantizedTensor
    ) -> Iterator[Part]:
        for _ in tensor.slices():
            start, rows = next(slices)
            if tensor.type == to.type:
                _check_copied(tensor, start, rows)
                yield rows
            else:
                yield self._quantize(tensor, to.type, start, rows)

    def _quantize(
        self, tensor: SourceTensor, kind: str, start: int, rows: npt.NDArray[np.float32]
    ) -> Part:
        importance = self._importance.get(tensor.name)
        try:
            data = quantize_weights(
                rows, kind, importance=importance, threads=self._threads, isa=environment.isa()
            )
        except NumericError:
            raise _refused(tensor, kind, start, rows) from None
        error = measure_quantization(data, rows, kind, importance=importance, threads=self._threads)
        self._errors[tensor.name] = joined_errors(self._errors.get(tensor.name), error, start)
        return data

    def measured(self, tensor: QuantizedTensor) -> QuantizedTensor:
        """The tensor with its errors."""
        error = self._errors.get(tensor.name)
        if error is None:
            return tensor
        weighted = None
        if tensor.name in self._importance:
            weighted = relative_error(error.weighted_error, error.weighted_energy)
        return replace(
            tensor,
            rms_error=error.relative,
            weighted_error=weighted,
            worst_block=WorstBlock(error.worst, error.worst_row, error.worst_column),
        )

    @property
    def rms_error(self) -> float | None:
        if not self._errors:
            return None
        errors = self._errors.values()
        return relative_error(
            math.fsum(e.error for e in errors), math.fsum(e.energy for e in errors)
        )


def _check_copied(tensor: SourceTensor, start: int, rows: npt.NDArray[np.uint8]) -> None:
    """``NumericError`` for NaN and infinity in what is written as it is, scales of blocks included."""
    values = dequantize_rows(rows, tensor.type)
    try:
        check_finite(values, "F32")
    except BadValues as bad:
        raise refusal(tensor, bad, start, tensor.type) from None


def _refused(
    tensor: SourceTensor, kind: str, start: int, rows: npt.NDArray[np.float32]
) -> NumericError:
    """The core has refused these rows: which values, where, and what to do."""
    try:
        check_finite(rows, "F32")
        check_range(rows, kind)
    except BadValues as bad:
        return refusal(tensor, bad, start, kind)
    raise AssertionError(f"{tensor.name}: the core refuses rows in which nothing is wrong")
