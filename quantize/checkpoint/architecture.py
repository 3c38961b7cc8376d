"""The tensors of an architecture: what a checkpoint calls them, what GGUF calls them, their shapes.

Knows the names of Hugging Face's Qwen2 and Llama classes and those of GGUF, and the two differences
between the files: the order of the rotated rows, and Llama 3's frequency factors as a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.quantize.checkpoint.hyperparameters import Hyperparameters
from pyqwen.quantize.checkpoint.safetensors_file import StoredTensor

EMBEDDING = "model.embed_tokens.weight"
OUTPUT = "lm_head.weight"
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
    plans = [TensorPlan(EMBEDDING, "token_embd.weight", (h.vocab_rows, h.hidden))]
    for i in range(h.layers):
        plans += _plan_layer(h, f"model.layers.{i}.", f"blk.{i}.")
    plans.append(TensorPlan("model.norm.weight", "output_norm.weight", (h.hidden,)))
    if not h.tied:
        plans.append(TensorPlan(OUTPUT, "output.weight", (h.vocab_rows, h.hidden)))
    return plans


def _plan_layer(h: Hyperparameters, source: str, target: str) -> list[TensorPlan]:
    q_rows, kv_rows = h.heads * h.head_dim, h.kv_heads * h.head_dim
    interleaved = h.architecture == "llama"
    plans = []
    for theirs, ours, shape, heads in (
        ("input_layernorm", "attn_norm", (h.hidden,), 0),
        ("self_attn.q_proj", "attn_q", (q_rows, h.hidden), h.heads if interleaved else 0),
        ("self_attn.k_proj", "attn_k", (kv_rows, h.hidden), h.kv_heads if interleaved else 0),
        ("self_attn.v_proj", "attn_v", (kv_rows, h.hidden), 0),
        ("self_attn.o_proj", "attn_output", (h.hidden, q_rows), 0),
        ("post_attention_layernorm", "ffn_norm", (h.hidden,), 0),
        ("mlp.gate_proj", "ffn_gate", (h.ffn, h.hidden), 0),
        ("mlp.up_proj", "ffn_up", (h.ffn, h.hidden), 0),
        ("mlp.down_proj", "ffn_down", (h.hidden, h.ffn), 0),
    ):
        plans.append(TensorPlan(f"{source}{theirs}.weight", f"{target}{ours}.weight", shape, heads))
        if h.architecture == "qwen2" and ours in ("attn_q", "attn_k", "attn_v"):
            plans.append(TensorPlan(f"{source}{theirs}.bias", f"{target}{ours}.bias", shape[:1]))
    return plans


def check_tensors(
    plans: list[TensorPlan], found: Mapping[str, StoredTensor], h: Hyperparameters, where: str
) -> None:
    """``ModelFormatError`` or ``UnsupportedModelError`` unless ``found`` is just what is planned.

    A tied model may bring its output matrix along: the caller compares it with the embedding.
    """
    missing = [plan.source for plan in plans if plan.source not in found]
    if missing:
        hint = ""
        if OUTPUT in missing:
            hint = "; tie_word_embeddings in config.json is false, so the model needs its own"
        raise ModelFormatError(
            f"{where}: {_some(missing)} missing{hint}; the download is incomplete, or config.json "
            "belongs to another model",
            field=missing[0],
        )
    wanted = {plan.source for plan in plans} | ({OUTPUT} if h.tied else set())
    extra = [name for name in found if name not in wanted and not name.endswith(_IGNORED)]
    if extra:
        raise UnsupportedModelError(
            f"{where}: {_some(extra)} not part of {h.architecture} with {h.layers} layers; "
            "config.json belongs to another model, or this version does not know the variant",
            field=extra[0],
        )
    shapes = {plan.source: plan.shape for plan in plans}
    shapes.setdefault(OUTPUT, shapes[EMBEDDING])
    for name, shape in shapes.items():
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
