"""What transformers computes for random Qwen3 checkpoints: ``python qwen3_logits.py`` writes it down.

Needs torch and transformers, which tests do without: they compare with tests/data/qwen3-logits.npz. Made with
torch 2.13.0 and transformers 5.24.0, float32 on a CPU, attention as plain products ("eager").
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from conftest import CheckpointFiles, random_checkpoint

RESULTS = Path(__file__).parents[1] / "data" / "qwen3-logits.npz"
IDS = np.random.default_rng(5).integers(0, 262, 48).tolist()
POSITIONS = [0, 1, 17, 47]  # whose logits are kept

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SHAPES: dict[str, dict[str, Any]] = {
    "tied": {"hidden": 64, "heads": 4, "kv_heads": 2, "head_dim": 32},
    "untied": {"hidden": 96, "heads": 6, "kv_heads": 2, "head_dim": 64, "tied": False},
    "16 heads of 128": {"hidden": 128, "heads": 16, "kv_heads": 8, "head_dim": 128, "layers": 1},
    "no groups": {"hidden": 64, "kv_heads": 4, "head_dim": 32, "rope_theta": 5e6, "layers": 3},
    "YaRN": {"hidden": 64, "kv_heads": 1, "head_dim": 64, "rope_scaling": YARN},
}


def checkpoint(shape: str, path: Path) -> CheckpointFiles:
    """The checkpoint of one of the shapes, not yet written."""
    settings = {"attention_bias": False, "use_sliding_window": False, "sliding_window": None}
    return random_checkpoint(path, architecture="qwen3", dtype="F32", **settings, **SHAPES[shape])


def _logits(path: Path) -> np.ndarray:
    import torch
    from transformers import Qwen3ForCausalLM

    model = Qwen3ForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        return np.asarray(model(torch.tensor([IDS])).logits[0].numpy()[POSITIONS])


def main() -> None:
    import tempfile

    found = {}
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            found[shape] = _logits(checkpoint(shape, Path(folder) / "model").write())
    np.savez_compressed(RESULTS, **found)


if __name__ == "__main__":
    main()
