"""An adapter as llama.cpp has it: a GGUF file with ``general.type`` adapter, tensors ``NAME.lora_a`` and
``NAME.lora_b``, and ``adapter.lora.alpha``, which is divided by the rank; 0 stands for no scale at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pyqwen._native import tensor_types
from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.loading.adapters.adapter_file import (
    AdapterFile,
    AdapterTensor,
    Factor,
    checked_tensor,
)
from pyqwen.loading.adapters.base_model import BaseModel
from pyqwen.loading.gguf_file import GGUFFile, TensorInfo

ALPHA = "adapter.lora.alpha"
_SUFFIXES = {".lora_a": "A", ".lora_b": "B"}
_EMBEDDINGS = ("token_embd.weight", "output.weight")


def open_gguf(path: Path, base: BaseModel) -> AdapterFile:
    """Open an adapter's file; ``ModelFileError`` (and those under it) says what is wrong."""
    file = GGUFFile(path, load="copy")
    try:
        alpha = _alpha(path, file.metadata, base)
        tensors = _read(path, file, alpha, base)
    except BaseException:
        file.close()
        raise
    return AdapterFile(path, (path,), tensors, file.close, _base_name(file.metadata))


def _alpha(path: Path, keys: Mapping[str, Any], base: BaseModel) -> float:
    wanted = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "general.architecture": base.architecture,
    }
    for key, value in wanted.items():
        found = keys.get(key)
        if found != value:
            what = {
                "general.type": "the file is no adapter",
                "adapter.type": "only LoRA adapters are run",
                "general.architecture": "the adapter is for another base model",
            }[key]
            raise UnsupportedModelError(
                f"{path}: {key} is {found!r:.60}, not {value!r}: {what}", field=key
            )
    if keys.get("adapter.alora.invocation_tokens"):
        raise UnsupportedModelError(
            f"{path}: adapter.alora.invocation_tokens: adapters that begin at a token (aLoRA) are not "
            "run by this version",
            field="adapter.alora.invocation_tokens",
        )
    alpha = keys.get(ALPHA, 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelFormatError(f"{path}: {ALPHA} is {alpha!r:.60}, not a number", field=ALPHA)
    return float(alpha)


def _base_name(keys: Mapping[str, Any]) -> str | None:
    name = keys.get("general.base_model.0.name")
    return name if isinstance(name, str) and name else None


def _read(path: Path, file: GGUFFile, alpha: float, base: BaseModel) -> list[AdapterTensor]:
    name = _base_name(file.metadata)
    made_for = f", {name[:120]}" if name else ""
    found: dict[str, dict[str, Factor]] = {}
    for tensor in file.tensors:
        stem, which = _split(path, tensor.name)
        if base.of_file(stem) is None:
            problem = "adapts the embedding or the output matrix, which this version does not run"
            if stem not in _EMBEDDINGS:
                problem = (
                    f"is for no matrix of this model, {base.architecture} with {base.layers} layers: "
                    f"the adapter is for another base model{made_for}"
                )
            raise UnsupportedModelError(
                f"{path}: tensor '{tensor.name[:120]}' {problem}", field=tensor.name
            )
        found.setdefault(stem, {})[which] = _factor(path, file, tensor)
    if not found:
        raise ModelFormatError(f"{path} holds no tensors; the adapter was saved in part")
    tensors = []
    for stem, factors in found.items():
        matrix = base.of_file(stem)
        assert matrix is not None
        a, b, rank = checked_tensor(path, matrix, factors.get("A"), factors.get("B"), made_for)
        tensors.append(AdapterTensor(matrix, rank, alpha / rank if alpha else 1.0, a, b))
    return tensors


def _split(path: Path, name: str) -> tuple[str, str]:
    for suffix, which in _SUFFIXES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), which
    raise UnsupportedModelError(
        f"{path}: tensor '{name[:120]}' is neither lora_a nor lora_b; whole tensors beside an adapter "
        "are not run by this version",
        field=name,
    )


def _factor(path: Path, file: GGUFFile, tensor: TensorInfo) -> Factor:
    if tensor.type not in tensor_types():
        raise UnsupportedModelError(
            f"{path}: tensor '{tensor.name[:120]}' is of type {tensor.type}, which this version does not "
            f"read; it reads {', '.join(tensor_types())}",
            field=tensor.name,
        )
    shape = tuple(reversed(tensor.shape))
    return Factor(tensor.name, tensor.type, shape, partial(file.read, tensor.name))
