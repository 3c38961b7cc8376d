"""The hyperparameters of a model, as its file gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of a transformer.

    ``context`` is the length it was trained for. ``vocab`` tokens are in the vocabulary, of which the
    first ``real_tokens`` can be written and the rest is padding; the output matrix has
    ``vocab_rows``. ``rope_neox``: rotary embedding of halves (else of neighboring pairs).
    """

    architecture: str
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_dim: int
    context: int
    vocab: int
    vocab_rows: int
    real_tokens: int
    tied: bool
    rope_neox: bool
    rope_base: float
    rope_scale_factor: float
    yarn: bool
    yarn_original_context: int
    norm_eps: float

    @classmethod
    def from_native(cls, values: Mapping[str, Any]) -> Self:
        """Make it from ``_native.read_config`` or ``ModelHandle.config``."""
        flags = {"tied", "rope_neox", "yarn"}
        config: dict[str, Any] = {
            f.name: bool(values[f.name]) if f.name in flags else values[f.name] for f in fields(cls)
        }
        return cls(**config)
