"""Importance matrices in files: llama.cpp's GGUF format, and its older ``.dat``, which is only read.

An importance matrix says how large the activations are that meet each column of a weight matrix, so
that quantizing can spare the columns that matter. (Format: tools/imatrix/imatrix.cpp of llama.cpp.)
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqwen.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from pyqwen.loading.gguf_file import GGUFFile, TensorInfo
from pyqwen.os_errors import raising_file_errors
from pyqwen.output_file import OutputFile
from pyqwen.quantize.output.gguf_header import begin_gguf

_TYPE, _DATASETS = "general.type", "imatrix.datasets"
_CHUNKS, _CHUNK_SIZE = "imatrix.chunk_count", "imatrix.chunk_size"
_SUMS, _COUNTS = ".in_sum2", ".counts"
_HEADER_ROOM = 1 << 20  # bytes of free space beyond the values
_LARGEST_DAT = 1 << 30  # bytes; that of a model with 405 billion weights has 60 million
_MOST_ENTRIES, _LONGEST_NAME, _LONGEST_PATH = 65536, 63, 65536
_MAKE_ONE = "make one with pyqwen imatrix"


@dataclass(frozen=True, eq=False)
class ImportanceMatrix:
    """What a text taught about the inputs of each matrix.

    ``values`` has for the name of each tensor in the model's GGUF file the mean square of the
    activations that meet each of its columns (``float32``, as long as a row). ``counts`` says over how
    many tokens that mean was taken. The text was read in ``chunks`` chunks of ``chunk_size`` tokens;
    ``datasets`` names it. A ``.dat`` file does not say how long its chunks were: ``chunk_size`` is
    then 0, and ``counts`` are chunks.
    """

    values: dict[str, NDArray[np.float32]]
    counts: dict[str, int]
    chunks: int
    chunk_size: int
    datasets: tuple[str, ...]


@raising_file_errors
def read_imatrix(path: str | os.PathLike[str]) -> ImportanceMatrix:
    """Read a file that ``write_imatrix`` or llama-imatrix wrote, GGUF or ``.dat``.

    Entries over no tokens are left out. ``ModelNotFoundError`` where there is no such file,
    ``ModelFormatError`` where it is damaged or holds something else, with what it is and where,
    ``UnsupportedModelError`` for the matrices of a mixture of experts.
    """
    source = Path(path)
    if not source.exists():
        raise ModelNotFoundError(f"{source}: no such file; {_MAKE_ONE}")
    if not source.is_file():
        raise ModelFormatError(f"{source} is not a regular file; name an importance matrix")
    with source.open("rb") as file:
        is_dat = _looks_like_dat(file.read(12), source.stat().st_size)
    if is_dat:
        return _read_dat(source)
    with GGUFFile(source, load="copy") as gguf_file:
        return _read_gguf(source, gguf_file)


def write_imatrix(path: str | os.PathLike[str], matrix: ImportanceMatrix) -> None:
    """Write ``matrix`` as llama-imatrix does, in GGUF; an existing file is replaced in one step.

    ``ValueError`` for values that are negative, not finite or not one row, or names that are too
    long; ``OSError`` where the file cannot be written.
    """
    n_bytes = sum(values.nbytes for values in matrix.values.values())
    with OutputFile(Path(path), inputs=[], n_bytes=n_bytes + _HEADER_ROOM) as output:
        write_entries(output, matrix)
        output.commit()


def write_entries(output: OutputFile, matrix: ImportanceMatrix) -> None:
    """Write ``matrix`` to a file that is open already; to commit it is the caller's."""
    import gguf

    arrays: dict[str, NDArray[np.float32]] = {}
    for name in sorted(matrix.values):  # the order is part of the bytes
        values, count = matrix.values[name], matrix.counts[name]
        _check_writable(name, values, count)
        arrays[name + _SUMS] = (values.astype(np.float64) * count).astype(np.float32)
        arrays[name + _COUNTS] = np.array([count], np.float32)
    writer = gguf.GGUFWriter(None, "")
    writer.kv_data[0].clear()  # general.architecture: this is no model
    writer.add_type("imatrix")
    writer.add_array(_DATASETS, list(matrix.datasets) or [""])  # gguf writes no empty array
    writer.add_uint32(_CHUNKS, matrix.chunks)
    writer.add_uint32(_CHUNK_SIZE, matrix.chunk_size)
    kind = gguf.GGMLQuantizationType.F32
    for name, array in arrays.items():
        writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes, raw_dtype=kind)
    begin_gguf(writer, output.file)
    for array in arrays.values():
        output.file.write(array.tobytes())
        writer.write_padding(output.file, array.nbytes)


