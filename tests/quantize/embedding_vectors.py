"""What sentence-transformers makes of random checkpoints: ``python embedding_vectors.py`` writes it down.

Needs torch, transformers and sentence-transformers, which tests do without: they compare with
tests/data/embeddings.npz. Made with torch 2.13.0, transformers 5.24.0 and sentence-transformers 6.2.0, in
float32 on a CPU, attention as plain products ("eager").
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from conftest import CheckpointFiles, random_checkpoint

RESULTS = Path(__file__).parents[1] / "data" / "embeddings.npz"
TEXTS = ["the theory of the thing", "Ünïcode 中文", "a", "def the(x):\n    return x * 2\n" * 6]
QUERY = "Instruct: Find the text\nQuery:"
DIMENSIONS = 24

SHAPES: dict[str, dict[str, Any]] = {
    # As Qwen publishes Qwen3-Embedding: the last state, which is that of <|endoftext|>.
    "last": {"architecture": "qwen3", "hidden": 128, "heads": 4, "kv_heads": 2, "head_dim": 64},
    # As sentence-transformers saves a model that somebody trained: the bare class, the mean of the states.
    "mean": {"architecture": "qwen2", "hidden": 96, "heads": 3, "kv_heads": 1},
    "cls": {"architecture": "qwen3", "hidden": 64, "heads": 2, "kv_heads": 1, "head_dim": 32},
}
_FLAGS = {"last": "lasttoken", "mean": "mean_tokens", "cls": "cls_token"}
_STRONG = ("q_norm.weight", "k_norm.weight", "o_proj.weight", "down_proj.weight")
MODULES = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]


def checkpoint(pooling: str, path: Path, **config: Any) -> Path:
    """A checkpoint in the layout of sentence-transformers, with the pooling of one of the shapes."""
    files = random_checkpoint(path, dtype="F32", **{**SHAPES[pooling], **config})
    files.tensors = {name.removeprefix("model."): t for name, t in files.tensors.items()}
    for name in files.tensors:
        if name.endswith(_STRONG):
            # Nearer to trained models: attention that is sharper, and layers that change more, make much of
            # the smallest rounding.
            files.tensors[name] /= 2
    files.tokenizer_config["pad_token"] = "<|endoftext|>"
    if pooling == "last":
        end_texts(files)
    else:
        kind = files.config["architectures"][0].removesuffix("ForCausalLM")
        files.config["architectures"] = [f"{kind}Model"]
    files.write()
    write_modules(path, pooling)
    return path


def end_texts(files: CheckpointFiles) -> None:
    """Have the tokenizer end each text with ``<|endoftext|>``, though its end is ``<|im_end|>``."""
    special = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [first, special],
        "pair": [first, special, second, special],
        "special_tokens": {
            "<|endoftext|>": {"id": "<|endoftext|>", "ids": [258], "tokens": ["<|endoftext|>"]}
        },
    }
    steps = [files.tokenizer["post_processor"], template]
    files.tokenizer["post_processor"] = {"type": "Sequence", "processors": steps}


def write_modules(path: Path, pooling: str, modules: list[tuple[str, str]] = MODULES) -> None:
    """The files that sentence-transformers adds to a checkpoint."""
    listed = [
        {"idx": i, "name": str(i), "path": name, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, name) in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(listed))
    prompts = {"query": QUERY, "document": ""}
    settings = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (path / "1_Pooling").mkdir(exist_ok=True)
    modes = (*_FLAGS.values(), "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
    flags: dict[str, Any] = {f"pooling_mode_{mode}": mode == _FLAGS[pooling] for mode in modes}
    flags |= {"word_embedding_dimension": 128, "include_prompt": True}
    (path / "1_Pooling" / "config.json").write_text(json.dumps(flags))


def vectors(path: Path) -> dict[str, np.ndarray]:
    """The vectors of all texts, by what is asked of them, as float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model = SentenceTransformer(str(path), device="cpu", model_kwargs=options)
    found = {}
    for what, asked in (
        ("plain", {}),
        ("query", {"prompt_name": "query"}),
        ("short", {"truncate_dim": DIMENSIONS, "normalize_embeddings": True}),
    ):
        # One by one: those that stand beside each other are padded.
        rows = [model.encode(text, show_progress_bar=False, **asked) for text in TEXTS]
        found[what] = np.stack(rows).astype(np.float32)
    return found


def main() -> None:
    import tempfile

    results = {}
    for pooling in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            for what, rows in vectors(checkpoint(pooling, Path(folder) / "model")).items():
                results[f"{pooling} {what}"] = rows
    np.savez_compressed(RESULTS, **results)


if __name__ == "__main__":
    main()
