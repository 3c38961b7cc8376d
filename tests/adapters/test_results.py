"""What adapters compute: the dense sum W + scale B A, by the float64 transformer of tests/model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft_files as pf
import pytest

from pyqwen import Model

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from reference import Reference

IDS = np.random.default_rng(7).integers(0, 300, 60).tolist()


def dense(
    reference: Reference, tensors: pf.Tensors, scale: float, rotary: int = 0, factor: float = 1.0
) -> Reference:
    """Add an adapter to the matrices of a reference; ``rotary``: the file has rows of heads in pairs."""
    for name, a in tensors.items():
        if not name.endswith("lora_A.weight"):
            continue
        b = tensors[name.replace("lora_A", "lora_B")].astype(np.float64)
        layer, _, module = name.split(".")[4], *name.split(".")[5:7]
        if rotary and module in ("q_proj", "k_proj"):
            b = b.reshape(-1, 2, rotary // 2, b.shape[1]).swapaxes(1, 2).reshape(b.shape)
        matrix = reference._tensors[f"blk.{layer}.{pf.FILE_NAMES[module]}.weight"]
        matrix += factor * scale * (b @ a.astype(np.float64))
    return reference


@pytest.mark.parametrize(
    ("shape", "tensor_type", "rank"),
    [
        ({}, "F32", 1),
        ({}, "Q8_0", 16),
        ({"architecture": "llama"}, "Q8_0", 5),
        ({"architecture": "qwen3", "head_dim": 64}, "F16", 8),
    ],
    ids=["one", "qwen2", "llama", "qwen3"],
)
def test_exact_mode_is_the_dense_sum(
    make_tiny_model: Any,
    write_adapter: Any,
    monkeypatch: pytest.MonkeyPatch,
    shape: dict[str, Any],
    tensor_type: str,
    rank: int,
) -> None:
    path = make_tiny_model(tensor_type=tensor_type, **shape)
    sizes = pf.shapes(head_dim=shape.get("head_dim", 32))
    tensors = pf.factors(5, rank=rank, sizes=sizes)
    adapter = write_adapter(tensors, pf.settings(rank, alpha=3 * rank))
    rotary = 32 if shape.get("architecture") == "llama" else 0
    expected = dense(Reference(path), tensors, 3.0, rotary).logits(IDS)
    plain = Reference(path).logits(IDS)
    assert np.abs(expected - plain).max() > 5  # otherwise the bound below would say nothing
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(path, adapters={"a": adapter}, threads=1) as model:
        np.testing.assert_allclose(model.logits(IDS, adapter="a"), expected, atol=3e-3)
        np.testing.assert_allclose(model.logits(IDS), plain, atol=3e-3)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_normal_mode_stays_near_it(tiny_model_path: Path, write_adapter: Any, dtype: str) -> None:
    tensors = pf.factors(6)
    adapter = write_adapter(tensors, dtype=dtype)
    expected = dense(Reference(tiny_model_path), tensors, 1.0).logits(IDS)
    with Model(tiny_model_path, adapters={"a": adapter}, threads=1) as model:
        logits = model.logits(IDS, adapter="a")
    error = np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2))
    assert error < 0.05


def test_several_add_up(
    tiny_model_path: Path, adapter_paths: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    one, two = pf.factors(1), pf.factors(4, modules=("gate_proj", "up_proj"))
    reference = dense(Reference(tiny_model_path), one, 1.0, factor=0.5)
    expected = dense(reference, two, 0.5, factor=-2.0).logits(IDS)
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(tiny_model_path, adapters=adapter_paths, threads=1) as model:
        logits = model.logits(IDS, adapter={"feed": -2, "all": 0.5})
    np.testing.assert_allclose(logits, expected, atol=3e-3)


@pytest.mark.parametrize(
    ("more", "scales"),
    [
        ({"use_rslora": True}, {"q_proj": 12 / 2, "down_proj": 12 / 2}),
        ({"alpha_pattern": {"down_proj": 2}}, {"q_proj": 12 / 4, "down_proj": 2 / 4}),
        ({"alpha_pattern": {"mlp.down_proj": 2.0}}, {"q_proj": 12 / 4, "down_proj": 2 / 4}),
        ({"alpha_pattern": {"own_proj": 2}}, {"q_proj": 12 / 4, "down_proj": 12 / 4}),
        ({"rank_pattern": {"q_proj": 9}, "r": 4}, {"q_proj": 12 / 4, "down_proj": 12 / 4}),
        ({"lora_alpha": 0}, {"q_proj": 0.0, "down_proj": 0.0}),
    ],
    ids=str,
)
def test_scales(tiny_model_path: Path, write_adapter: Any, more: Any, scales: Any) -> None:
    from pyqwen._native import read_config
    from pyqwen.loading.adapters.base_model import BaseModel
    from pyqwen.loading.adapters.open_adapter import open_adapter
    from pyqwen.loading.gguf_file import GGUFFile

    tensors = pf.factors(1, rank=4, modules=scales)
    path = write_adapter(tensors, pf.settings(4, alpha=12) | more)
    with (
        GGUFFile(tiny_model_path) as file,
        open_adapter(path, BaseModel(read_config(file.handle))) as opened,
    ):
        found = {t.matrix.name.split(".")[2]: t.scale for t in opened.tensors}
    assert found == pytest.approx({pf.FILE_NAMES[name]: scale for name, scale in scales.items()})


def test_values_beyond_float16_are_kept(tiny_model_path: Path, write_adapter: Any) -> None:
    """A is tiny and B is huge, or the other way round: what they add is the same."""
    tensors = pf.factors(8, rank=4)
    found = []
    for shift in (0, 40, -40):
        scaled = {
            name: values * np.float32(2.0) ** (shift if "lora_A" in name else -shift)
            for name, values in tensors.items()
        }
        path = write_adapter(scaled, pf.settings(4, 4))
        with Model(tiny_model_path, adapters={"a": path}, threads=1) as model:
            found.append(model.logits(IDS, adapter="a").tobytes())
    assert found[0] == found[1] == found[2]
