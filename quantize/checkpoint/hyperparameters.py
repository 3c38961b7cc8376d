"""What config.json says about a model, checked.

Refuses here, in the configuration's own words, what the weights could not be run with: other
architectures, other activations, sliding windows, quantized checkpoints. Knows no tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyqwen._native import architectures
from pyqwen.errors import ModelFormatError, UnsupportedModelError

ARCHITECTURES = {known.checkpoint_class: known.name for known in architectures().values()}
"""Hugging Face's name of what is converted, and GGUF's name for it."""
_WITHOUT_OUTPUT = {
    name.replace("ForCausalLM", "Model"): gguf_name for name, gguf_name in ARCHITECTURES.items()
}
"""The classes that have all but the output matrix: what embedding models are saved as."""
_ENCODERS = ("bert", "electra", "mpnet", "t5encoder")
"""What the names of encoders contain, in lower case."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary positions are stretched: ``kind`` is ``linear``, ``yarn`` or ``llama3``."""

    kind: str
    factor: float
    original_context: int | None
    options: Mapping[str, float]  # those of YaRN and Llama 3, by their names in config.json


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The shape of a model. ``vocab_rows`` counts the rows of the embedding, padding included."""

    architecture: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    states_head_dim: bool  # whether it must be written down; otherwise it is hidden / heads
    vocab_rows: int
    context: int
    rms_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool
    without_output: bool = False  # the class has no output matrix
    notes: tuple[str, ...] = ()  # what was taken from elsewhere than its place


def read_hyperparameters(config: Mapping[str, Any], where: str) -> Hyperparameters:
    """Check the object of config.json; ``where`` names the file in messages.

    ``UnsupportedModelError`` for a model of another kind, ``ModelFormatError`` for values that are
    missing, of a wrong type, out of bounds or at odds with each other.
    """
    keys = _Keys(config, where)
    architecture = _architecture(keys)
    hidden = keys.integer("hidden_size", 65_536)
    heads = keys.integer("num_attention_heads", 1024)
    kv_heads = keys.integer("num_key_value_heads", 1024, default=heads)
    if heads % kv_heads:
        raise keys.bad("num_key_value_heads", f"is {kv_heads}, which does not divide {heads} heads")
    usual = architectures()[architecture].head_dim
    if "head_dim" not in keys and usual is None and hidden % heads:
        raise keys.bad("hidden_size", f"is {hidden}, no multiple of {heads} heads")
    head_dim = keys.integer("head_dim", 1024, default=usual or hidden // heads)
    if head_dim % 2:
        raise keys.bad("head_dim", f"is {head_dim}; rotary positions need pairs, so an even number")
    rope = _rope_parameters(keys)
    context = keys.integer("max_position_embeddings", 1 << 30)
    scaling, notes = _rope_scaling(rope, keys, context)
    return Hyperparameters(
        architecture=architecture,
        hidden=hidden,
        ffn=keys.integer("intermediate_size", 1 << 20),
        layers=keys.integer("num_hidden_layers", 1024),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        states_head_dim="head_dim" in keys or usual is not None,
        vocab_rows=keys.integer("vocab_size", 1 << 22),
        context=context,
        rms_eps=keys.number("rms_norm_eps", 0.1),
        rope_theta=(rope if "rope_theta" in rope else keys).number("rope_theta", 1e12, 10_000.0),
        rope_scaling=scaling,
        tied=keys.boolean("tie_word_embeddings"),
        without_output=keys.values["architectures"][0] in _WITHOUT_OUTPUT,
        notes=tuple(notes),
    )


def _architecture(keys: _Keys) -> str:
    names = keys.values.get("architectures")
    known = names[0] if isinstance(names, list) and len(names) == 1 else None
    if isinstance(known, str) and any(part in known.lower() for part in _ENCODERS):
        raise UnsupportedModelError(
            f"{keys.where}: {known:.60} is an encoder, and encoders are not supported; for embeddings "
            "take a decoder such as Qwen3-Embedding",
            field="architectures",
        )
    if not isinstance(known, str) or known not in {**ARCHITECTURES, **_WITHOUT_OUTPUT}:
        raise UnsupportedModelError(
            f"{keys.where}: architectures is {names!r:.120}; this version converts "
            f"{' and '.join(ARCHITECTURES)}",
            field="architectures",
        )
    if keys.values.get("quantization_config"):
        raise UnsupportedModelError(
            f"{keys.where}: the checkpoint is already quantized (quantization_config); convert the "
            "one that it was made from",
            field="quantization_config",
        )
    for key in ("use_sliding_window", "attention_bias", "mlp_bias"):
        if keys.boolean(key):
            raise UnsupportedModelError(
                f"{keys.where}: {key} is true, which this version does not run", field=key
            )
    if keys.values.get("hidden_act", "silu") != "silu":
        raise UnsupportedModelError(
            f"{keys.where}: hidden_act is {keys.values['hidden_act']!r:.60}; only silu is run",
            field="hidden_act",
        )
    _check_causal(keys, without_output=known in _WITHOUT_OUTPUT)
    return {**ARCHITECTURES, **_WITHOUT_OUTPUT}[known]


def _check_causal(keys: _Keys, *, without_output: bool) -> None:
    """Refuse what attends both ways. gte-Qwen2 says so in code of its own, to which auto_map points."""
    if keys.values.get("is_causal") is None:
        codes = keys.values.get("auto_map")
        code = codes.get("AutoModel") if isinstance(codes, dict) else None
        if code is not None and (without_output or "gte-Qwen2" in f"{code}{keys.where}"):
            raise UnsupportedModelError(
                f"{keys.where}: the model has code of its own (auto_map: {code!r:.90}), which may let "
                "each token see those after it, as gte-Qwen2's does; if it does not, say so there: "
                '"is_causal": true',
                field="auto_map",
            )
    elif not keys.boolean("is_causal"):
        raise UnsupportedModelError(
            f"{keys.where}: is_causal is false: each token of this model sees those after it, too, "
            "which is not supported; for embeddings take a causal model such as Qwen3-Embedding",
            field="is_causal",
        )


def _rope_parameters(keys: _Keys) -> _Keys:
    """``rope_scaling`` of older configurations, ``rope_parameters`` of newer ones."""
    for name in ("rope_parameters", "rope_scaling"):
        value = keys.values.get(name)
        if value is not None:
            if not isinstance(value, dict):
                raise keys.bad(name, f"is {value!r:.60}, not an object")
            return _Keys(value, f"{keys.where}: {name}")
    return _Keys({}, keys.where)


def _rope_scaling(rope: _Keys, keys: _Keys, context: int) -> tuple[RopeScaling | None, list[str]]:
    kind = rope.values.get("rope_type", rope.values.get("type", "default"))
    notes: list[str] = []
    if kind == "default":
        return None, notes
    optional: tuple[str, ...]
    match kind:
        case "linear":
            optional, original = (), None
        case "yarn":
            optional = ("extrapolation_factor", "attention_factor", "beta_fast", "beta_slow")
            name = "original_max_position_embeddings"
            original = (rope if name in rope else keys).integer(name, 1 << 30, default=context)
            if name not in rope and name not in keys:  # as transformers reads it
                notes.append(
                    f"YaRN lacks {name}: max_position_embeddings, {context:,}, takes its place"
                )
        case "llama3":
            optional = ("low_freq_factor", "high_freq_factor")
            original = rope.integer("original_max_position_embeddings", 1 << 30, default=8192)
        case _:
            raise UnsupportedModelError(
                f"{rope.where}: the type {kind!r:.60} of RoPE scaling is not supported; this version "
                "knows default, linear, yarn and llama3",
                field="rope_type",
            )
    options = {name: rope.number(name, 1e6) for name in optional if name in rope}
    return RopeScaling(kind, rope.number("factor", 1e6), original, options), notes


class _Keys:
    """Typed access to an object of config.json; every complaint names the file and the key."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None  # null counts as absent

    def bad(self, key: str, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{self.where}: {key} {problem}", field=key)

    def _get(self, key: str, default: Any) -> Any:
        if key in self:
            return self.values[key]
        if default is None:
            raise self.bad(key, "is missing; take the file of the model's page")
        return default

    def integer(self, key: str, most: int, default: int | None = None) -> int:
        value = self._get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.bad(key, f"is {value!r:.60}, not a whole number from 1 to {most:,}")
        return value

    def number(self, key: str, most: float, default: float | None = None) -> float:
        value = self._get(key, default)
        if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= most:
            raise self.bad(key, f"is {value!r:.60}, not a number above 0 and up to {most:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.bad(key, f"is {value!r:.60}, not true or false")
        return bool(value)
