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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pyqwen.quantize import encode
from pyqwen.quantize.architecture import (
    EMBEDDING,
    OUTPUT,
    TensorPlan,
    check_tensors,
    interleave_halves,
    plan_tensors,
    rope_factors,
)
from pyqwen.quantize.checkpoint import Checkpoint
from pyqwen.quantize.gguf_output import begin_gguf
from pyqwen.quantize.hyperparameters import Hyperparameters, read_hyperparameters
from pyqwen.quantize.metadata import add_general, add_hyperparameters, read_sampling
from pyqwen.quantize.output_file import OutputFile
from pyqwen.quantize.safetensors_file import StoredTensor
from pyqwen.quantize.tokenizer_metadata import read_tokenizer

from pyqwen.errors import CancelledError, ModelFormatError, NumericError

if TYPE_CHECKING:
    import gguf

OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")
SLICE_ELEMENTS = 4 << 20  # read, converted and written at once: 16 MB as float32
_HEADER_ROOM = 16 << 20  # bytes of free space beyond the tensors: keys and vocabulary take less

Progress = Callable[[int, int], None]
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


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    outtype: str = "auto",
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> Conversion:
    """Convert the checkpoint in the directory ``source`` to the GGUF file ``out``.

    ``outtype`` is the type of the matrices: ``f32``, ``f16``, ``bf16``, ``q8_0``, or ``auto``, which
    keeps the type that each has. Vectors become F32, as everywhere in GGUF. ``progress(done, total)``
    gets bytes of the output; setting ``cancel`` from another thread raises ``CancelledError`` here.

    An existing ``out`` is replaced in one step at the end; before that, and on any error, it stays as
    it was. ``ModelFileError`` (and its subclasses) where the checkpoint is incomplete, damaged or of
    an unsupported kind, ``NumericError`` where a weight is NaN, infinite or too large for the type,
    ``ValueError`` for an ``out`` inside ``source``, ``OSError`` where it cannot be written.
    """
    if outtype not in OUTTYPES:
        raise ValueError(f"outtype is {outtype!r}; choose one of {', '.join(OUTTYPES)}")
    folder, target = Path(source), Path(out)
    with Checkpoint(folder) as checkpoint:
        h = read_hyperparameters(checkpoint.config, str(folder / "config.json"))
        plans = plan_tensors(h)
        check_tensors(plans, checkpoint.tensors, h, str(folder))
        notes = _drop_tied_output(checkpoint, h)
        tensors = [_choose_type(plan, checkpoint.tensors[plan.source], outtype) for plan in plans]
        writer, extra = _make_writer(checkpoint, h, tensors)
        total = sum(tensor.n_bytes for tensor in tensors)
        meter = _Meter(total, progress, cancel)
        output = OutputFile(
            target, inputs=[folder, *checkpoint.shard_paths], n_bytes=total + _HEADER_ROOM
        )
        with output:
            begin_gguf(writer, output)
            for plan, tensor in zip(plans, tensors, strict=True):
                _write_tensor(
                    output, writer, plan, tensor, checkpoint.tensors[plan.source], meter, h
                )
            for values in extra:
                output.file.write(values.tobytes())
                writer.write_padding(output.file, values.nbytes)
            checkpoint.check_unchanged()
            size = output.file.tell()
            output.commit()
    for tensor in tensors:
        if tensor.fallback:
            _LOGGER.info("%s is written as %s: %s", tensor.name, tensor.type, tensor.fallback)
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    return Conversion(target, h.architecture, size, parameters, tuple(tensors), tuple(notes))


def _choose_type(plan: TensorPlan, stored: StoredTensor, outtype: str) -> ConvertedTensor:
    import gguf

    fallback = None
    if len(plan.shape) == 1:
        kind = "F32"
    elif outtype == "auto":
        kind = stored.dtype
    else:
        kind = outtype.upper()
        if kind == "Q8_0" and plan.shape[-1] % encode.BLOCK:
            kind = "F16"
            fallback = f"rows of {plan.shape[-1]:,} are no multiple of {encode.BLOCK}"
    block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    n_bytes = math.prod(plan.shape) // block * block_bytes
    return ConvertedTensor(
        plan.target, plan.source, stored.dtype, kind, plan.shape, n_bytes, fallback
    )


def _drop_tied_output(checkpoint: Checkpoint, h: Hyperparameters) -> list[str]:
    """Some tied checkpoints store the embedding a second time; GGUF has it once."""
    output = checkpoint.tensors.get(OUTPUT)
    if not h.tied or output is None:
        return []
    embedding = checkpoint.tensors[EMBEDDING]
    if output.dtype != embedding.dtype or any(
        not np.array_equal(output.read_rows(a, b), embedding.read_rows(a, b))
        for a, b in _slices(embedding.shape)
    ):
        raise ModelFormatError(
            f"{output.file.path}: '{OUTPUT}' differs from '{EMBEDDING}', but tie_word_embeddings in "
            "config.json says that they are one; set it to false if the model was trained so",
            field=OUTPUT,
        )
    return [f"{OUTPUT} is equal to {EMBEDDING} and the model is tied: it is written once"]


