"""Adapters of PEFT to GGUF, as llama.cpp's convert_lora_to_gguf.py writes them.

What that format has no word for, the scale of rank-stabilized adapters and of single matrices, goes into
B, so that alpha / rank holds for all.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyqwen.errors import ModelFileError, ModelNotFoundError
from pyqwen.loading.adapters.adapter_file import AdapterFile, AdapterTensor, Factor
from pyqwen.loading.adapters.base_model import BaseModel
from pyqwen.loading.adapters.gguf_adapter import ALPHA
from pyqwen.loading.adapters.peft_directory import CONFIG, open_directory
from pyqwen.loading.json_file import read_json_object
from pyqwen.quantize.checkpoint.hyperparameters import read_hyperparameters
from pyqwen.quantize.encode import BLOCK, BadValues, encode
from pyqwen.quantize.output.output_model import OutputTensor, Progress, tensor_bytes, write_model
from pyqwen.quantize.recipes import FILE_TYPES
from pyqwen.quantize.source.gguf_source import GGUFSource
from pyqwen.quantize.source.merged_source import factor_values

if TYPE_CHECKING:
    import gguf

Base = str | os.PathLike[str] | None


class Written:
    """One tensor of the output: what `ConvertedTensor` tells, and its values."""

    def __init__(self, name: str, factor: Factor, outtype: str, scale: float, where: Path) -> None:
        self.name, self.source, self.source_type = name, factor.name, factor.type
        self.shape = factor.shape
        self.fallback: str | None = None
        self.type = factor.type if outtype == "auto" else outtype.upper()
        if self.type == "Q8_0" and self.shape[-1] % BLOCK:
            self.type = "F16"
            self.fallback = f"rows of {self.shape[-1]:,} are no multiple of {BLOCK}"
        self.n_bytes = tensor_bytes(self.type, self.shape)
        self._factor, self._scale, self._where = factor, np.float32(scale), where

    def parts(self) -> list[Any]:
        """The bytes; ``ModelFileError`` where a value is too large for the type."""
        values = factor_values(self._factor, self._where) * self._scale
        try:
            return [np.ascontiguousarray(encode(values, "F32", self.type))]
        except BadValues as bad:
            raise ModelFileError(
                f"{self._where}: in tensor '{self.source}' {bad.count:,} values {bad.what}; convert it "
                "with --outtype f32"
            ) from None


def is_adapter(folder: Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    model = any(
        (folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")
    )
    return (folder / CONFIG).is_file() and not model


def write_adapter(
    folder: Path,
    out: Path,
    outtype: str,
    base: Base,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> tuple[str, int, list[Written]]:
    """Write the adapter in ``folder``; return the architecture, the size of the file, its tensors."""
    model = find_base(folder, base)
    architecture = model.architecture
    with open_directory(folder, model) as adapter:
        alpha, tensors = _planned(adapter, outtype)
        kinds: Counter[str] = Counter()
        for tensor in tensors:
            kinds[tensor.type] += tensor.n_bytes
        keys = _keys(architecture, folder, adapter, alpha, kinds.most_common(1)[0][0])
        size = write_model(
            out,
            keys,
            [OutputTensor(t.name, t.type, t.shape, t.parts) for t in tensors],
            inputs=[folder, *adapter.files],
            check=lambda: None,
            progress=progress,
            cancel=cancel,
        )
    return architecture, size, tensors


def find_base(folder: Path, base: Base) -> BaseModel:
    """The model that an adapter is for; only its configuration is read.

    ``base`` is its directory or GGUF file; None: what the adapter says, if that is a directory here.
    """
    if base is None:
        named = read_json_object(folder / CONFIG).get("base_model_name_or_path")
        path = Path(named) if isinstance(named, str) and named and "\0" not in named else None
        if path is None or not (path / "config.json").is_file():
            says = f" ({named:.120})" if isinstance(named, str) and named else ""
            raise ModelNotFoundError(
                f"{folder} holds an adapter (LoRA), and the configuration of its base model{says} is not "
                "here: name that model's directory or GGUF file, as in pyqwen convert ADAPTER OUT.gguf "
                "--base MODEL"
            )
    else:
        path = Path(base)
    if path.is_dir():
        config = read_json_object(path / "config.json")
        h = read_hyperparameters(config, str(path / "config.json"))
        names = ("architecture", "layers", "hidden", "ffn", "heads", "kv_heads", "head_dim")
        return BaseModel({name: getattr(h, name) for name in (*names, "vocab_rows")})
    if not path.exists():
        raise ModelNotFoundError(f"{path}: no such base model")
    with GGUFSource(path) as model:
        return BaseModel(model.config)


def _planned(adapter: AdapterFile, outtype: str) -> tuple[float, list[Written]]:
    """The alpha of the file, that of most matrices, and its tensors, the others' scaled."""
    alphas = Counter(tensor.scale * tensor.rank for tensor in adapter.tensors)
    alpha = next((value for value, _ in alphas.most_common() if value != 0), 1.0)
    written = []
    for tensor in adapter.tensors:
        name = tensor.matrix.name
        written.append(Written(f"{name}.lora_a", tensor.a, outtype, 1.0, adapter.path))
        scale = _beside(tensor, alpha)
        written.append(Written(f"{name}.lora_b", tensor.b, outtype, scale, adapter.path))
    return alpha, written


def _beside(tensor: AdapterTensor, alpha: float) -> float:
    """What B is multiplied by where alpha / rank is not the scale."""
    own = tensor.scale * tensor.rank
    return 1.0 if own == alpha else own / alpha


def _keys(
    architecture: str, folder: Path, adapter: AdapterFile, alpha: float, kind: str
) -> dict[str, gguf.GGUFValue]:
    import gguf

    writer = gguf.GGUFWriter(None, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(ALPHA, alpha)
    writer.add_name(folder.absolute().name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    if adapter.base:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, adapter.base)
    keys: dict[str, gguf.GGUFValue] = writer.kv_data[0]
    return keys
