"""What peft computes with adapters on random checkpoints: ``python peft_logits.py`` writes it down.

Needs torch, transformers and peft, which tests do without: they compare with tests/data/peft-logits.npz. Made
with torch 2.13.0, transformers 5.24.0 and peft 0.21.2, float32 on a CPU, attention as plain products.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))
sys.path.insert(0, str(Path(__file__).parent))
import peft_files as pf

from conftest import CheckpointFiles, random_checkpoint

RESULTS = Path(__file__).parents[1] / "data" / "peft-logits.npz"
IDS = np.random.default_rng(5).integers(0, 262, 48).tolist()
POSITIONS = [0, 1, 17, 47]  # whose logits are kept

# Architecture and sizes of the model; rank, matrices and settings of the adapter; the type of its values.
CASES: dict[str, dict[str, Any]] = {
    "qwen2": {"architecture": "qwen2", "rank": 8, "alpha": 16},
    "qwen2, some matrices": {
        "architecture": "qwen2",
        "tied": False,
        "rank": 4,
        "alpha": 4,
        "modules": ("v_proj", "down_proj"),
        "layers": (1,),
        "dtype": "BF16",
    },
    "llama, rank-stabilized": {
        "architecture": "llama",
        "rank": 16,
        "alpha": 8,
        "use_rslora": True,
        "dtype": "F16",
    },
    "qwen3, patterns": {
        "architecture": "qwen3",
        "head_dim": 64,
        "rank": 6,
        "alpha": 12,
        "alpha_pattern": {"mlp.down_proj": 3, "q_proj": 24},
        "rank_pattern": {"k_proj": 3, "self_attn.o_proj": 10},
    },
}
_OF_THE_MODEL = ("architecture", "tied", "head_dim")
_OF_THE_FACTORS = ("modules", "layers")


def checkpoint(case: str, path: Path) -> CheckpointFiles:
    """The checkpoint of one of the cases, not yet written."""
    chosen = {name: CASES[case][name] for name in _OF_THE_MODEL if name in CASES[case]}
    return random_checkpoint(path, dtype="F32", **chosen)


def adapter(case: str, path: Path) -> Path:
    """The adapter of one of the cases."""
    settings = CASES[case]
    sizes = pf.shapes(ffn=192, head_dim=settings.get("head_dim", 32))
    rank, ranks = settings["rank"], settings.get("rank_pattern", {})
    own = {name: settings[name] for name in _OF_THE_FACTORS if name in settings}
    modules = own.pop("modules", pf.ALL)
    tensors: pf.Tensors = {}
    for i, module in enumerate(modules):
        of_module = next((n for key, n in ranks.items() if key.endswith(module)), rank)
        tensors |= pf.factors(i, rank=of_module, modules=[module], sizes=sizes, **own)
    more = {
        name: value
        for name, value in settings.items()
        if name not in (*_OF_THE_MODEL, *_OF_THE_FACTORS, "rank", "dtype")
    }
    config = pf.settings(rank, target_modules=list(modules), **more)
    if "layers" in own:
        config["layers_to_transform"] = list(own["layers"])
    return pf.write_adapter(path, tensors, config, settings.get("dtype", "F32"))


def logits(model: Path, adapter: Path) -> np.ndarray:
    """By peft, at ``POSITIONS``."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager"
    )
    both = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        return np.asarray(both(torch.tensor([IDS])).logits[0].numpy()[POSITIONS])


def main() -> None:
    import tempfile

    found = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            model = checkpoint(case, Path(folder) / "model").write()
            found[case] = logits(model, adapter(case, Path(folder) / "adapter"))
    np.savez_compressed(RESULTS, **found)


if __name__ == "__main__":
    main()