def _make_writer(
    checkpoint: Checkpoint, h: Hyperparameters, tensors: list[ConvertedTensor]
) -> tuple[gguf.GGUFWriter, list[np.ndarray[Any, np.dtype[np.float32]]]]:
    """A writer that knows all keys and the places of all tensors, and the tensors that are computed."""
    import gguf

    from pyqwen.tokenizer import Tokenizer

    tokenizer = read_tokenizer(checkpoint.path, checkpoint.config, h.vocab_rows, h.architecture)
    keys = tokenizer.keys()
    Tokenizer.from_metadata(keys, source=str(checkpoint.path))  # refuses what could not be run
    writer = gguf.GGUFWriter(None, h.architecture)
    parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    sampling = read_sampling(checkpoint.path)
    add_general(writer, checkpoint.path, checkpoint.config, sampling, parameters)
    weights: Counter[str] = Counter()
    for tensor in tensors:
        if len(tensor.shape) > 1:
            weights[tensor.type] += tensor.n_bytes
    add_hyperparameters(writer, h, weights.most_common(1)[0][0])
    for key, value in keys.items():
        _add_key(writer, key, value)
    for tensor in tensors:
        _declare(writer, tensor.name, tensor.shape, tensor.type, tensor.n_bytes)
    factors = rope_factors(h)
    if factors is None:
        return writer, []
    _declare(writer, "rope_freqs.weight", factors.shape, "F32", factors.nbytes)
    return writer, [factors]


def _declare(
    writer: gguf.GGUFWriter, name: str, shape: tuple[int, ...], kind: str, n_bytes: int
) -> None:
    import gguf

    # Given no bytes, the writer takes the shape as it is, in elements.
    raw = gguf.GGMLQuantizationType[kind]
    writer.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=raw)


def _add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _write_tensor(
    output: OutputFile,
    writer: gguf.GGUFWriter,
    plan: TensorPlan,
    tensor: ConvertedTensor,
    stored: StoredTensor,
    meter: _Meter,
    h: Hyperparameters,
) -> None:
    # The rows of a head are reordered among themselves, so its rows are read together.
    step = h.head_dim if plan.rotary_heads else 1
    for start, stop in _slices(stored.shape, step):
        rows = stored.read_rows(start, stop)
        try:
            encode.check_finite(rows, stored.dtype)
            data = encode.encode(rows, stored.dtype, tensor.type)
        except encode.BadValues as bad:
            raise _bad_values(stored, tensor, bad, start) from None
        if plan.rotary_heads:
            data = interleave_halves(data.reshape(stop - start, -1), h.head_dim)
        output.file.write(np.ascontiguousarray(data).data)
        meter.add(data.nbytes)
    writer.write_padding(output.file, tensor.n_bytes)


def _slices(shape: tuple[int, ...], step: int = 1) -> list[tuple[int, int]]:
    """Cut rows into ranges of about ``SLICE_ELEMENTS``, each but the last a multiple of ``step``."""
    row = max(math.prod(shape[1:]), 1)
    rows = max(SLICE_ELEMENTS // row // step, 1) * step
    return [(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def _bad_values(
    stored: StoredTensor, tensor: ConvertedTensor, bad: encode.BadValues, start: int
) -> NumericError:
    row, column = (
        divmod(bad.index, math.prod(stored.shape[1:])) if len(stored.shape) > 1 else (0, 0)
    )
    place = f"[{start + row}, {column}]" if len(stored.shape) > 1 else f"[{start + bad.index}]"
    advice = "the checkpoint is damaged: fetch it again"
    if np.isfinite(bad.value):
        advice = "convert with bf16 or f32" if tensor.type != "BF16" else "convert with f32"
    count = f"{bad.count:,} values" if bad.count > 1 else "1 value"
    return NumericError(
        f"{stored.file.path}: in tensor '{stored.name}' {count} or more {bad.what}, the first at "
        f"{place}: {bad.value:g}; {advice}"
    )


class _Meter:
    """Counts bytes, tells the caller, and stops the work when it is asked to."""

    def __init__(
        self, total: int, progress: Progress | None, cancel: threading.Event | None
    ) -> None:
        self._done, self._total = 0, total
        self._progress, self._cancel = progress, cancel

    def add(self, n_bytes: int) -> None:
        self._done += n_bytes
        if self._progress:
            self._progress(self._done, self._total)
        if self._cancel and self._cancel.is_set():
            raise CancelledError("the conversion was cancelled; the output is as it was")
