"""The model that an adapter is for: which matrices it has, by the names of checkpoints and of files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyqwen._native import architecture_tensors


@dataclass(frozen=True, slots=True)
class BaseMatrix:
    """A matrix that can be adapted. ``name`` is that of a file; ``rotary`` above 0: its rows are those of
    heads so long, in a checkpoint in halves that a file interleaves."""

    name: str
    rows: int
    columns: int
    rotary: int = 0


class BaseModel:
    """The matrices of a model's layers.

    ``config`` has ``architecture``, ``layers`` and the sizes ``hidden``, ``ffn``, ``heads``, ``kv_heads``,
    ``head_dim`` and ``vocab_rows``.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.architecture: str = config["architecture"]
        self.layers: int = config["layers"]
        sizes = ("hidden", "ffn", "heads", "kv_heads", "head_dim", "vocab_rows")
        tensors = architecture_tensors(self.architecture, **{name: config[name] for name in sizes})
        self._matrices = [t for t in tensors if t.kind == "matrix" and t.in_layer]
        self._head_dim: int = config["head_dim"]
        self._by_file = {
            matrix.name: matrix
            for layer in range(self.layers)
            for matrix in [self._matrix(tensor, layer) for tensor in self._matrices]
        }

    def _matrix(self, tensor: Any, layer: int) -> BaseMatrix:
        rows, columns = tensor.shape
        rotary = self._head_dim if tensor.reordered else 0
        return BaseMatrix(tensor.full_name(layer), rows, columns, rotary)

    def of_file(self, name: str) -> BaseMatrix | None:
        """The matrix of a name as in GGUF, ``blk.0.attn_q.weight``."""
        return self._by_file.get(name)

    def of_checkpoint(self, layer: int, module: str) -> BaseMatrix | None:
        """The matrix of a module of a layer, ``self_attn.q_proj``; None for what is none here."""
        for tensor in self._matrices:
            if tensor.checkpoint == f"{module}.weight" and layer < self.layers:
                return self._matrix(tensor, layer)
        return None

    @property
    def modules(self) -> list[str]:
        """The modules that can be adapted, by the last parts of their names in checkpoints."""
        names = [t.checkpoint or "" for t in self._matrices]
        return [name.removesuffix(".weight").rpartition(".")[2] for name in names]
