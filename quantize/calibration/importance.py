"""The importance matrix as the quantizer uses it: which of its entries count, checked, and its keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyqwen.errors import ModelFormatError, NumericError
from pyqwen.quantize.calibration.imatrix_file import ImportanceMatrix
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor, set_key
from pyqwen.quantize.tensor_names import tensor_names

if TYPE_CHECKING:
    import gguf

_LONGEST_TEXT = 127  # bytes that llama-quantize keeps of a file name


class Importance:
    """The entries of ``matrix`` (read from ``path``) for the tensors of ``model``.

    ``include`` and ``exclude`` are parts of names: with ``include`` only entries that contain one of
    them count, with ``exclude`` those that contain none. ``ModelFormatError`` where an entry does
    not fit its tensor, ``NumericError`` where it is not finite or negative.
    """

    def __init__(
        self,
        matrix: ImportanceMatrix,
        path: Path | None,
        model: ModelSource,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self._matrix, self._path = matrix, path
        self._embedding = tensor_names(model.architecture).name("embedding")
        self.values = {
            name: values
            for name, values in matrix.values.items()
            if not any(part in name for part in exclude)
            and (not include or any(part in name for part in include))
        }
        for tensor in model.tensors:
            if tensor.name in self.values:
                self._check(tensor, self.values[tensor.name])

    def _check(self, tensor: SourceTensor, values: npt.NDArray[np.float32]) -> None:
        where = f"{self._path or 'the importance matrix'}: entry '{tensor.name}'"
        if values.shape != (tensor.columns,):
            if tensor.name == self._embedding:  # files of others have it by the token: no use to us
                del self.values[tensor.name]
                return
            raise ModelFormatError(
                f"{where} has {values.size:,} values, but the tensor has {tensor.columns:,} columns; "
                "it was made for another model: make one for this with pyqwen imatrix",
                field=tensor.name,
            )
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            column = int(np.argmax(bad))
            raise NumericError(
                f"{where} is {values[column]:g} in column {column}; it must be finite and not "
                "negative: make it again with pyqwen imatrix"
            )

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of ``names`` without an entry; the embedding never has one."""
        return [name for name in names if name not in self.values and name != self._embedding]

    def add_keys(self, keys: dict[str, gguf.GGUFValue]) -> None:
        """Say in the file how it was made, as llama-quantize does."""
        if self._path is not None:
            set_key(keys, "quantize.imatrix.file", _cut(str(self._path)))
        if self._matrix.datasets and self._matrix.datasets[0]:
            set_key(keys, "quantize.imatrix.dataset", _cut(self._matrix.datasets[0]))
        set_key(keys, "quantize.imatrix.entries_count", len(self.values))
        if self._matrix.chunks > 0:
            set_key(keys, "quantize.imatrix.chunks_count", self._matrix.chunks)


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:_LONGEST_TEXT].decode("utf-8", "ignore")
