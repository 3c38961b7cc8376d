"""What is converted: the values, the keys, and that the model computes what the checkpoint says."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import CancelledError
from pyqwen.quantize import convert

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from reference import Reference

IDS = np.random.default_rng(3).integers(0, 262, 40).tolist()


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys and tensors of a GGUF file, by name."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


def huggingface_logits(files: Any, ids: list[int]) -> np.ndarray:
    """The transformer by Hugging Face's conventions, from the checkpoint itself, in float64.

    Shares the blocks of ``Reference``; what conversion changes is undone here by other means: halves
    of a head are rotated against each other in both architectures.
    """

    class FromCheckpoint(Reference):
        def __init__(self) -> None:
            names = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
            parts = {
                "input_layernorm": "attn_norm",
                "post_attention_layernorm": "ffn_norm",
                "q_proj": "attn_q",
                "k_proj": "attn_k",
                "v_proj": "attn_v",
                "o_proj": "attn_output",
                "gate_proj": "ffn_gate",
                "up_proj": "ffn_up",
                "down_proj": "ffn_down",
            }
            self._tensors = {}
            for name, values in files.tensors.items():
                words = name.removeprefix("model.").split(".")
                ours = names.get(words[0]) or f"blk.{words[1]}.{parts[words[-2]]}"
                self._tensors[f"{ours}.{words[-1]}"] = values.astype(np.float64)
            config = files.config
            self._architecture = "qwen2"  # the order of the rotation
            self._keys = {
                "qwen2.block_count": config["num_hidden_layers"],
                "qwen2.attention.head_count": config["num_attention_heads"],
                "qwen2.attention.head_count_kv": config["num_key_value_heads"],
                "qwen2.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
                "qwen2.rope.freq_base": config["rope_theta"],
            }

    return FromCheckpoint().logits(ids)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_the_model_computes_what_the_checkpoint_says(
    make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, tied: bool
) -> None:
    files = make_checkpoint(architecture=architecture, tied=tied)
    out = tmp_path / "model.gguf"
    convert(files.write(), out)
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(out, threads=1) as model:
        ours = model.logits(IDS)
    expected = huggingface_logits(files, IDS)
    assert np.abs(ours - expected).max() < 2e-4 * np.abs(expected).max()


def test_llama3_frequency_factors(make_checkpoint, tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    files = make_checkpoint(architecture="llama", rope_scaling=scaling)
    out = tmp_path / "model.gguf"
    convert(files.write(), out)
    factors = read(out)[1]["rope_freqs.weight"].data
    # Waves of 2 pi 10000^(i/16) positions: up to 64 they are kept, beyond 256 stretched by 8.
    assert factors.shape == (16,)
    assert (factors[:5] == 1.0).all()
    assert (factors[7:] == 8.0).all()
    smooth = (256 / (2 * np.pi * 10000 ** (6 / 16)) - 1) / 3
    assert factors[6] == pytest.approx(1 / ((1 - smooth) / 8 + smooth), rel=1e-6)
    with Model(out, threads=1) as model:
        assert np.isfinite(model.logits(IDS)).all()


@pytest.mark.parametrize(
    ("dtype", "outtype", "matrix", "file_type"),
    [
        ("BF16", "auto", "BF16", 32),
        ("F16", "auto", "F16", 1),
        ("F32", "auto", "F32", 0),
        ("BF16", "f16", "F16", 1),
        ("F32", "bf16", "BF16", 32),
        ("BF16", "f32", "F32", 0),
        ("F16", "q8_0", "Q8_0", 7),
    ],
)
def test_types_and_values(
    make_checkpoint, tmp_path: Path, dtype: str, outtype: str, matrix: str, file_type: int
) -> None:
    files = make_checkpoint(dtype=dtype)
    done = convert(files.write(), tmp_path / "model.gguf", outtype)
    keys, tensors = read(done.path)
    assert keys["general.file_type"] == file_type
    for converted in done.tensors:
        tensor = tensors[converted.name]
        wanted = "F32" if len(converted.shape) == 1 else matrix
        assert (converted.type, tensor.tensor_type.name) == (wanted, wanted)
        assert tuple(reversed(tensor.shape.tolist())) == converted.shape
        values = files.tensors[converted.source]
        kind = gguf.GGMLQuantizationType[wanted]
        expected = gguf.quants.quantize(values.astype(np.float32), kind)
        assert np.array_equal(tensor.data.view(np.uint8).ravel(), expected.view(np.uint8).ravel())
    assert done.file_bytes == done.path.stat().st_size
    assert done.parameters == sum(v.size for v in files.tensors.values())


def test_keys(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint()
    path = files.write().rename(tmp_path / "Tiny-Qwen2.5-Instruct")
    (path / "README.md").write_text("---\nlicense: apache-2.0\nlanguage:\n- en\n---\n# Tiny\n")
    convert(path, tmp_path / "model.gguf")
    keys, _ = read(tmp_path / "model.gguf")
    expected = {
        "general.architecture": "qwen2",
        "general.type": "model",
        "general.license": "apache-2.0",
        "general.finetune": "Instruct",
        "general.languages": ["en"],
        "general.sampling.top_k": 20,
        "general.sampling.top_p": pytest.approx(0.8),
        "general.sampling.temp": pytest.approx(0.7),
        "general.sampling.penalty_repeat": pytest.approx(1.05),
        "general.quantization_version": 2,
        "qwen2.block_count": 2,
        "qwen2.context_length": 512,
        "qwen2.embedding_length": 128,
        "qwen2.feed_forward_length": 192,
        "qwen2.attention.head_count": 4,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.rope.freq_base": 10000.0,
        "qwen2.attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.eos_token_id": 260,
        "tokenizer.ggml.padding_token_id": 258,
        "tokenizer.ggml.bos_token_id": 258,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.merges": ["t h", "th e"],
    }
    assert {key: keys.get(key) for key in expected} == expected
    assert keys["tokenizer.chat_template"] == files.tokenizer_config["chat_template"]


def test_yarn_keys(make_checkpoint, tmp_path: Path) -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    convert(make_checkpoint(rope_scaling=scaling).write(), tmp_path / "model.gguf")
    keys, _ = read(tmp_path / "model.gguf")
    assert keys["qwen2.rope.scaling.type"] == "yarn"
    assert keys["qwen2.rope.scaling.factor"] == 4.0
    assert keys["qwen2.rope.scaling.original_context_length"] == 128


def test_shards_and_one_file_give_the_same_bytes(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(tied=False)
    one = convert(files.write(), tmp_path / "one.gguf").path.read_bytes()
    (files.path / "model.safetensors").unlink()
    many = convert(files.write(shards=3), tmp_path / "many.gguf").path.read_bytes()
    assert one == many


def test_slices_do_not_change_the_bytes(
    make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint(architecture="llama").write()
    whole = convert(path, tmp_path / "whole.gguf", "q8_0").path.read_bytes()
    monkeypatch.setattr(
        "pyqwen.quantize.source.model_source.SLICE_ELEMENTS", 384
    )  # 3 rows; heads have 32
    sliced = convert(path, tmp_path / "sliced.gguf", "q8_0").path.read_bytes()
    assert whole == sliced


def test_a_second_copy_of_the_embedding_is_dropped(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(tied=True)
    files.tensors["lm_head.weight"] = files.tensors["model.embed_tokens.weight"]
    done = convert(files.write(), tmp_path / "model.gguf")
    assert "output.weight" not in read(done.path)[1]
    assert any("lm_head.weight" in note for note in done.notes)


def test_stored_rotary_constants_are_ignored(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(architecture="llama")
    files.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    convert(files.write(), tmp_path / "model.gguf")
    assert not [name for name in read(tmp_path / "model.gguf")[1] if "inv_freq" in name]


def test_memory_does_not_grow_with_the_model(make_checkpoint, tmp_path: Path) -> None:
    import tracemalloc

    def peak(layers: int) -> int:
        path = make_checkpoint(layers=layers, hidden=192, heads=6, ffn=384).write()
        tracemalloc.start()
        try:
            convert(path, tmp_path / "model.gguf", "f16")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # imports
    # The better of two each: what other threads and the collector do meanwhile counts, too.
    small, large = (min(peak(layers), peak(layers)) for layers in (2, 8))
    more_weights = 6 * (3 * 192 * 384 + 3 * 192 * 192) * 2  # bytes
    assert large - small < more_weights / 20


def test_progress_ends_at_the_total(make_checkpoint, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    convert(
        make_checkpoint().write(), tmp_path / "model.gguf", progress=lambda *at: seen.append(at)
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_cancel(make_checkpoint, tmp_path: Path) -> None:
    out = tmp_path / "model.gguf"
    out.write_bytes(b"old")
    cancel = threading.Event()
    with pytest.raises(CancelledError):
        convert(make_checkpoint().write(), out, progress=lambda *_: cancel.set(), cancel=cancel)
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model.gguf"]
