"""The tensors of a model by what they are to it: a view of the core's table of architectures.

Nothing else in Python spells the name of a tensor; who needs one asks for that of a role.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from functools import cache

from pyqwen._native import ArchitectureTensor, architecture_tensors

_LAYER = re.compile(r"blk\.(\d+)\.")


class TensorNames:
    """The tensors of one architecture. ``inputs`` has, by role, the matrices of a layer and what each is
    multiplied with (``qkv``, ``attention_output``, ``gate_up`` or ``down``)."""

    def __init__(self, architecture: str) -> None:
        """``UnsupportedModelError`` for an architecture that is not in the table."""
        tensors = architecture_tensors(architecture)
        self._by_role = {tensor.role: tensor for tensor in tensors}
        self._by_name = {tensor.name: tensor for tensor in tensors}
        self.inputs: Mapping[str, str] = {
            t.role: t.input for t in tensors if t.in_layer and t.input is not None
        }
        self.layer_vectors = [t.role for t in tensors if t.in_layer and len(t.shape) == 1]

    def name(self, role: str, layer: int = 0) -> str:
        """What a file calls the tensor; ``layer`` counts where each has one."""
        return self._by_role[role].full_name(layer)

    def output(self, present: Container[str]) -> str:
        """The name of the matrix that makes the logits, in a model with the tensors ``present``."""
        output = self._by_role["output"]
        assert output.tied_to is not None
        return output.name if output.name in present else self.name(output.tied_to)

    def find(self, name: str) -> ArchitectureTensor | None:
        """The tensor that a file calls ``name``; None if the architecture has none."""
        match = _LAYER.match(name)
        found = self._by_name.get(name[match.end() :] if match else name)
        return found if found is not None and found.in_layer == bool(match) else None

    def role(self, name: str) -> str | None:
        """What the tensor that a file calls ``name`` is to the model."""
        found = self.find(name)
        return found.role if found is not None else None


@cache
def tensor_names(architecture: str) -> TensorNames:
    """The names for an architecture; see ``TensorNames``."""
    return TensorNames(architecture)


def layer_of(name: str) -> int:
    """The layer that a tensor is in, by its name in a file; -1 for none."""
    match = _LAYER.match(name)
    return int(match[1]) if match else -1
