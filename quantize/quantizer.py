"""Models to smaller types: reading, quantizing, measuring and writing, some rows at a time.

A thread reads ahead, the core's threads quantize and measure, a thread writes behind; memory does not
grow with the model. What is written where is in ``output_model``, which type a tensor gets in
``recipes``.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pyqwen.quantize import encode, recipes
from pyqwen.quantize.auto.options import calibration_options
from pyqwen.quantize.background import ReadAhead
from pyqwen.quantize.imatrix_file import ImportanceMatrix, read_imatrix
from pyqwen.quantize.importance import Importance
from pyqwen.quantize.model_source import ModelSource, SourceTensor, open_source, set_key
from pyqwen.quantize.output_model import (
    OutputTensor,
    Part,
    Progress,
    model_bytes,
    tensor_bytes,
    write_model,
)
from pyqwen.quantize.quantization import (
    Quantization,
    QuantizedTensor,
    WorstBlock,
    joined_errors,
)

from pyqwen._native import (
    QuantizationError,
    dequantize_rows,
    measure_quantization,
    quantize_weights,
    tensor_types,
)
from pyqwen.errors import NumericError, UnsupportedModelError
from pyqwen.loading import environment

if TYPE_CHECKING:
    import gguf

_LOGGER = logging.getLogger("pyqwen")
QUANTIZATION_VERSION = 2  # general.quantization_version: of the layout of the block types


def quantize(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    type: str,
    *,
    imatrix: str | os.PathLike[str] | ImportanceMatrix | None = None,
    include_weights: Sequence[str] = (),
    exclude_weights: Sequence[str] = (),
    tensor_types: Sequence[tuple[str, str]] = (),
    output_tensor_type: str | None = None,
    token_embedding_type: str | None = None,
    leave_output_tensor: bool = False,
    pure: bool = False,
    allow_requantize: bool = False,
    calibration: str | None = None,
    error_feedback: bool | None = None,
    channel_scales: bool | None = None,
    target_size: int | None = None,
    target_bpw: float | None = None,
    dry_run: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Quantization:
    """Quantize the model at ``source``, GGUF or a checkpoint directory, to the GGUF file ``out``.

    ``type`` is a recipe of llama-quantize (``RECIPES``, in any case); the types of all tensors are
    those that it chooses. ``imatrix`` is an importance matrix, or the path of one: errors count by
    the importance of their column. ``include_weights`` and ``exclude_weights`` are parts of tensor
    names that limit for which it is used. ``tensor_types`` are pairs of a regular expression and a
    tensor type: the first that is found in a name decides. ``pure`` gives all matrices the same
    type. A tensor that is quantized already is quantized again only with ``allow_requantize``: that
    costs quality. ``dry_run`` computes types and sizes and writes nothing (``out`` may be None).

    ``calibration`` is a text, some 30,000 tokens of the kind the model is to be used for. With it
    ``error_feedback`` (GPTQ) lets later weights make up for the rounding of earlier ones,
    ``channel_scales`` (as AWQ) evens out the columns of matrices by folding scales into their
    neighbors, and the type ``AUTO``, for which both are on by default, chooses the types of tensors
    for the least expected divergence of the model's predictions within ``target_size`` bytes of file
    or ``target_bpw`` bits per weight. A recipe with ``calibration`` alone weights errors as with an
    importance matrix made from that text.

    Without ``calibration`` the bytes depend neither on ``threads`` (default: one for each fast core)
    nor on the machine; with it they do, as the products of numpy do.
    ``progress(done, total)`` gets bytes of the output, or units of work; setting ``cancel`` from
    another thread raises ``CancelledError`` here. An existing ``out`` is replaced in one step at the
    end; before that, and on any error, it stays as it was.

    ``ModelFileError`` (and its subclasses) where the model or the matrix is incomplete, damaged or of
    an unsupported kind, ``NumericError`` where a weight is NaN, infinite or too large for its type,
    ``ValueError`` for arguments that make no sense and for an ``out`` that is the input, ``OSError``
    where it cannot be written.
    """
    recipe = recipes.recipe_name(type)
    options = recipes.TypeOptions(
        tensor_types, output_tensor_type, token_embedding_type, leave_output_tensor, pure
    )
    if include_weights and exclude_weights:
        raise ValueError("include_weights and exclude_weights exclude each other; give one")
    if out is None and not dry_run:
        raise ValueError("out is missing; only a dry run writes nothing")
    calibration_wish = calibration_options(
        recipe, calibration, error_feedback, channel_scales, target_size, target_bpw
    )
    with open_source(source) as model:
        importance = None
        if imatrix is not None:
            path = None if isinstance(imatrix, ImportanceMatrix) else Path(imatrix)
            matrix = imatrix if isinstance(imatrix, ImportanceMatrix) else read_imatrix(imatrix)
            importance = Importance(matrix, path, model, include_weights, exclude_weights)
        if calibration_wish is not None:
            from pyqwen.quantize.calibrated import quantize_calibrated

            return quantize_calibrated(
                model,
                None if out is None or dry_run else Path(out),
                recipe,
                options,
                calibration_wish,
                allow_requantize=allow_requantize,
                notes=["the importance matrix was not used: the calibration text takes its place"]
                if importance
                else [],
                threads=threads,
                progress=progress,
                cancel=cancel,
            )
        planned = _plan(model, recipe, options, importance, allow_requantize)
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
        if dry_run:
            unwritten = [OutputTensor(t.name, t.type, t.shape, lambda: ()) for t in planned]
            return replace(result, file_bytes=model_bytes(keys, unwritten))
        assert out is not None
        target = Path(out)
        work = _Work(model, planned, importance, threads)
        size = work.write(target, keys, progress, cancel)
    return replace(
        result,
        path=target,
        file_bytes=size,
        tensors=tuple(work.measured(tensor) for tensor in planned),
        rms_error=work.rms_error,
    )


def _plan(
    model: ModelSource,
    recipe: str,
    options: recipes.TypeOptions,
    importance: Importance | None,
    allow_requantize: bool,
) -> list[QuantizedTensor]:
    sizes = recipes.ModelShape(model.architecture, model.layers, model.heads, model.kv_heads)
    shapes = [recipes.TensorShape(t.name, t.type, t.shape) for t in model.tensors]
    weighted = importance is not None and bool(importance.values)
    choices = recipes.choose_types(recipe, sizes, shapes, options, weighted=weighted)
    planned = []
    for tensor in model.tensors:
        choice = choices[tensor.name]
        if choice.type != tensor.type and not allow_requantize:
            refuse_requantizing(tensor, choice.type)
        if choice.fallback:
            _LOGGER.info("%s is written as %s: %s", tensor.name, choice.type, choice.fallback)
        planned.append(
            QuantizedTensor(
                tensor.name,
                tensor.type,
                choice.type,
                tensor.shape,
                tensor_bytes(choice.type, tensor.shape),
                fallback=choice.fallback,
            )
        )
    return planned


def refuse_requantizing(tensor: SourceTensor, kind: str) -> None:
    """``UnsupportedModelError`` if the tensor is quantized."""
    if tensor_types()[tensor.type].block > 1:
        raise UnsupportedModelError(
            f"{tensor.where}: tensor '{tensor.name}' is {tensor.type} already; making {kind} of it "
            "loses more than of the original weights: start from those, or allow it with "
            "--allow-requantize (allow_requantize=True)",
            field=tensor.name,
        )


def _keys(
    model: ModelSource, recipe: str, importance: Importance | None
) -> dict[str, gguf.GGUFValue]:
    keys = model.keys()
    set_key(keys, "general.quantization_version", QUANTIZATION_VERSION)
    if recipe != recipes.COPY:
        set_key(keys, "general.file_type", recipes.FILE_TYPES[recipe])
    if importance is not None and importance.values:
        importance.add_keys(keys)
    return keys


def unused_patterns(options: recipes.TypeOptions, model: ModelSource) -> list[str]:
    """Expressions that were probably meant to match something."""
    names = [t.name for t in model.tensors if recipes.is_quantizable(t.name, t.shape)]
    return [
        f"the tensor type {pattern.pattern}={kind} matches no matrix"
        for pattern, kind in options.patterns
        if not any(pattern.search(name) for name in names)
    ]


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
                rows,
                kind,
                importance=importance,
                threads=self._threads,
                isa=environment.isa(),
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


def relative_error(error: float, energy: float) -> float:
    """The root mean square of errors relative to that of what they are errors of, from sums of squares."""
    return math.sqrt(error / energy) if energy > 0 else 0.0


def _check_copied(tensor: SourceTensor, start: int, rows: npt.NDArray[np.uint8]) -> None:
    """``NumericError`` for NaN and infinity in what is written as it is, scales of blocks included."""
    values = dequantize_rows(rows, tensor.type)
    try:
        encode.check_finite(values, "F32")
    except encode.BadValues as bad:
        raise encode.refusal(tensor, bad, start, tensor.type) from None


def _refused(
    tensor: SourceTensor, kind: str, start: int, rows: npt.NDArray[np.float32]
) -> NumericError:
    """The core has refused these rows: which values, where, and what to do."""
    try:
        encode.check_finite(rows, "F32")
        encode.check_range(rows, kind)
    except encode.BadValues as bad:
        return encode.refusal(tensor, bad, start, kind)
    raise AssertionError(f"{tensor.name}: the core refuses rows in which nothing is wrong")
