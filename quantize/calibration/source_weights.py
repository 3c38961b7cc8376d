"""The weights of a source as the numpy transformer wants them, one layer at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyqwen._native import architectures
from pyqwen.errors import NumericError, UnsupportedModelError
from pyqwen.quantize.calibration.transformer import Layer, Shape
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor
from pyqwen.quantize.tensor_names import tensor_names

F32 = npt.NDArray[np.float32]


class SourceWeights:
    """Reads float32 weights of an open source by their places in the architecture."""

    def __init__(self, source: ModelSource, keys: dict[str, Any]) -> None:
        """``keys``: the source's metadata, plain values."""
        self._tensors = {tensor.name: tensor for tensor in source.tensors}
        self._path = source.path
        self.layers = source.layers
        arch = source.architecture
        self.names = tensor_names(arch)
        self.embedding = self.names.name("embedding")
        self.output = self.names.output(self._tensors)
        hidden, heads = int(keys[f"{arch}.embedding_length"]), source.heads
        self.shape = Shape(
            hidden=hidden,
            ffn=int(keys[f"{arch}.feed_forward_length"]),
            heads=heads,
            kv_heads=source.kv_heads,
            head_dim=int(keys.get(f"{arch}.attention.key_length", hidden // heads)),
            norm_eps=float(keys[f"{arch}.attention.layer_norm_rms_epsilon"]),
            neox=architectures()[arch].rope_neox,
        )
        self._base = float(keys.get(f"{arch}.rope.freq_base", 10000.0))
        self._scaling = str(keys.get(f"{arch}.rope.scaling.type", "none"))
        self._factor = float(keys.get(f"{arch}.rope.scaling.factor", 1.0))

    @property
    def tied(self) -> bool:
        """Whether one matrix is looked up and makes the logits."""
        return self.output == self.embedding

    def tensor(self, name: str) -> SourceTensor:
        return self._tensors[name]

    def frequencies(self) -> npt.NDArray[np.float64]:
        """The angle per position of each rotary pair, (head_dim / 2)."""
        if self._scaling not in ("none", "linear"):
            raise UnsupportedModelError(
                f"{self._path}: calibration does not know rotary scaling by '{self._scaling}'; take it "
                "out of the configuration, as short texts do without, or quantize without calibration"
            )
        half = self.shape.head_dim // 2
        out: npt.NDArray[np.float64] = self._base ** (-np.arange(half) / half)
        if self._scaling == "linear":
            out /= self._factor
        factors = self.names.name("rope_factors")
        if factors in self._tensors:
            out /= self.read(factors).ravel()[:half]
        return out

    def read(self, name: str) -> F32:
        """A whole tensor: a matrix (rows, columns), or a vector."""
        tensor = self._tensors[name]
        out = np.empty((tensor.rows, tensor.columns), np.float32)
        for start, stop in tensor.slices():
            out[start:stop] = self.read_rows(name, start, stop)
        return out if len(tensor.shape) > 1 else out[0]

    def read_rows(self, name: str, start: int, stop: int) -> F32:
        """Some rows; ``NumericError`` where one holds what is no number."""
        tensor = self._tensors[name]
        rows = tensor.read_rows(start, stop)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise NumericError(
                f"{tensor.where}: tensor '{tensor.source}' holds {rows[row, column]:g} at "
                f"{tensor.place(start + int(row), int(column))}; the model is damaged: fetch it again"
            )
        return rows

    def layer(self, index: int) -> Layer:
        inputs, vectors = self.names.inputs, self.names.layer_vectors
        present = [role for role in vectors if self.names.name(role, index) in self._tensors]
        return Layer(
            matrix={role: self.read(self.names.name(role, index)) for role in inputs},
            vector={role: self.read(self.names.name(role, index)) for role in present},
            input_of=dict(inputs),
        )

    def embed(self, ids: npt.NDArray[np.int64]) -> F32:
        """Rows of the embedding matrix for tokens."""
        tensor = self._tensors[self.embedding]
        out = np.empty((len(ids), tensor.columns), np.float32)
        for start, stop in tensor.slices():
            here = (ids >= start) & (ids < stop)
            if here.any():
                out[here] = self.read_rows(self.embedding, start, stop)[ids[here] - start]
        return out
