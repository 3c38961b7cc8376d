"""PEFT's directories for tests, written by hand: any matrices, ranks and settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODULES = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "o_proj": "self_attn.o_proj",
    "gate_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "down_proj": "mlp.down_proj",
}
ALL = tuple(MODULES)
FILE_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}

Tensors = dict[str, np.ndarray]


def shapes(
    *, hidden: int = 128, ffn: int = 256, heads: int = 4, kv_heads: int = 2, head_dim: int = 32
) -> dict[str, tuple[int, int]]:
    """Rows and columns of each module; the sizes of the tiny models of tests by default."""
    q, kv = heads * head_dim, kv_heads * head_dim
    return {
        "q_proj": (q, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, q),
        "gate_proj": (ffn, hidden),
        "up_proj": (ffn, hidden),
        "down_proj": (hidden, ffn),
    }


def factors(
    seed: int,
    *,
    rank: int = 8,
    modules: Iterable[str] = ALL,
    layers: Iterable[int] = (0, 1),
    sizes: Mapping[str, tuple[int, int]] | None = None,
    strength: float = 1.0,
) -> Tensors:
    """Random A and B by PEFT's names."""
    random = np.random.default_rng(seed)
    tensors = {}
    for layer in layers:
        for module in modules:
            rows, columns = (sizes or shapes())[module]
            name = f"base_model.model.model.layers.{layer}.{MODULES[module]}"
            a = random.normal(0, 1 / np.sqrt(columns), (rank, columns))
            b = random.normal(0, strength / np.sqrt(rank), (rows, rank))
            tensors[f"{name}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = b.astype(np.float32)
    return tensors


def settings(rank: int = 8, alpha: float = 8, **more: Any) -> dict[str, Any]:
    """adapter_config.json as PEFT writes it, as far as it matters."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "Test/Tiny",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(ALL),
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init_lora_weights": True,
        **more,
    }


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], dtype: str = "F32") -> None:
    """A safetensors file; float32 arrays are written as ``dtype``."""
    header, data = {}, b""
    for name, values in tensors.items():
        if dtype == "BF16":
            raw = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        else:
            raw = values.astype(
                {"F32": np.float32, "F16": np.float16, "I32": np.int32}[dtype]
            ).tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_adapter(
    folder: Path,
    tensors: Mapping[str, np.ndarray],
    config: Mapping[str, Any] | None = None,
    dtype: str = "F32",
) -> Path:
    """A directory of PEFT."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config or settings()))
    write_safetensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder
