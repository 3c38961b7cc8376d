"""Hugging Face checkpoints to GGUF: the order of the work, and what is reported about it.

Everything that headers and configuration tell is checked before the output is begun; the values are
checked while they stream through, some rows at a time, so that memory does not grow with the model.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from reprlib import repr as brief

import numpy as np

from pyqwen.os_errors import raising_file_errors
from pyqwen.quantize.adapter_conversion import is_adapter, write_adapter
from pyqwen.quantize.encode import BLOCK, BadValues, check_finite, encode, refusal
from pyqwen.quantize.output.background import ReadAhead
from pyqwen.quantize.output.output_model import (
    OutputTensor,
    Part,
    Progress,
    tensor_bytes,
    write_model,
)
from pyqwen.quantize.output.runnable import check_runnable
from pyqwen.quantize.recipes import FILE_TYPES
from pyqwen.quantize.source.checkpoint_source import CheckpointSource
from pyqwen.quantize.source.model_source import SourceTensor, set_key

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")

_LOGGER = logging.getLogger("pyqwen")


@dataclass(frozen=True, slots=True)
class ConvertedTensor:
    """One tensor of the output. ``shape`` has the row length last, as in the checkpoint."""

    name: str
    source: str  # its name in the checkpoint
    source_type: str  # BF16, F16 or F32
    type: str  # the type it got
    shape: tuple[int, ...]
    n_bytes: int
    fallback: str | None = None  # why it did not get the type that was asked for


@dataclass(frozen=True, slots=True)
class Conversion:
    """What ``convert`` did. ``file_bytes`` is the size of the output, ``parameters`` counts weights."""

    path: Path
    architecture: str
    file_bytes: int
    parameters: int
    tensors: tuple[ConvertedTensor, ...]
    notes: tuple[str, ...]

    @property
    def fallbacks(self) -> tuple[ConvertedTensor, ...]:
        """The tensors that did not get the type that was asked for."""
        return tuple(tensor for tensor in self.tensors if tensor.fallback)


@raising_file_errors
def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    outtype: str = "auto",
    *,
    base: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Conversion:
    """Convert the checkpoint in the directory ``source`` to the GGUF file ``out``.

    ``outtype`` is the type of the matrices: ``f32``, ``f16``, ``bf16``, ``q8_0``, or ``auto``, which
    keeps the type that each has. Vectors become F32, as everywhere in GGUF. ``progress(done, total)``
    gets bytes of the output; setting ``cancel`` from another thread raises ``CancelledError`` here.

    A directory of PEFT with an adapter (LoRA) becomes an adapter's file, as llama.cpp has them. ``base`` is
    then the directory or the GGUF file of its base model, of which only the configuration is read; where
    the adapter names a directory that is here, it may be left out.

    An existing ``out`` is replaced in one step at the end; before that, and on any error, it stays as
    it was. ``ModelFileError`` (and its subclasses) where the checkpoint is incomplete, damaged or of
    an unsupported kind, ``NumericError`` where a weight is NaN, infinite or too large for the type,
    ``ValueError`` for an ``out`` inside ``source``, ``OSError`` where it cannot be written.
    """
    if outtype not in OUTTYPES:
        raise ValueError(f"outtype is {brief(outtype)}; choose one of {', '.join(OUTTYPES)}")
    folder, target = Path(source), Path(out)
    if is_adapter(folder):
        return _adapter(folder, target, outtype, base, progress, cancel)
    if base is not None:
        raise ValueError("base is for adapters, and the source is none")
    with CheckpointSource(folder) as checkpoint:
        chosen = [_choose_type(tensor, outtype) for tensor in checkpoint.tensors]
        keys = checkpoint.keys()
        weights: Counter[str] = Counter()
        for tensor in chosen:
            if len(tensor.shape) > 1:
                weights[tensor.type] += tensor.n_bytes
        set_key(keys, "general.file_type", FILE_TYPES[weights.most_common(1)[0][0]])
        unwritten = [OutputTensor(to.name, to.type, to.shape, lambda: ()) for to in chosen]
        check_runnable(keys, unwritten, folder)
        rows = (
            (start, tensor.read_raw(start, stop))
            for tensor in checkpoint.tensors
            for start, stop in tensor.slices()
        )
        with ReadAhead(rows) as ahead:
            reader = iter(ahead)

            def parts(tensor: SourceTensor, kind: str) -> Iterator[Part]:
                for _ in tensor.slices():
                    yield _encode(tensor, kind, *next(reader))

            size = write_model(
                target,
                keys,
                [
                    OutputTensor(to.name, to.type, to.shape, partial(parts, tensor, to.type))
                    for tensor, to in zip(checkpoint.tensors, chosen, strict=True)
                ],
                inputs=checkpoint.inputs,
                check=checkpoint.check_unchanged,
                progress=progress,
                cancel=cancel,
            )
        notes, parameters = tuple(checkpoint.notes), checkpoint.parameters
        architecture = checkpoint.architecture
    tensors = tuple(tensor for tensor in chosen if tensor.source)  # not those that were computed
    for tensor in tensors:
        if tensor.fallback:
            _LOGGER.info("%s is written as %s: %s", tensor.name, tensor.type, tensor.fallback)
    return Conversion(target, architecture, size, parameters, tensors, notes)


def _adapter(
    folder: Path,
    target: Path,
    outtype: str,
    base: str | os.PathLike[str] | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> Conversion:
    architecture, size, written = write_adapter(folder, target, outtype, base, progress, cancel)
    tensors = tuple(
        ConvertedTensor(t.name, t.source, t.source_type, t.type, t.shape, t.n_bytes, t.fallback)
        for t in written
    )
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    return Conversion(target, architecture, size, parameters, tensors, ())


def _choose_type(tensor: SourceTensor, outtype: str) -> ConvertedTensor:
    fallback = None
    if len(tensor.shape) == 1:
        kind = "F32"
    elif outtype == "auto":
        kind = tensor.type
    else:
        kind = outtype.upper()
        if kind == "Q8_0" and tensor.columns % BLOCK:
            kind = "F16"
            fallback = f"rows of {tensor.columns:,} are no multiple of {BLOCK}"
    n_bytes = tensor_bytes(kind, tensor.shape)
    return ConvertedTensor(
        tensor.name, tensor.source, tensor.type, kind, tensor.shape, n_bytes, fallback
    )


def _encode(tensor: SourceTensor, kind: str, start: int, raw: Part) -> Part:
    values = raw.view({"BF16": np.uint16, "F16": np.float16, "F32": np.float32}[tensor.type])
    try:
        check_finite(values, tensor.type)
        return np.ascontiguousarray(encode(values, tensor.type, kind))
    except BadValues as bad:
        raise refusal(tensor, bad, start, kind) from None
