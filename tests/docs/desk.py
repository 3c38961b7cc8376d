"""A folder in which the examples of the documentation work: models under the names that they use, texts.

The models are tiny, or one trained model for all names.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyqwen import inspect
from pyqwen.catalog.known_models import entry_named
from pyqwen.quantize import convert, quantize

TEXT = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")[:6000]
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
NAMES = (
    "qwen2.5-coder-1.5b",
    "qwen2.5-coder-0.5b",
    "qwen2.5-0.5b",
    "qwen3-4b",
    "qwen3-embedding-0.6b",
)
"""The names of the catalog that examples use."""

_END_SCALE = 5.0


def lay_out(folder: Path, model: Path, thinking: Path) -> dict[str, str]:
    """Fill ``folder``; ``model`` answers to all names but Qwen3's. Returns what the environment needs."""
    _place(folder / "model.gguf", model)
    for name in ("notes.txt", "text.txt", "unseen.txt", "calibration.txt"):
        (folder / name).write_text(TEXT, encoding="utf-8")
    (folder / "lines.txt").write_text("One line.\nAnother line.\n", encoding="utf-8")
    (folder / "city.json").write_text(json.dumps(CITY), encoding="utf-8")
    messages = [{"role": "user", "content": "Hello!"}]
    (folder / "messages.json").write_text(json.dumps(messages), encoding="utf-8")
    checkpoint = (
        _helper("quantize/conftest.py").random_checkpoint(folder / "Qwen2.5-0.5B-Instruct").write()
    )
    convert(checkpoint, folder / "qwen2.5-0.5b.gguf")
    quantize(checkpoint, folder / "qwen2.5-0.5b-q4_k_m.gguf", "Q4_K_M", threads=1)
    _write_adapter(folder / "my-adapter", model)
    convert(folder / "my-adapter", folder / "other.gguf", base=model)
    _write_adapter(folder / "our-adapter", folder / "qwen2.5-0.5b.gguf")
    rows = [
        {
            "custom_id": str(i),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": messages, "max_tokens": 8, "seed": i},
        }
        for i in range(3)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "requests.jsonl").write_text(text, encoding="utf-8")
    hub = folder / "hub"
    for name in NAMES:
        file = thinking if name == "qwen3-4b" else model
        entry = entry_named(name)
        assert entry is not None
        repo = hub / f"models--{entry.repo.replace('/', '--')}"
        snapshot = repo / "snapshots" / "c0"
        snapshot.mkdir(parents=True)
        _place(snapshot / f"{name}-instruct-{entry.default_quant.lower()}.gguf", file)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text("c0")
    return {
        "PYQWEN_CACHE": str(folder / "cache"),
        "HF_HUB_CACHE": str(hub),
        "HF_HUB_OFFLINE": "1",
    }


def _place(at: Path, model: Path) -> None:
    try:
        at.symlink_to(model)
    except OSError:  # Windows allows links to some users only
        shutil.copyfile(model, at)


def _helper(file: str) -> Any:
    """A module of other tests, by its path: every folder has a conftest."""
    path = Path(__file__).parents[1] / file
    spec = importlib.util.spec_from_file_location(f"documentation_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


def _write_adapter(folder: Path, model: Path) -> None:
    """A weak adapter for the first layers of a model, at random."""
    config = inspect(model).config
    assert config is not None
    files = _helper("adapters/peft_files.py")
    sizes = files.shapes(
        hidden=config.hidden,
        ffn=config.ffn,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
    )
    files.write_adapter(folder, files.factors(0, sizes=sizes, strength=0.01))


def talkative_no_more(path: Path, out: Path) -> Path:
    """Copy a tiny model of type Q8_0 whose answers end soon: the row of its end token is made larger.

    A tiny model writes at random and would fill the context. The logit of a row that is some times as
    long as others is the largest, or far from it, every few tokens.
    """
    import gguf

    out.write_bytes(path.read_bytes())
    reader = gguf.GGUFReader(out, "r+")
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    (embedding,) = [t for t in reader.tensors if t.name == "token_embd.weight"]
    row: Any = embedding.data[tokens.index("<|im_end|>")].reshape(-1, 34)
    scales = row[:, :2].copy().view(np.float16) * np.float16(_END_SCALE)
    row[:, :2] = scales.view(np.uint8)
    reader.data.flush()
    return out


def tiny_models(make_tiny_model: Callable[..., Path], folder: Path) -> tuple[Path, Path]:
    """A model that fills in the middle, and one that thinks; both say little."""
    roles = {
        f"tokenizer.ggml.fim_{role}_token_id": i
        for i, role in enumerate(["pre", "suf", "mid", "sep"])
    }
    plain = make_tiny_model(context=8192, metadata=roles)
    thinks = make_tiny_model(architecture="qwen3", context=8192)
    return (
        talkative_no_more(plain, folder / "plain.gguf"),
        talkative_no_more(thinks, folder / "thinks.gguf"),
    )
