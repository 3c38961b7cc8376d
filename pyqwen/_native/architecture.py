"""The table of architectures in the core (csrc/model/architecture.c): what tensors a model has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pyqwen._ffi import ffi, lib
from pyqwen._native.sessions import IMATRIX_INPUTS
from pyqwen._native.status import check, new_error

_INPUTS = {number: name for name, number in IMATRIX_INPUTS.items()}
_KINDS = {
    lib.PQ_TENSOR_LOOKUP: "lookup",
    lib.PQ_TENSOR_MATRIX: "matrix",
    lib.PQ_TENSOR_NORM: "norm",
    lib.PQ_TENSOR_BIAS: "bias",
    lib.PQ_TENSOR_FACTORS: "factors",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A way of building a transformer.

    ``name`` is GGUF's, ``checkpoint_class`` that of Hugging Face. ``rope_neox``: rotary embedding of
    halves (else of neighboring pairs). ``head_dim`` holds where a checkpoint does not say; None:
    hidden / heads.
    """

    name: str
    checkpoint_class: str
    rope_neox: bool
    head_dim: int | None


@dataclass(frozen=True, slots=True)
class ArchitectureTensor:
    """One tensor of an architecture, for the sizes of one model.

    ``role`` is what it is to the model (``query``, ``ffn_norm``), ``name`` what a file calls it and
    ``checkpoint`` what a checkpoint does (None: it has none), both without the layer. ``tied_to`` is the
    role of the tensor that serves where this one is missing. ``kind`` is ``lookup``, ``matrix``,
    ``norm``, ``bias`` or ``factors``; ``input`` what a matrix is multiplied with, one of
    ``IMATRIX_INPUTS``. ``reordered``: its rows stand in pairs, in a checkpoint in halves of a head.
    """

    role: str
    name: str
    checkpoint: str | None
    tied_to: str | None
    kind: str
    input: str | None
    in_layer: bool
    required: bool
    reordered: bool
    shape: tuple[int, ...]

    def full_name(self, layer: int) -> str:
        """The name in a file; ``layer`` counts only where every layer has one."""
        return f"blk.{layer}.{self.name}" if self.in_layer else self.name


@cache
def architectures() -> Mapping[str, Architecture]:
    """All that this version knows, by name."""
    found = {}
    index = 0
    while (a := lib.pq_architecture_at(index)) != ffi.NULL:
        name = _text(a.name) or ""
        found[name] = Architecture(
            name, _text(a.checkpoint_class) or "", bool(a.rope_neox), a.head_dim or None
        )
        index += 1
    return found


def architecture_tensors(
    architecture: str,
    *,
    hidden: int = 1,
    ffn: int = 1,
    heads: int = 1,
    kv_heads: int = 1,
    head_dim: int = 2,
    vocab_rows: int = 1,
) -> list[ArchitectureTensor]:
    """The tensors of a model of these sizes (which only the shapes depend on), as files are written: those
    before the layers, of one layer, and after the layers.

    ``UnsupportedModelError`` for an unknown architecture.
    """
    config = ffi.new("pq_config *")
    config.architecture = architecture.encode()[:15]
    config.hidden, config.ffn, config.vocab_rows = hidden, ffn, vocab_rows
    config.heads, config.kv_heads, config.head_dim = heads, kv_heads, head_dim
    out, error = ffi.new("pq_architecture_tensor *"), new_error()
    tensors: list[ArchitectureTensor] = []
    while True:
        status = lib.pq_architecture_tensor_at(config, len(tensors), out, error)
        if status == lib.PQ_ERR_NOT_FOUND:
            return tensors
        check(status, error)
        is_matrix = out.kind in (lib.PQ_TENSOR_LOOKUP, lib.PQ_TENSOR_MATRIX)
        tensors.append(
            ArchitectureTensor(
                role=_text(out.role) or "",
                name=_text(out.name) or "",
                checkpoint=_text(out.checkpoint),
                tied_to=_text(out.tied_to),
                kind=_KINDS[out.kind],
                input=_INPUTS.get(out.input),
                in_layer=bool(out.in_layer),
                required=bool(out.required),
                reordered=bool(out.reordered),
                shape=(out.rows, out.cols) if is_matrix else (out.cols,),
            )
        )


def _text(pointer: ffi.CData) -> str | None:
    return None if pointer == ffi.NULL else ffi.string(pointer).decode()
