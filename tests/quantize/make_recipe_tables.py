"""Makes data/recipes.json: the types that llama-quantize chooses, which tests compare with ours.

    python make_recipe_tables.py PATH/TO/llama-quantize

The models have headers of real sizes and no weights (their files are holes): a dry run reads none.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

import gguf
import numpy as np

from pyqwen.quantize import RECIPES, ImportanceMatrix, write_imatrix

HERE = Path(__file__).parent
TABLES = HERE / "data" / "recipes.json"
# architecture, hidden, ffn, layers, heads, kv_heads, rows of the vocabulary, tied
GEOMETRIES: dict[str, tuple[str, int, int, int, int, int, int, bool]] = {
    "tiny": ("qwen2", 256, 768, 2, 4, 2, 151936, True),
    "tiny-untied": ("qwen2", 256, 768, 2, 4, 2, 152064, False),
    "qwen2.5-0.5b": ("qwen2", 896, 4864, 24, 14, 2, 151936, True),
    "qwen2.5-1.5b": ("qwen2", 1536, 8960, 28, 12, 2, 151936, True),
    "qwen2.5-3b": ("qwen2", 2048, 11008, 36, 16, 2, 151936, True),
    "qwen2.5-7b": ("qwen2", 3584, 18944, 28, 28, 4, 152064, False),
    "qwen2.5-72b": ("qwen2", 8192, 29568, 80, 64, 8, 152064, False),
    "smollm2-135m": ("llama", 576, 1536, 30, 9, 3, 49152, True),
    "llama-7b": ("llama", 4096, 11008, 32, 32, 32, 32000, False),
    "llama-65b": ("llama", 8192, 22016, 80, 64, 64, 32000, False),
    "odd rows": ("llama", 144, 208, 9, 3, 3, 320, False),
}


def tensor_shapes(geometry: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors, in the order of its file."""
    architecture, hidden, ffn, layers, heads, kv_heads, rows, tied = GEOMETRIES[geometry]
    kv = hidden // heads * kv_heads
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, hidden)}
    for i in range(layers):
        layer: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (hidden,),
            "attn_q.weight": (hidden, hidden),
            "attn_k.weight": (kv, hidden),
            "attn_v.weight": (kv, hidden),
            "attn_output.weight": (hidden, hidden),
            "ffn_norm.weight": (hidden,),
            "ffn_gate.weight": (ffn, hidden),
            "ffn_up.weight": (ffn, hidden),
            "ffn_down.weight": (hidden, ffn),
        }
        if architecture == "qwen2":
            layer |= {"attn_q.bias": (hidden,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    shapes["output_norm.weight"] = (hidden,)
    if not tied:
        shapes["output.weight"] = (rows, hidden)
    return shapes


def write_hollow_model(geometry: str, path: Path) -> None:
    architecture, hidden, ffn, layers, heads, kv_heads, rows, _ = GEOMETRIES[geometry]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(rows)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    total = 0
    for name, shape in tensor_shapes(geometry).items():
        kind = gguf.GGMLQuantizationType.F32 if len(shape) == 1 else gguf.GGMLQuantizationType.BF16
        n_bytes = int(np.prod(shape)) * (4 if len(shape) == 1 else 2)
        writer.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)
        total += -(-n_bytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(-(-size // 32) * 32 + total)


_LINE = re.compile(r"\] +(\S+) +- \[.*type = +(\w+), size = [ \d.]+MiB(?: -> .*\((\w+)\))?")


def llama_types(program: str, model: Path, recipe: str, *options: str) -> dict[str, str]:
    done = subprocess.run(
        [program, *options, "--dry-run", model, recipe],
        capture_output=True,
        text=True,
        check=True,
    )
    found = _LINE.findall(done.stdout + done.stderr)
    return {name: (after or before).upper() for name, before, after in found}


def pack(types: dict[str, str]) -> str:
    """Types of matrices by kind of tensor, layer by layer: ``"attn_v.weight 4 Q6_K 24 Q4_K; ..."``.

    Kinds that are all of the type in front are left out.
    """
    kinds: dict[str, list[str]] = {}
    for name, kind in types.items():
        if name.endswith(".weight") and "norm" not in name:
            kinds.setdefault(re.sub(r"^blk\.\d+\.", "", name), []).append(kind)
    rest = kinds["attn_q.weight"][0]
    packed = [rest]
    for name, sequence in sorted(kinds.items()):
        runs = [f"{len(list(same))} {kind}" for kind, same in groupby(sequence)]
        if runs != [f"{len(sequence)} {rest}"]:
            packed.append(f"{name} {' '.join(runs)}")
    return "; ".join(packed)


def main() -> None:
    program = sys.argv[1]
    tables: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        model, matrix = Path(folder) / "model.gguf", Path(folder) / "imatrix.gguf"
        values = {"blk.0.ffn_down.weight": np.ones(32, np.float32)}
        write_imatrix(matrix, ImportanceMatrix(values, dict.fromkeys(values, 1), 1, 512, ()))
        for geometry in GEOMETRIES:
            write_hollow_model(geometry, model)
            table = tables[geometry] = {}
            for recipe in RECIPES:
                for how, options in ((recipe, ()), (f"{recipe} weighted", ("--imatrix", matrix))):
                    types = llama_types(program, model, recipe, *map(str, options))
                    assert types.keys() == tensor_shapes(geometry).keys()
                    table[how] = pack(types)
    TABLES.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
