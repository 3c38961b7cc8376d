"""The transformer in numpy, float32, layer by layer: forward with its inner inputs, and backward.

The runtime (csrc/model/forward.c) computes the same with quantized weights and int8 products; here
the weights are the checkpoint's own, all texts pass through one layer before the next is read, and
what calibration needs stays at hand: the inputs of every matrix, and the gradients at its outputs.
Rows of hidden states are tokens; a batch is ``n`` texts of ``length`` tokens each, one after the
other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shape:
    """The hyperparameters that the arithmetic needs."""

    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    neox: bool  # rotary pairs are halves (i, i + head_dim / 2); else neighbors (2 i, 2 i + 1)


@dataclass(slots=True)
class Layer:
    """One layer's weights, by their roles in the architecture: ``matrix[role]`` is (rows, cols); biases
    may be missing. ``input_of`` says for each matrix which input it is multiplied with."""

    matrix: dict[str, F32]
    vector: dict[str, F32]
    input_of: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and sines of the positions, (length, head_dim / 2)."""

    cos: F32
    sin: F32


def rotation(frequencies: npt.NDArray[np.float64], length: int) -> Rotation:
    """The rotation of positions 0 .. length - 1 by ``frequencies`` (head_dim / 2), radians each."""
    angles = np.arange(length)[:, None] * frequencies
    return Rotation(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))


def rms_norm(x: F32, weight: F32, eps: float) -> F32:
    """Root-mean-square norm of rows."""
    return np.asarray(x * _inverse_rms(x, eps) * weight)


def _inverse_rms(x: F32, eps: float) -> F32:
    square = np.einsum("ij,ij->i", x, x) / x.shape[1]
    return np.asarray(1.0 / np.sqrt(square + eps), np.float32)[:, None]


def rms_norm_backward(dy: F32, x: F32, weight: F32, eps: float) -> F32:
    """The gradient at ``x`` for the gradient ``dy`` at the norm of it."""
    inverse = _inverse_rms(x, eps)
    scaled = dy * weight
    along = np.einsum("ij,ij->i", scaled, x)[:, None] / x.shape[1]
    return np.asarray(inverse * (scaled - x * along * inverse * inverse))


def _rotate(x: F32, r: Rotation, neox: bool, back: bool = False) -> F32:
    """Rotate (n, length, heads, head_dim) by position; ``back`` is the inverse, and the transpose."""
    cos, sin = r.cos[:, None, :], -r.sin[:, None, :] if back else r.sin[:, None, :]
    half = x.shape[-1] // 2
    first, second = (
        (np.s_[..., :half], np.s_[..., half:]) if neox else (np.s_[..., ::2], np.s_[..., 1::2])
    )
    y = np.empty_like(x)
    y[first] = x[first] * cos - x[second] * sin
    y[second] = x[first] * sin + x[second] * cos
    return y


def _silu(x: F32) -> tuple[F32, F32]:
    """SiLU and the logistic function of x."""
    with np.errstate(over="ignore"):  # exp(-x) of large negative x is infinite, and 1 / inf is 0
        gate = cast(F32, 1.0 / (1.0 + np.exp(-x)))
    return x * gate, gate


@dataclass(slots=True)
class Pass:
    """What one layer computed for a batch: the inputs of its matrices, and what backward needs."""

    x: F32
    middle: F32  # after attention
    inputs: dict[str, F32]  # of the matrices, see Layer.input_of
    unnormed: dict[str, F32]  # query and key (tokens, rows) where norms of the heads follow them
    q: F32  # (n, heads, length, head_dim), rotated, scaled
    k: F32  # (n, kv_heads, length, head_dim), rotated
    v: F32
    attention: F32  # (n, heads, length, length)
    gate: F32
    up: F32


def _linear(layer: Layer, role: str, x: F32) -> F32:
    y = x @ layer.matrix[role].T
    bias = layer.vector.get(f"{role}_bias")
    if bias is not None:
        y += bias
    return y


def _norm_heads(layer: Layer, shape: Shape, role: str, x: F32) -> F32:
    """The norm of each head of query or key (tokens, rows), where the architecture has one."""
    weight = layer.vector.get(f"{role}_norm")
    if weight is None:
        return x
    return rms_norm(x.reshape(-1, shape.head_dim), weight, shape.norm_eps).reshape(x.shape)


def _norm_heads_backward(layer: Layer, shape: Shape, role: str, dy: F32, x: F32) -> F32:
    heads = (-1, shape.head_dim)
    weight = layer.vector[f"{role}_norm"]
    dx = rms_norm_backward(dy.reshape(heads), x.reshape(heads), weight, shape.norm_eps)
    return dx.reshape(x.shape)


