"""Models to smaller types: what is asked for, checked, and which of the two ways it goes.

Without a calibration text rows stream from the source to the file (``streamed``); with one the model is
computed layer by layer (``calibrated``). Which type a tensor gets is in ``recipes``.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pyqwen.os_errors import raising_file_errors
from pyqwen.quantize.calibrated import quantize_calibrated
from pyqwen.quantize.calibration.imatrix_file import ImportanceMatrix, read_imatrix
from pyqwen.quantize.calibration.importance import Importance
from pyqwen.quantize.calibration.options import calibration_options, either
from pyqwen.quantize.output.output_model import Progress
from pyqwen.quantize.quantization import Quantization
from pyqwen.quantize.recipes import TypeOptions, recipe_name
from pyqwen.quantize.source.merged_source import MergedSource
from pyqwen.quantize.source.open_source import open_source
from pyqwen.quantize.streamed import quantize_streamed


@raising_file_errors
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
    gptq: bool | None = None,
    awq: bool | None = None,
    error_feedback: bool | None = None,
    channel_scales: bool | None = None,
    target_size: int | None = None,
    target_bpw: float | None = None,
    merge_adapter: str | os.PathLike[str] | Mapping[str, float] | None = None,
    dry_run: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Quantization:
    """Quantize the model ``source`` to the GGUF file ``out``.

    ``source`` is a GGUF file, a checkpoint directory, or the name of a model in the catalog or the
    cache; an unquantized one (``NAME:f16``) is fetched where it is not here.

    ``type`` is a recipe of llama-quantize (``RECIPES``, in any case); the types of all tensors are
    those that it chooses. ``imatrix`` is an importance matrix, or the path of one: errors count by
    the importance of their column. ``include_weights`` and ``exclude_weights`` are parts of tensor
    names that limit for which it is used. ``tensor_types`` are pairs of a regular expression and a
    tensor type: the first that is found in a name decides. ``pure`` gives all matrices the same
    type. A tensor that is quantized already is quantized again only with ``allow_requantize``: that
    costs quality. ``dry_run`` computes types and sizes and writes nothing (``out`` may be None).

    ``calibration`` is a text, some 30,000 tokens of the kind the model is to be used for. With it
    ``gptq`` lets later weights make up for the rounding of earlier ones (GPTQ), ``awq`` evens out the
    columns of matrices by folding scales into their neighbors (as AWQ does), and the type ``AUTO``,
    for which both are on by default, chooses the types of tensors for the least expected divergence
    of the model's predictions within ``target_size`` bytes of file or ``target_bpw`` bits per weight.
    ``error_feedback`` and ``channel_scales`` are other names of ``gptq`` and ``awq``. A recipe with
    ``calibration`` alone weights errors as with an importance matrix made from that text.

    ``merge_adapter`` is an adapter (LoRA), PEFT's directory or a GGUF file, or several of them with
    factors: what they add is part of the weights before anything else is done. The model must be an
    unquantized one; merged matrices count as F32, also for ``COPY``.

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
    recipe = recipe_name(type)
    options = TypeOptions(
        tensor_types, output_tensor_type, token_embedding_type, leave_output_tensor, pure
    )
    if include_weights and exclude_weights:
        raise ValueError("include_weights and exclude_weights exclude each other; give one")
    if out is None and not dry_run:
        raise ValueError("out is missing; only a dry run writes nothing")
    calibration_wish = calibration_options(
        recipe,
        calibration,
        either("gptq", gptq, "error_feedback", error_feedback),
        either("awq", awq, "channel_scales", channel_scales),
        target_size,
        target_bpw,
    )
    adapters = _adapters(merge_adapter)
    with ExitStack() as opened:
        model = opened.enter_context(open_source(source))
        if adapters:
            model = MergedSource(model, adapters)
        importance = None
        if imatrix is not None:
            path = None if isinstance(imatrix, ImportanceMatrix) else Path(imatrix)
            matrix = imatrix if isinstance(imatrix, ImportanceMatrix) else read_imatrix(imatrix)
            importance = Importance(matrix, path, model, include_weights, exclude_weights)
            if path is not None:
                model.inputs.append(path)
        target = None if out is None or dry_run else Path(out)
        if calibration_wish is None:
            return quantize_streamed(
                model,
                target,
                recipe,
                options,
                importance,
                allow_requantize=allow_requantize,
                threads=threads,
                progress=progress,
                cancel=cancel,
            )
        unused = "the importance matrix was not used: the calibration text takes its place"
        return quantize_calibrated(
            model,
            target,
            recipe,
            options,
            calibration_wish,
            allow_requantize=allow_requantize,
            notes=[unused] if importance else [],
            threads=threads,
            progress=progress,
            cancel=cancel,
        )


def _adapters(wanted: object) -> dict[Path, float]:
    """Paths and factors; ``TypeError`` or ``ValueError`` for what cannot be."""
    if wanted is None:
        return {}
    if not isinstance(wanted, Mapping):
        wanted = {wanted: 1.0}
    adapters = {}
    for path, factor in wanted.items():
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
            raise TypeError(f"merge_adapter must be a path, not {type(path).__name__}")
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            kind = type(factor).__name__
            raise TypeError(f"the factor of an adapter must be a number, not {kind}")
        if not abs(factor) <= 1e6 or math.isnan(factor):
            raise ValueError("the factor of an adapter must be from -1e6 to 1e6")
        if "\0" in os.fspath(path):
            raise ValueError("the path of the adapter contains a NUL character")
        adapters[Path(path)] = float(factor)
    return adapters
