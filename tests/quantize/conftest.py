"""Checkpoints for tests, written byte by byte: what Hugging Face publishes, in miniature."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules here that are no test modules

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ROWS = 320
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)


def bfloat16_bits(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32 values that are exact in bfloat16."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def safetensors_bytes(tensors: Mapping[str, tuple[str, np.ndarray]]) -> bytes:
    """A safetensors file of ``name -> (dtype, array)``; BF16 arrays hold float32 values."""
    header, data = {}, b""
    for name, (dtype, values) in tensors.items():
        raw = (bfloat16_bits(values) if dtype == "BF16" else values).tobytes()
        place = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": place}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


@dataclass
class CheckpointFiles:
    """A checkpoint to be changed by a test, then written. Values are exact in bfloat16 and float16."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    dtype: str
    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]
    generation: dict[str, Any] = field(
        default_factory=lambda: {
            "temperature": 0.7,
            "top_p": 0.8,
            "top_k": 20,
            "repetition_penalty": 1.05,
            "eos_token_id": [260, 258],
        }
    )
    dtypes: dict[str, str] = field(default_factory=dict)  # of tensors that are not of ``dtype``

    def write(self, shards: int = 1) -> Path:
        """Write all files, the tensors dealt out to ``shards`` files."""
        self.path.mkdir(exist_ok=True)
        for name, value in (
            ("config.json", self.config),
            ("tokenizer.json", self.tokenizer),
            ("tokenizer_config.json", self.tokenizer_config),
            ("generation_config.json", self.generation),
        ):
            (self.path / name).write_text(json.dumps(value), encoding="utf-8")
        names = list(self.tensors)
        index = {}
        for i in range(shards):
            file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
            if shards == 1:
                file = "model.safetensors"
            part = {name: self._stored(name) for name in names[i::shards]}
            (self.path / file).write_bytes(safetensors_bytes(part))
            index.update(dict.fromkeys(part, file))
        if shards > 1:
            self.write_index(index)
        return self.path

    def write_index(self, weight_map: dict[str, Any]) -> None:
        document = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (self.path / "model.safetensors.index.json").write_text(json.dumps(document))

    def read_index(self) -> dict[str, Any]:
        text = (self.path / "model.safetensors.index.json").read_text()
        weight_map: dict[str, Any] = json.loads(text)["weight_map"]
        return weight_map

    def _stored(self, name: str) -> tuple[str, np.ndarray]:
        dtype = self.dtypes.get(name, self.dtype)
        return dtype, self.tensors[name].astype(np.float16 if dtype == "F16" else np.float32)


MakeCheckpoint = Callable[..., CheckpointFiles]


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """``make_checkpoint(architecture="qwen2", tied=True, dtype="BF16", hidden=64, ...)``."""
    return partial(random_checkpoint, tmp_path / "checkpoint")


_CLASSES = {
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama": "LlamaForCausalLM",
}


def random_checkpoint(
    path: Path,
    *,
    architecture: str = "qwen2",
    tied: bool = True,
    dtype: str = "BF16",
    layers: int = 2,
    hidden: int = 128,
    ffn: int = 192,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    **config: Any,
) -> CheckpointFiles:
    """The files of a model with random weights, not yet written; other settings go to its config.json."""
    known = {
        "architectures": [_CLASSES[architecture]],
        "model_type": architecture,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "vocab_size": ROWS,
        "bos_token_id": 258,
        "eos_token_id": 260,
    }
    if head_dim is not None or architecture == "qwen3":
        known["head_dim"] = head_dim or hidden // heads
    head_dim = head_dim or hidden // heads
    tensors = _weights(
        architecture, tied, layers, hidden, ffn, heads * head_dim, kv_heads, head_dim
    )
    return CheckpointFiles(path, {**known, **config}, tensors, dtype, _tokenizer(), _settings())


def _weights(
    architecture: str,
    tied: bool,
    layers: int,
    hidden: int,
    ffn: int,
    q: int,
    kv_heads: int,
    head_dim: int,
) -> dict[str, np.ndarray]:
    random = np.random.default_rng(11)

    def values(*shape: int, center: float = 0.0, spread: float = 1.0) -> np.ndarray:
        drawn = random.normal(center, spread, shape).astype(np.float32)
        return np.round(drawn * 64) / 64 if np.abs(drawn).max() < 4 else np.round(drawn * 32) / 32

    kv = kv_heads * head_dim
    tensors = {"model.embed_tokens.weight": values(ROWS, hidden, spread=0.5)}
    for i in range(layers):
        block = f"model.layers.{i}."
        for name, rows, columns in (
            ("self_attn.q_proj", q, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, q),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ):
            tensors[f"{block}{name}.weight"] = values(rows, columns, spread=0.15)
            if architecture == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                tensors[f"{block}{name}.bias"] = values(rows, spread=0.3)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{block}{name}.weight"] = values(hidden, center=1.0, spread=0.1)
        if architecture == "qwen3":
            for name in ("q_norm", "k_norm"):
                tensors[f"{block}self_attn.{name}.weight"] = values(
                    head_dim, center=2.0, spread=0.5
                )
    tensors["model.norm.weight"] = values(hidden, center=1.0, spread=0.1)
    if not tied:
        tensors["lm_head.weight"] = values(ROWS, hidden, spread=0.5)
    # float32 with 8 significant bits is bfloat16; |x| < 4 with steps of 1/64 has at most 8.
    return {
        name: (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        for name, x in tensors.items()
    }


def _tokenizer() -> dict[str, Any]:
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(letters)}
    added = [
        {
            "id": 258 + i,
            "content": text,
            "special": i < 3,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for i, text in enumerate(ADDED)
    ]
    vocab.update({"th": 256, "the": 257})
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": QWEN2_SPLIT},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": False,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e"]},
    }


def _settings() -> dict[str, Any]:
    return {
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": {"content": "<|endoftext|>"},
        "chat_template": TEMPLATE,
        "tokenizer_class": "Qwen2Tokenizer",
    }