def _by_head(x: F32, n: int, heads: int) -> F32:
    return x.reshape(n, -1, heads, x.shape[1] // heads)


def _causal_softmax(scores: F32) -> F32:
    length = scores.shape[-1]
    scores += np.triu(np.full((length, length), -np.inf, np.float32), 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def forward(layer: Layer, shape: Shape, r: Rotation, x: F32) -> tuple[F32, Pass]:
    """One layer: hidden states (n * length, hidden) in and out, and what was computed on the way."""
    n = x.shape[0] // r.cos.shape[0]
    group = shape.heads // shape.kv_heads
    normed = rms_norm(x, layer.vector["attention_norm"], shape.norm_eps)
    products = {role: _linear(layer, role, normed) for role in ("query", "key")}
    q, k = (_norm_heads(layer, shape, role, x) for role, x in products.items())
    q = _rotate(_by_head(q, n, shape.heads), r, shape.neox)
    k = _rotate(_by_head(k, n, shape.kv_heads), r, shape.neox)
    v = _by_head(_linear(layer, "value", normed), n, shape.kv_heads).transpose(0, 2, 1, 3)
    q = np.ascontiguousarray(q.transpose(0, 2, 1, 3)) * np.float32(shape.head_dim**-0.5)
    k = np.ascontiguousarray(k.transpose(0, 2, 1, 3))
    grouped = q.reshape(n, shape.kv_heads, -1, shape.head_dim)  # the heads that share k and v
    scores = (grouped @ k.swapaxes(-1, -2)).reshape(n, shape.heads, -1, k.shape[2])
    attention = _causal_softmax(scores)
    mixed = attention.reshape(n, shape.kv_heads, -1, k.shape[2]) @ v
    context = mixed.reshape(n, shape.kv_heads * group, -1, shape.head_dim)
    flat = np.ascontiguousarray(context.transpose(0, 2, 1, 3)).reshape(x.shape[0], -1)
    middle = x + _linear(layer, "attention_output", flat)
    ffn = rms_norm(middle, layer.vector["ffn_norm"], shape.norm_eps)
    gate, up = _linear(layer, "gate", ffn), _linear(layer, "up", ffn)
    gated = _silu(gate)[0] * up
    inputs = {"qkv": normed, "attention_output": flat, "gate_up": ffn, "down": gated}
    y = middle + _linear(layer, "down", gated)
    unnormed = {role: x for role, x in products.items() if f"{role}_norm" in layer.vector}
    return y, Pass(x, middle, inputs, unnormed, q, k, v, attention, gate, up)


def backward(
    layer: Layer, shape: Shape, r: Rotation, p: Pass, dy: F32
) -> tuple[F32, dict[str, F32]]:
    """The gradient at the layer's input, and at the output of each of its matrices (tokens, rows)."""
    w = layer.matrix
    at: dict[str, F32] = {"down": dy}
    d_gated = dy @ w["down"]
    silu, logistic = _silu(p.gate)
    at["up"] = d_gated * silu
    at["gate"] = d_gated * p.up * (logistic + silu * (1.0 - logistic))
    d_ffn = at["gate"] @ w["gate"] + at["up"] @ w["up"]
    d_middle = dy + rms_norm_backward(d_ffn, p.middle, layer.vector["ffn_norm"], shape.norm_eps)
    at["attention_output"] = d_middle
    _attention_backward(layer, shape, r, p, cast(F32, d_middle @ w["attention_output"]), at)
    d_attn = sum(at[name] @ w[name] for name in ("query", "key", "value"))
    dx = d_middle + rms_norm_backward(
        np.asarray(d_attn, np.float32), p.x, layer.vector["attention_norm"], shape.norm_eps
    )
    return dx, at


def _attention_backward(
    layer: Layer, shape: Shape, r: Rotation, p: Pass, d_context: F32, at: dict[str, F32]
) -> None:
    n, length = p.q.shape[0], p.q.shape[2]
    kv = (n, shape.kv_heads, -1, shape.head_dim)
    d_mixed = _by_head(d_context, n, shape.heads).transpose(0, 2, 1, 3)
    d_mixed = np.ascontiguousarray(d_mixed).reshape(kv)
    attention = p.attention.reshape(n, shape.kv_heads, -1, length)
    d_v = attention.swapaxes(-1, -2) @ d_mixed
    d_attention = d_mixed @ p.v.swapaxes(-1, -2)
    along = np.einsum("...ij,...ij->...i", d_attention, attention)[..., None]
    d_scores = attention * (d_attention - along)
    d_k = d_scores.swapaxes(-1, -2) @ p.q.reshape(kv)
    d_q = (d_scores @ p.k).reshape(n, shape.heads, length, shape.head_dim)
    d_q *= np.float32(shape.head_dim**-0.5)

    def rows(x: F32) -> F32:
        return np.ascontiguousarray(x).reshape(n * length, -1)

    at["query"] = rows(_rotate(d_q.transpose(0, 2, 1, 3), r, shape.neox, back=True))
    at["key"] = rows(_rotate(d_k.transpose(0, 2, 1, 3), r, shape.neox, back=True))
    at["value"] = rows(d_v.transpose(0, 2, 1, 3))
    for role, before in p.unnormed.items():
        at[role] = _norm_heads_backward(layer, shape, role, at[role], before)
