"""Writing a model: keys, a table of tensors, and the bytes of each from whoever has them.

This is the border between those who make tensors (the converter, the quantizer) and the file. A
tensor's bytes come in parts, so that none is held as a whole.
"""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyqwen._native import tensor_types
from pyqwen.errors import CancelledError
from pyqwen.output_file import OutputFile
from pyqwen.quantize.output.background import WriteBehind
from pyqwen.quantize.output.gguf_header import begin_gguf

if TYPE_CHECKING:
    import gguf

Progress = Callable[[int, int], None]
Part = npt.NDArray[Any]
_DEFAULT_ALIGNMENT = 32
# So much goes to the disk while more is computed, which leaves little to wait for at the end.
_SYNC_BYTES = 64 << 20
_sync = getattr(os, "fdatasync", os.fsync)


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One tensor to write. ``shape`` has the row length last.

    ``parts()`` gives its bytes in order, as contiguous arrays that are not changed afterwards; it is
    called once, when the tensors before it have been.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parts: Callable[[], Iterable[Part]]

    @property
    def n_bytes(self) -> int:
        return tensor_bytes(self.type, self.shape)


def tensor_bytes(type: str, shape: tuple[int, ...]) -> int:
    """The size of a tensor, whose rows must be whole blocks of the type."""
    kind = tensor_types()[type]
    return math.prod(shape) // kind.block * kind.n_bytes


def model_bytes(keys: Mapping[str, gguf.GGUFValue], tensors: Sequence[OutputTensor]) -> int:
    """The exact size of the file that `write_model` would write."""
    return size_after(model_header(keys, tensors), keys, tensors)


def size_after(
    header: bytes, keys: Mapping[str, gguf.GGUFValue], tensors: Sequence[OutputTensor]
) -> int:
    """The size of the file that begins with ``header``, which takes a second to make."""
    alignment = _alignment(keys)
    return len(header) + sum(_padded(tensor.n_bytes, alignment) for tensor in tensors)


def write_model(
    out: Path,
    keys: Mapping[str, gguf.GGUFValue],
    tensors: Sequence[OutputTensor],
    *,
    inputs: Iterable[Path],
    check: Callable[[], None],
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> int:
    """Write a GGUF file and return its size; an existing ``out`` is replaced in one step at the end.

    ``inputs`` must not be overwritten (``ValueError``). ``check()`` runs when everything is written:
    what it raises leaves the old file, as every error does. ``progress(done, total)`` gets bytes of
    tensors; ``cancel`` raises ``CancelledError``. ``OSError`` where the file cannot be written.
    """
    header, alignment = model_header(keys, tensors), _alignment(keys)
    size = size_after(header, keys, tensors)
    meter = _Meter(sum(tensor.n_bytes for tensor in tensors), progress, cancel)
    output = OutputFile(out, inputs=inputs, n_bytes=size)
    with output:

        def sync(_: int) -> None:
            _sync(output.file.fileno())

        def write(part: Part | bytes) -> None:
            before = output.file.tell() // _SYNC_BYTES
            output.file.write(part if isinstance(part, bytes) else part.data)
            if output.file.tell() // _SYNC_BYTES > before:
                syncing.put(before)

        with WriteBehind(sync) as syncing, WriteBehind[Part | bytes](write) as behind:
            behind.put(header)
            for tensor in tensors:
                done = 0
                for part in tensor.parts():
                    behind.put(part)
                    done += part.nbytes
                    meter.add(part.nbytes)
                if done != tensor.n_bytes:
                    raise ValueError(f"{tensor.name}: {done:,} bytes came, not {tensor.n_bytes:,}")
                behind.put(bytes(_padded(done, alignment) - done))
        check()
        output.commit()
    return size


def model_header(keys: Mapping[str, gguf.GGUFValue], tensors: Sequence[OutputTensor]) -> bytes:
    """Everything that comes before the values, padded."""
    import gguf

    writer = gguf.GGUFWriter(None, "")
    writer.kv_data = [dict(keys)]
    writer.data_alignment = _alignment(keys)
    for tensor in tensors:
        # Given no bytes, the writer takes the shape as it is, in elements.
        writer.add_tensor_info(
            tensor.name,
            tensor.shape,
            np.dtype(np.float32),
            tensor.n_bytes,
            raw_dtype=gguf.GGMLQuantizationType[tensor.type],
        )
    file = io.BytesIO()
    begin_gguf(writer, file)
    return file.getvalue()


def _alignment(keys: Mapping[str, gguf.GGUFValue]) -> int:
    value = keys.get("general.alignment")
    return int(value.value) if value is not None else _DEFAULT_ALIGNMENT


def _padded(n_bytes: int, alignment: int) -> int:
    return -(-n_bytes // alignment) * alignment


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
            raise CancelledError("the work was cancelled; the output is as it was")
