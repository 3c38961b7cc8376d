"""The whole model against an independent float64 transformer, for every shape and kind of file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Model

sys.path.insert(0, str(Path(__file__).parent))
from reference import Reference

SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tied": False},
    "one head each": {"heads": 4, "kv_heads": 4},
    "seven heads share one": {"heads": 14, "kv_heads": 2, "hidden": 448},
    "eight heads share one": {"heads": 8, "kv_heads": 1, "hidden": 256},
    "heads of 64": {"heads": 2, "kv_heads": 1},
    "heads of 128": {"heads": 2, "kv_heads": 1, "hidden": 256},
    "llama": {"architecture": "llama"},
    "llama with frequency factors": {"architecture": "llama", "rope_factors": True},
    "qwen3": {"architecture": "qwen3"},
    "qwen3, wide heads": {"architecture": "qwen3", "head_dim": 64, "tied": False},
    "qwen3, 16 heads of 128": {
        "architecture": "qwen3",
        "head_dim": 128,
        "hidden": 256,
        "heads": 16,
        "kv_heads": 8,
    },
    "qwen3 with YaRN": {"architecture": "qwen3", "rope_scaling": "yarn", "context": 256},
    "linear scaling": {"rope_scaling": "linear"},
    "YaRN": {"rope_scaling": "yarn", "context": 256},
    "F32": {"tensor_type": "F32"},
    "F16": {"tensor_type": "F16"},
    "BF16": {"tensor_type": "BF16"},
}

IDS = np.random.default_rng(7).integers(0, 300, 150).tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_mode_is_the_reference(
    make_tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    path = make_tiny_model(**SHAPES[shape])
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(path) as model:
        logits = model.logits(IDS)
    expected = Reference(path).logits(IDS)
    assert np.abs(expected).max() > 5  # otherwise the bound below would say nothing
    np.testing.assert_allclose(logits, expected, atol=2e-3)


@pytest.mark.parametrize("tensor_type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16"])
@pytest.mark.parametrize("isa", ["scalar", None])
def test_quantized_activations_stay_near_the_reference(
    make_tiny_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tensor_type: str,
    isa: str | None,
) -> None:
    if isa is not None:
        monkeypatch.setenv("PYQWEN_ISA", isa)
    path = make_tiny_model(tensor_type=tensor_type)
    with Model(path) as model:
        logits = model.logits(IDS)
    expected = Reference(path).logits(IDS)
    error = np.sqrt(np.mean((logits - expected) ** 2) / np.mean(expected**2))
    assert error < 0.05


def test_split_model_is_the_whole_one(make_tiny_model: Callable[..., Path]) -> None:
    whole, first_part = make_tiny_model(), make_tiny_model(split_max_tensors=6)
    parts = sorted(first_part.parent.glob(first_part.name.replace("-00001-", "-*-")))
    assert len(parts) > 2
    with Model(whole) as model:
        expected = model.logits(IDS)
    for part in (first_part, parts[-1]):  # any part stands for the model
        for load in ("mmap", "copy"):
            with Model(part, load=load) as model:
                assert model.logits(IDS).tobytes() == expected.tobytes()