def _check_writable(name: str, values: NDArray[np.float32], count: int) -> None:
    if len(name.encode()) + len(_SUMS) > _LONGEST_NAME:
        raise ValueError(f"the name {name!r:.80} is too long for an importance matrix")
    if values.ndim != 1 or values.dtype != np.float32 or not len(values):
        raise ValueError(f"the values of '{name}' must be one row of float32")
    if count < 1:
        raise ValueError(f"'{name}' was measured over {count} tokens, which says nothing")
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"'{name}' has values that are negative or not finite")


# ------------------------------------------------------------------------------------------------- GGUF


def _read_gguf(path: Path, file: GGUFFile) -> ImportanceMatrix:
    metadata = file.metadata
    kind = metadata.get(_TYPE)
    if kind != "imatrix":
        found = f"{_TYPE} is {kind!r:.60}" if kind is not None else f"it has no {_TYPE}"
        raise ModelFormatError(
            f"{path} is a GGUF file but no importance matrix ({found}); {_MAKE_ONE}", field=_TYPE
        )
    datasets = metadata.get(_DATASETS)
    if not isinstance(datasets, list) or not all(isinstance(name, str) for name in datasets):
        raise _bad(path, _DATASETS, f"is {datasets!r:.60}, not a list of names")
    values: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, int] = {}
    for name, (sums, count) in _pairs(path, file.tensors).items():
        total = _read_count(path, count.name, _floats(path, file, count))
        if total == 0:
            continue
        numbers = _floats(path, file, sums)
        _check_numbers(path, sums.name, numbers)
        values[name] = (numbers.astype(np.float64) / total).astype(np.float32)
        counts[name] = total
    return _complete(
        path,
        values,
        counts,
        _number(path, metadata, _CHUNKS),
        _number(path, metadata, _CHUNK_SIZE),
        tuple(name for name in datasets if name),
    )


def _pairs(path: Path, tensors: list[TensorInfo]) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    """The sums and the count of each entry."""
    by_name = {tensor.name: tensor for tensor in tensors}
    pairs = {}
    for name, tensor in by_name.items():
        for suffix, other in ((_SUMS, _COUNTS), (_COUNTS, _SUMS)):
            if name.endswith(suffix):
                partner = name.removesuffix(suffix) + other
                if partner not in by_name:
                    raise _bad(path, name, f"has no '{partner}' beside it")
                if suffix == _SUMS:
                    pairs[name.removesuffix(suffix)] = (tensor, by_name[partner])
                break
        else:
            raise _bad(path, name, "is no part of an importance matrix")
    return pairs


def _floats(path: Path, file: GGUFFile, tensor: TensorInfo) -> NDArray[np.float32]:
    if tensor.type != "F32":
        raise _bad(path, tensor.name, f"is {tensor.type}; importance matrices are F32")
    if math.prod(tensor.shape[1:]) != 1:
        raise UnsupportedModelError(
            f"{path}: '{tensor.name}' has the shape {list(tensor.shape)}, as of a mixture of "
            "experts; such models are not supported",
            field=tensor.name,
        )
    return np.frombuffer(file.read(tensor.name), "<f4")


def _read_count(path: Path, name: str, count: NDArray[np.float32]) -> int:
    if len(count) != 1 or not np.isfinite(count[0]) or count[0] < 0 or count[0] % 1:
        raise _bad(path, name, f"is {count.tolist()!r:.60}, not a number of tokens")
    return int(count[0])


def _number(path: Path, metadata: Any, key: str) -> int:
    value = metadata.get(key)
    if type(value) is not int or not 0 <= value < 2**32:
        raise _bad(path, key, f"is {value!r:.60}, not a whole number")
    return value


# -------------------------------------------------------------------------------------------------- .dat


