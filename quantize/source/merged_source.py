"""A model with adapters (LoRA) merged into it: W + scale * B A, in float32, some rows at a time.

The sum over the rank goes in ascending order, one product after the other, so that the result depends
neither on threads nor on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyqwen._native import dequantize_rows, tensor_types
from pyqwen.errors import ModelFormatError, NumericError, UnsupportedModelError
from pyqwen.loading.adapters.adapter_file import AdapterFile, AdapterTensor, Factor
from pyqwen.loading.adapters.base_model import BaseModel
from pyqwen.loading.adapters.open_adapter import open_adapter
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor

if TYPE_CHECKING:
    import gguf

F32 = npt.NDArray[np.float32]

_TILE = 1 << 16  # elements that stay in the cache while the products are added to them


class _Change:
    """``factor`` B A of one adapter, for one matrix."""

    def __init__(self, tensor: AdapterTensor, where: Path, factor: float) -> None:
        self._a = factor_values(tensor.a, where)
        self._b = factor_values(tensor.b, where) * np.float32(tensor.scale * factor)

    def add_to(self, rows: F32, start: int) -> None:
        """Add to the rows of the matrix that begin with number ``start``."""
        step = max(_TILE // rows.shape[1], 1)
        for first in range(0, len(rows), step):
            tile = rows[first : first + step]
            b = self._b[start + first : start + first + len(tile)]
            change = np.zeros_like(tile)
            for j in range(len(self._a)):
                change += b[:, j : j + 1] * self._a[j]
            tile += change


class _MergedTensor(SourceTensor):
    def __init__(self, base: SourceTensor, changes: list[_Change]) -> None:
        super().__init__(base.name, base.source, "F32", base.shape, base.where)
        self._base, self._changes = base, changes

    def read_raw(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        return self.read_rows(start, stop).view(np.uint8)

    def read_rows(self, start: int, stop: int) -> F32:
        rows = np.array(self._base.read_rows(start, stop), np.float32, order="C")
        for change in self._changes:
            change.add_to(rows, start)
        return rows

    def place(self, row: int, column: int) -> str:
        return self._base.place(row, column)


class MergedSource(ModelSource):
    """``model`` with adapters in it; closing it closes the model. Merged matrices are of type F32."""

    def __init__(self, model: ModelSource, adapters: Mapping[Path, float]) -> None:
        self._model = model
        self.path, self.architecture = model.path, model.architecture
        self.layers, self.heads, self.kv_heads = model.layers, model.heads, model.kv_heads
        self.config = model.config
        self.inputs, self.notes = list(model.inputs), list(model.notes)
        changes: dict[str, list[_Change]] = {}
        base = BaseModel(model.config)
        for path, factor in adapters.items():
            with open_adapter(path, base) as adapter:
                self._read(adapter, factor, changes)
        self.tensors = [
            _MergedTensor(_mergeable(tensor), changes[tensor.name])
            if tensor.name in changes
            else tensor
            for tensor in model.tensors
        ]

    def _read(self, adapter: AdapterFile, factor: float, changes: dict[str, list[_Change]]) -> None:
        self.inputs += adapter.files
        for tensor in adapter.tensors:
            own = changes.setdefault(tensor.matrix.name, [])
            own.append(_Change(tensor, adapter.path, factor))
        count = len(adapter.tensors)
        self.notes.append(f"{adapter.path} is merged into {count} of the model's matrices")

    def keys(self) -> dict[str, gguf.GGUFValue]:
        return self._model.keys()

    def check_unchanged(self) -> None:
        self._model.check_unchanged()

    def close(self) -> None:
        self._model.close()


def factor_values(factor: Factor, where: Path) -> F32:
    """The values of A or B; ``NumericError`` where one is no finite number."""
    kind = tensor_types()[factor.type]
    rows, columns = factor.shape
    if columns % kind.block:
        raise ModelFormatError(f"{where}: tensor '{factor.name}' is of no type it can be of")
    raw = np.frombuffer(factor.read(), np.uint8).reshape(rows, -1)
    values = np.array(dequantize_rows(np.ascontiguousarray(raw), factor.type), np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(n) for n in bad[0])
        raise NumericError(
            f"{where}: tensor '{factor.name}' holds {values[row, column]} at [{row}, {column}]; it is "
            "damaged"
        )
    return values


def _mergeable(tensor: SourceTensor) -> SourceTensor:
    if tensor_types()[tensor.type].block > 1:
        raise UnsupportedModelError(
            f"{tensor.where}: tensor '{tensor.name}' is {tensor.type} already: adapters are merged into "
            "unquantized models (F32, F16, BF16); run this one with the adapter beside it (--adapter)",
            field=tensor.name,
        )
    return tensor
