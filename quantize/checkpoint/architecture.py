"""The tensors of an architecture: what a checkpoint calls them, what GGUF calls them, their shapes.

Both names come from the core's table. Knows the two differences between the files: the order of the
rotated rows, and Llama 3's frequency factors as a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from pyqwen._native import ArchitectureTensor, architecture_tensors
from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.loading.safetensors_file import StoredTensor
from pyqwen.quantize.checkpoint.hyperparameters import Hyperparameters

WEIGHT_TYPES = ("BF16", "F16", "F32")
# Constants that older checkpoints store and every runtime computes.
_IGNORED = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor to convert: ``source`` is its name in the checkpoint, ``target`` the one in GGUF.

    ``rotary_heads`` above 0: the rows are those of so many heads, and within each the two halves,
    which Hugging Face rotates against each other, become neighbors, as GGUF's ``llama`` rotates them.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    rotary_heads: int = 0


def plan_tensors(h: Hyperparameters) -> list[TensorPlan]:
    """All tensors of a model of this shape, in the order in which they are written."""
    plans = []
    for in_layers, group in groupby(_tensors(h), key=lambda tensor: tensor.in_layer):
        tensors = [t for t in group if t.required or (t.tied_to is not None and not h.tied)]
        for layer in range(h.layers if in_layers else 1):
            plans += [_plan(h, tensor, layer) for tensor in tensors]
    return plans


def output_and_embedding(h: Hyperparameters) -> tuple[TensorPlan, TensorPlan]:
    """The output matrix, and the one that it is in tied models."""
    tensors = {tensor.role: tensor for tensor in _tensors(h)}
    tied = next(tensor for tensor in tensors.values() if tensor.tied_to is not None)
    assert tied.tied_to is not None
    return _plan(h, tied, 0), _plan(h, tensors[tied.tied_to], 0)


def without_output(
    h: Hyperparameters, found: Mapping[str, StoredTensor], *, embeds: bool
) -> tuple[Hyperparameters, list[str]]:
    """An embedding model needs no output matrix: then the file counts as tied, and a note says so."""
    output, embedding = (plan.source for plan in output_and_embedding(h))
    if h.tied or output in found or not (embeds or h.without_output):
        return h, []
    return replace(h, tied=True), [
        f"there is no {output}: the file is for embeddings, and text that it writes has no meaning "
        f"({embedding} takes its place)"
    ]


def second_copy(h: Hyperparameters) -> tuple[TensorPlan, TensorPlan] | None:
    """The output matrix that a tied model's checkpoint may bring along, and what it must be equal to."""
    return output_and_embedding(h) if h.tied else None


def _tensors(h: Hyperparameters) -> list[ArchitectureTensor]:
    tensors = architecture_tensors(
        h.architecture,
        hidden=h.hidden,
        ffn=h.ffn,
        heads=h.heads,
        kv_heads=h.kv_heads,
        head_dim=h.head_dim,
        vocab_rows=h.vocab_rows,
    )
    return [tensor for tensor in tensors if tensor.checkpoint is not None]


def _plan(h: Hyperparameters, tensor: ArchitectureTensor, layer: int) -> TensorPlan:
    source = f"model.layers.{layer}.{tensor.checkpoint}" if tensor.in_layer else tensor.checkpoint
    assert source is not None
    heads = tensor.shape[0] // h.head_dim if tensor.reordered else 0
    return TensorPlan(source, tensor.full_name(layer), tensor.shape, heads)


def check_tensors(
    plans: list[TensorPlan], found: Mapping[str, StoredTensor], h: Hyperparameters, where: str
) -> None:
    """``ModelFormatError`` or ``UnsupportedModelError`` unless ``found`` is just what is planned.

    A tied model may bring its output matrix along: the caller compares it with the embedding.
    """
    missing = [plan.source for plan in plans if plan.source not in found]
    if missing:
        raise ModelFormatError(
            f"{where}: {_some(missing)} missing; {_why_missing(missing, found, h)}",
            field=missing[0],
        )
    copy = second_copy(h)
    checked = [*plans, copy[0]] if copy else plans
    wanted = {plan.source for plan in checked}
    extra = [name for name in found if name not in wanted and not name.endswith(_IGNORED)]
    if extra:
        raise UnsupportedModelError(
            f"{where}: {_some(extra)} not part of {h.architecture} with {h.layers} layers; "
            "config.json belongs to another model, or this version does not know the variant",
            field=extra[0],
        )
    for name, shape in ((plan.source, plan.shape) for plan in checked):
        tensor = found.get(name)
        if tensor is None:  # the second copy that a tied model may have
            continue
        if tensor.shape != shape:
            raise ModelFormatError(
                f"{tensor.file.path}: tensor '{name}' has shape {_text(tensor.shape)}, but by "
                f"config.json it should have {_text(shape)}",
                field=name,
            )
        if tensor.dtype not in WEIGHT_TYPES:
            raise UnsupportedModelError(
                f"{tensor.file.path}: tensor '{name}' is of type {tensor.dtype}; this version "
                f"converts {', '.join(WEIGHT_TYPES)}",
                field=name,
            )


def _why_missing(missing: list[str], found: Mapping[str, StoredTensor], h: Hyperparameters) -> str:
    """What is there instead, and what to do."""
    if missing == [output_and_embedding(h)[0].source]:
        return (
            "tie_word_embeddings in config.json is not true, so the model needs its own; set it to "
            "true if the model was trained with one matrix for both"
        )
    there = f"the weights have {len(found):,} tensors" + (
        f", '{min(found)[:80]}' first" if found else ""
    )
    return (
        f"by config.json this is {h.architecture} with {h.layers} layers, and {there}: config.json "
        "belongs to another model, or the weights were saved in part"
    )


def interleave_halves(rows: npt.NDArray[np.generic], head_dim: int) -> npt.NDArray[np.generic]:
    """Reorder the rows (n × head_dim, columns) of whole heads: row i and i + head_dim/2 side by side."""
    halves = rows.reshape(-1, 2, head_dim // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def rope_factors(h: Hyperparameters) -> npt.NDArray[np.float32] | None:
    """Llama 3's divisors of the rotary frequencies (head_dim / 2), the tensor ``rope_freqs.weight``.

    Long waves are stretched by ``factor``, short ones kept, those between are blended (Llama 3.1's
    ``apply_scaling``, meta-llama/llama-models).
    """
    scaling = h.rope_scaling
    if scaling is None or scaling.kind != "llama3":
        return None
    assert scaling.original_context is not None
    low = scaling.options.get("low_freq_factor", 1.0)
    high = scaling.options.get("high_freq_factor", 4.0)
    if high <= low:
        raise ModelFormatError(
            f"config.json: high_freq_factor is {high:g}, not above low_freq_factor, {low:g}",
            field="high_freq_factor",
        )
    frequencies = h.rope_theta ** (-np.arange(0, h.head_dim, 2, dtype=np.float64) / h.head_dim)
    turns = scaling.original_context * frequencies / (2 * math.pi)  # in the original context
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - kept) / scaling.factor + kept)).astype(np.float32)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1:,} more tensors are" if len(names) > 1 else " is"
    return f"tensor '{names[0][:80]}'{more}"


def _text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
