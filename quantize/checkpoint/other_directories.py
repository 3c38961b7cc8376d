"""Directories that are no checkpoint: what is in them instead, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyqwen.catalog.names import parse_name
from pyqwen.errors import (
    ModelFileError,
    ModelFormatError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from pyqwen.loading.json_file import read_json_object

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_SHOWN = 4  # names of files in a message


def no_directory(path: Path) -> ModelFileError:
    """The error for a path or name that is no directory."""
    is_gguf = path.suffix.lower() == ".gguf"
    if path.exists():
        advice = (
            f"it is converted already, and pyqwen quantize {path} OUT.gguf TYPE makes it smaller"
            if is_gguf
            else "a checkpoint is a directory with config.json, the tokenizer and *.safetensors"
        )
        return ModelFormatError(f"{path} is a file; {advice}")
    ref = None if is_gguf else parse_name(str(path))
    if ref is None:
        return ModelNotFoundError(f"{path}: no such directory")
    if ref.entry is None and not ref.repo.lower().endswith("gguf"):
        return ModelNotFoundError(
            f"{path}: no such directory; to fetch that checkpoint from the Hugging Face hub, run: "
            f"hf download {ref.repo} --local-dir {ref.repo.split('/')[-1]}"
        )
    return UnsupportedModelError(
        f"{ref.name} is a model that pyqwen pull {ref.name} fetches, as GGUF: it needs no conversion; "
        f"pyqwen quantize {ref.name} OUT.gguf TYPE makes it smaller"
    )


def without_configuration(path: Path) -> ModelFileError:
    """The error for a directory without config.json."""
    if (path / "adapter_config.json").is_file():
        return adapter(path)
    if files := _names(path, "*.gguf"):
        return UnsupportedModelError(
            f"{path} holds GGUF files ({_some(files)}), no checkpoint; they are converted already: "
            f"name one of them, as in pyqwen quantize {path / files[0]} OUT.gguf TYPE"
        )
    if (path / "params.json").is_file():
        return UnsupportedModelError(
            f"{path} holds a model in Meta's own format (params.json); convert the version for "
            "transformers, with config.json and *.safetensors"
        )
    if (path / "model_index.json").is_file():
        return UnsupportedModelError(
            f"{path} holds a diffusers pipeline (model_index.json), not one language model"
        )
    inner = [file.parent for pattern in ("*", "snapshots/*") for file in _below(path, pattern)]
    if inner:
        return ModelFormatError(
            f"{path} has no config.json, but {inner[0]} has one: name that directory"
        )
    weights = _names(path, "*.safetensors")
    if weights:
        return ModelNotFoundError(
            f"{path} holds weights ({_some(weights)}), but no config.json; put the model's "
            "config.json and tokenizer beside them"
        )
    found = _names(path, "*")
    what = f"it holds {_some(found)}" if found else "it is empty"
    return ModelNotFoundError(
        f"{path} has no config.json, so it is no checkpoint: {what}; is this the right directory?"
    )


def without_weights(path: Path) -> ModelFileError:
    """The error for a directory with config.json and no weights that can be read."""
    if (path / "adapter_config.json").is_file():
        return adapter(path)
    pickle = next((f for pattern in _PICKLES for f in sorted(path.glob(pattern))), None)
    if pickle:
        return UnsupportedModelError(
            f"{pickle} is a pickle, which can run any code when it is opened, so it is never "
            "read; use a safetensors version of the model, or make one on a machine you can lose "
            "(transformers: from_pretrained, save_pretrained(safe_serialization=True))"
        )
    if files := _names(path, "*.safetensors"):
        return ModelFormatError(
            f"{path} has {_some(files)}, and nothing says which of them are the model: keep one "
            "model.safetensors, or shards named model-00001-of-00002.safetensors and so on"
        )
    found = [name for name in _names(path, "*") if not name.endswith((".json", ".txt", ".md"))]
    what = f"; it holds {_some(found)}" if found else ""
    return ModelNotFoundError(
        f"{path} has config.json, but no weights: neither model.safetensors nor shards of it{what}"
    )


def adapter(path: Path) -> ModelFileError:
    """The error for an adapter, which names its base model."""
    try:
        settings: dict[str, Any] = read_json_object(path / "adapter_config.json")
    except ModelFileError:
        settings = {}
    base = settings.get("base_model_name_or_path")
    of = f" for {base:.200}" if isinstance(base, str) and base else ""
    return UnsupportedModelError(
        f"{path} holds an adapter (LoRA){of}, not a model; name its base model, and the adapter "
        f"beside it: pyqwen quantize MODEL OUT.gguf TYPE --merge-adapter {path}"
    )


def _below(path: Path, pattern: str) -> list[Path]:
    return sorted(file for file in path.glob(f"{pattern}/config.json") if file.is_file())


def _names(path: Path, pattern: str) -> list[str]:
    return sorted(file.name for file in path.glob(pattern))


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
