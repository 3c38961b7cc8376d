"""What the quantizer reads: a checkpoint directory or a GGUF file, both as the tensors GGUF would hold.

A `ModelSource` is open while it is used. Its tensors are read some rows at a time, by one thread at a
time, so that memory does not grow with the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from pyqwen._native import dequantize_rows

if TYPE_CHECKING:
    import gguf

SLICE_ELEMENTS = 2 << 20  # read, converted and written at once: 8 MB as float32
_EVEN_ROWS = 256  # slices hold a multiple of these, for heads are reordered as a whole


class SourceTensor(ABC):
    """One tensor of a model. ``shape`` has the row length last; ``type`` as GGUF calls it.

    ``source`` is its name in the checkpoint (of a GGUF file: ``name``), ``where`` the file it is in.
    A vector is one row.
    """

    def __init__(
        self, name: str, source: str, type: str, shape: tuple[int, ...], where: Path
    ) -> None:
        self.name, self.source, self.type, self.shape, self.where = name, source, type, shape, where
        self.columns = shape[-1]
        self.rows = math.prod(shape[:-1])

    @property
    def elements(self) -> int:
        return self.rows * self.columns

    @abstractmethod
    def read_raw(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The bytes (rows, bytes per row) of rows ``start`` to ``stop`` as GGUF stores ``type``."""

    def read_rows(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """The values (rows, columns) of rows ``start`` to ``stop``."""
        return dequantize_rows(self.read_raw(start, stop), self.type)

    def place(self, row: int, column: int) -> str:
        """Where an element is in the source, for messages: ``[row, column]``."""
        return f"[{row}, {column}]" if len(self.shape) > 1 else f"[{column}]"

    def slices(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows of about ``SLICE_ELEMENTS``; they depend on nothing but the shape."""
        step = max(SLICE_ELEMENTS // max(self.columns, 1), 1)
        if step > _EVEN_ROWS:
            step -= step % _EVEN_ROWS
        for start in range(0, self.rows, step):
            yield start, min(start + step, self.rows)


class ModelSource(ABC):
    """A model to be written again. A context manager: leaving it closes the files."""

    path: Path
    inputs: list[Path]  # what must not be overwritten
    architecture: str
    layers: int
    heads: int
    kv_heads: int
    config: Mapping[str, Any]  # the sizes, by the names of ``pq_config``
    tensors: list[SourceTensor]
    notes: list[str]  # what the reader should know about how it was read

    @abstractmethod
    def keys(self) -> dict[str, gguf.GGUFValue]:
        """All metadata, in order, without ``split.*``."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """``ModelChangedError`` if a file is not what it was when it was opened."""

    @abstractmethod
    def close(self) -> None:
        """Give up the files."""

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors if tensor.source)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def set_key(keys: dict[str, gguf.GGUFValue], name: str, value: int | str) -> None:
    """Set a key to a text or an unsigned 32-bit number, in its place if it is there."""
    import gguf

    kind = gguf.GGUFValueType.STRING if isinstance(value, str) else gguf.GGUFValueType.UINT32
    keys[name] = gguf.GGUFValue(value=value, type=kind)


def plain_values(keys: Mapping[str, gguf.GGUFValue]) -> dict[str, Any]:
    """The values alone, as `pyqwen.text.tokenizer` and others read metadata: texts as str."""
    return {name: _text(value.value) for name, value in keys.items()}


def _text(value: Any) -> Any:
    """Bytes as the text that they are, also in lists; anything else as it is."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_text(item) for item in value] if isinstance(value, list) else value
