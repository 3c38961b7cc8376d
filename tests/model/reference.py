"""The transformer once more, in a page of numpy: float64, from the papers, nothing shared with the core.

Vaswani et al. (attention), Su et al. (rotary embedding), Shazeer (gated units), Zhang and Sennrich (RMSNorm),
Ainslie et al. (grouped queries), Peng et al. (YaRN). Tensors come from the file through the gguf package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Reference:
    """A GGUF model of the qwen2, qwen3 or llama architecture, dequantized to float64."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self._tensors = {
            t.name: gguf.dequantize(t.data, t.tensor_type).astype(np.float64)
            for t in reader.tensors
        }
        self._keys = {name: field.contents() for name, field in reader.fields.items()}
        self._architecture = str(self._keys["general.architecture"])

    def _key(self, name: str, default: Any = None) -> Any:
        return self._keys.get(f"{self._architecture}.{name}", default)

    def logits(self, ids: Sequence[int]) -> Array:
        """Return raw logits (len(ids), vocabulary rows); ``squares`` is of this call."""
        x = self.hidden(ids)
        name = "output.weight" if "output.weight" in self._tensors else "token_embd.weight"
        self.squares[name] = np.sum(x * x, axis=0)
        return x @ self._tensors[name].T

    def hidden(self, ids: Sequence[int]) -> Array:
        """Return final hidden states (len(ids), hidden), after the last norm."""
        # Of what matrices are multiplied with, summed by column.
        self.squares: dict[str, Array] = {}
        x = self._tensors["token_embd.weight"][np.asarray(ids)]
        for i in range(self._key("block_count")):
            x = x + self._attention(f"blk.{i}.", self._norm(x, f"blk.{i}.attn_norm"))
            x = x + self._feed_forward(f"blk.{i}.", self._norm(x, f"blk.{i}.ffn_norm"))
        return self._norm(x, "output_norm")

    def _norm(self, x: Array, name: str) -> Array:
        mean = np.mean(x * x, axis=-1, keepdims=True)
        scaled = x / np.sqrt(mean + self._key("attention.layer_norm_rms_epsilon"))
        return np.asarray(scaled * self._tensors[f"{name}.weight"])

    def _linear(self, x: Array, name: str) -> Array:
        self.squares[f"{name}.weight"] = np.sum(x * x, axis=0)
        bias = self._tensors.get(f"{name}.bias", 0.0)
        return np.asarray(x @ self._tensors[f"{name}.weight"].T + bias)

    def _feed_forward(self, block: str, x: Array) -> Array:
        gate = self._linear(x, f"{block}ffn_gate")
        return self._linear(
            gate / (1 + np.exp(-gate)) * self._linear(x, f"{block}ffn_up"), f"{block}ffn_down"
        )

    def _attention(self, block: str, x: Array) -> Array:
        n, heads = len(x), self._key("attention.head_count")
        kv_heads = self._key("attention.head_count_kv")
        q = self._linear(x, f"{block}attn_q").reshape(n, heads, -1)
        k = self._linear(x, f"{block}attn_k").reshape(n, kv_heads, -1)
        if f"{block}attn_q_norm.weight" in self._tensors:  # of each head, in Qwen3
            q, k = self._norm(q, f"{block}attn_q_norm"), self._norm(k, f"{block}attn_k_norm")
        q, k = self._rotate(q), self._rotate(k)
        v = self._linear(x, f"{block}attn_v").reshape(n, kv_heads, -1)
        k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        scores[:, np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return self._linear(
            np.einsum("hqk,khd->qhd", weights, v).reshape(n, -1), f"{block}attn_output"
        )

    def _rotate(self, x: Array) -> Array:
        """Rotate pairs of x (positions, heads, dim): halves, or for llama neighbors."""
        dim = x.shape[-1]
        angles = np.arange(len(x))[:, None] * self._frequencies(dim)
        turn = np.exp(1j * angles)[:, None, :] * self._rotation_scale()
        if self._architecture != "llama":
            turned = (x[..., : dim // 2] + 1j * x[..., dim // 2 :]) * turn
            return np.concatenate([turned.real, turned.imag], axis=-1)
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)

    def _rotation_scale(self) -> float:
        if self._key("rope.scaling.type") != "yarn":
            return 1.0
        return 0.1 * math.log(self._key("rope.scaling.factor")) + 1.0

    def _frequencies(self, dim: int) -> Array:
        base = float(self._key("rope.freq_base"))
        frequencies = base ** (-np.arange(0, dim, 2) / dim)
        if "rope_freqs.weight" in self._tensors:
            frequencies = frequencies / self._tensors["rope_freqs.weight"]
        kind, factor = self._key("rope.scaling.type"), self._key("rope.scaling.factor", 1.0)
        if kind == "linear":
            return np.asarray(frequencies / factor)
        if kind != "yarn":
            return np.asarray(frequencies)
        original = self._key("rope.scaling.original_context_length")

        def pair_of(turns: float) -> float:
            return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = max(math.floor(pair_of(32)), 0), min(math.ceil(pair_of(1)), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 1e-3), 0, 1)
        return np.asarray(frequencies * (ramp / factor + (1 - ramp)))