def _looks_like_dat(head: bytes, size: int) -> bool:
    """A number of entries, and then the first name with its length; text and GGUF differ."""
    if len(head) < 9 or head[:4] == b"GGUF":
        return False
    entries, length = (int.from_bytes(head[i : i + 4], "little", signed=True) for i in (0, 4))
    return 1 <= entries <= _MOST_ENTRIES and 1 <= length <= _LONGEST_NAME and 8 + length <= size


def _read_dat(path: Path) -> ImportanceMatrix:
    if path.stat().st_size > _LARGEST_DAT:
        raise ModelFormatError(f"{path} is longer than any importance matrix; {_MAKE_ONE}")
    data = _DatBytes(path, path.read_bytes())
    values: dict[str, NDArray[np.float32]] = {}
    counts: dict[str, int] = {}
    for i in range(data.number("the number of entries", 1, _MOST_ENTRIES)):
        where = f"entry {i + 1}"
        name = data.text(where, data.number(where, 1, _LONGEST_NAME))
        if name in values:
            raise _bad(path, name, "is there twice")
        calls = data.number(f"'{name}'", 0, 2**31 - 1)
        size = data.number(f"'{name}'", 1, 2**31 - 1)
        numbers = np.frombuffer(data.take(f"'{name}'", 4 * size), "<f4")
        _check_numbers(path, name, numbers)
        counts[name] = max(calls, 1)  # files of 2023 may say 0, and are then means already
        values[name] = (numbers.astype(np.float64) / counts[name]).astype(np.float32)
    chunks = 0
    datasets: tuple[str, ...] = ()
    if data.left:  # files of 2023 end here
        chunks = data.number("the number of chunks", 0, 2**31 - 1)
        if data.left:
            length = data.number("the name of the text", 0, _LONGEST_PATH)
            datasets = (data.text("the name of the text", length),) if length else ()
    if data.left:
        raise ModelFormatError(
            f"{path} has {data.left:,} bytes more than its entries; it is damaged: {_MAKE_ONE}",
            offset=data.offset,
        )
    return _complete(path, values, counts, chunks, 0, datasets)


class _DatBytes:
    """Reads the pieces of a ``.dat`` in their order, none beyond the end."""

    def __init__(self, path: Path, data: bytes) -> None:
        self._path, self._data = path, data
        self.offset = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.offset

    def take(self, what: str, n_bytes: int) -> bytes:
        if n_bytes > self.left:
            raise ModelFormatError(
                f"{self._path}: {what} needs {n_bytes:,} bytes at byte {self.offset:,}, but "
                f"{self.left:,} are left; the file is incomplete: copy it again, or {_MAKE_ONE}",
                offset=self.offset,
            )
        self.offset += n_bytes
        return self._data[self.offset - n_bytes : self.offset]

    def number(self, what: str, low: int, high: int) -> int:
        at = self.offset
        value: int = struct.unpack("<i", self.take(what, 4))[0]
        if not low <= value <= high:
            raise ModelFormatError(
                f"{self._path}: {what} has the number {value:,} at byte {at:,}, outside {low:,} to "
                f"{high:,}; the file is damaged: {_MAKE_ONE}",
                offset=at,
            )
        return value

    def text(self, what: str, n_bytes: int) -> str:
        at = self.offset
        try:
            return self.take(what, n_bytes).decode("utf-8")
        except UnicodeDecodeError:
            raise ModelFormatError(
                f"{self._path}: {what} has a name at byte {at:,} that is not UTF-8; the file is "
                f"damaged: {_MAKE_ONE}",
                offset=at,
            ) from None


# ----------------------------------------------------------------------------------------------- shared


def _check_numbers(path: Path, name: str, numbers: NDArray[np.float32]) -> None:
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    if wrong.any():
        column = int(np.argmax(wrong))
        raise _bad(
            path, name, f"has {numbers[column]:g} in column {column:,}, not a sum of squares"
        )


def _complete(
    path: Path,
    values: dict[str, NDArray[np.float32]],
    counts: dict[str, int],
    chunks: int,
    chunk_size: int,
    datasets: tuple[str, ...],
) -> ImportanceMatrix:
    if not values:
        raise ModelFormatError(f"{path} has no entries with data; {_MAKE_ONE}")
    return ImportanceMatrix(values, counts, chunks, chunk_size, datasets)


def _bad(path: Path, field: str, what: str) -> ModelFormatError:
    return ModelFormatError(f"{path}: '{field}' {what}; {_MAKE_ONE}", field=field)
