"""An adapter as PEFT saves it: adapter_config.json, and the factors in adapter_model.safetensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from pyqwen.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from pyqwen.loading.adapters.adapter_file import (
    AdapterFile,
    AdapterTensor,
    Buffer,
    Factor,
    checked_tensor,
)
from pyqwen.loading.adapters.base_model import BaseMatrix, BaseModel
from pyqwen.loading.adapters.peft_settings import PeftSettings
from pyqwen.loading.json_file import read_json_object
from pyqwen.loading.safetensors_file import SafetensorsFile, StoredTensor

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")
_TYPES = ("F32", "F16", "BF16")
# base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight; some savers keep the adapter's name in it.
_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>(?:model\.)?layers\.(?P<layer>\d{1,6})\.(?P<inner>[a-z_.]+))"
    r"\.lora_(?P<which>[AB])(?:\.[\w-]+)?\.weight",
    re.ASCII,
)
# What a name tells about tensors that are no A or B of a layer's matrix, the first that fits.
_OTHERS = (
    (
        "lora_magnitude_vector",
        "is of a weight-decomposed adapter (DoRA), which this version does not run",
    ),
    (
        "modules_to_save",
        "is a whole module trained beside the adapter, which this version does not run",
    ),
    ("lora_embedding_", "adapts the embedding, which this version does not run"),
    ("embed_tokens", "changes the embedding, which this version does not run"),
    ("lm_head", "changes the output matrix, which this version does not run"),
    ("norm.", "changes a norm, which this version does not run"),
    ("bias", "is a bias, which this version does not run"),
)


def open_directory(path: Path, base: BaseModel) -> AdapterFile:
    """Open the adapter in a directory; ``ModelFileError`` (and those under it) says what is wrong."""
    settings = PeftSettings(read_json_object(path / CONFIG), path / CONFIG)
    weights = path / _WEIGHTS
    if not weights.is_file():
        _no_weights(path)
    file = SafetensorsFile(weights)
    try:
        tensors = _read(file, settings, base)
    except BaseException:
        file.close()
        raise
    return AdapterFile(path, (path / CONFIG, weights), tensors, file.close, settings.base)


def _no_weights(path: Path) -> NoReturn:
    pickle = next((name for name in _PICKLES if (path / name).is_file()), None)
    if pickle is not None:
        raise UnsupportedModelError(
            f"{path / pickle} is a pickle, which can run any code when it is opened, so it is never "
            "read; save the adapter as safetensors (peft: save_pretrained(safe_serialization=True))"
        )
    raise ModelNotFoundError(f"{path} has {CONFIG}, but no {_WEIGHTS}; the download is incomplete")


def _read(file: SafetensorsFile, settings: PeftSettings, base: BaseModel) -> list[AdapterTensor]:
    found: dict[str, tuple[BaseMatrix, dict[str, Factor]]] = {}
    for name, stored in file.tensors.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise _other(file.path, name)
        matrix = base.of_checkpoint(int(match["layer"]), match["inner"])
        if matrix is None:
            raise _no_matrix(file.path, name, base, settings)
        module = match["module"]
        factors = found.setdefault(module, (matrix, {}))[1]
        if match["which"] in factors:
            raise ModelFormatError(f"{file.path}: '{name[:120]}' is there twice", field=name)
        rotary = matrix.rotary if match["which"] == "B" else 0
        factors[match["which"]] = _factor(stored, rotary)
    if not found:
        raise ModelFormatError(f"{file.path} holds no tensors; the adapter was saved in part")
    tensors = []
    for module, (matrix, factors) in found.items():
        a, b, rank = checked_tensor(
            file.path, matrix, factors.get("A"), factors.get("B"), settings.made_for
        )
        if rank not in settings.ranks:
            raise ModelFormatError(
                f"{file.path}: '{a.name[:120]}' has rank {rank}, and by {CONFIG} it is "
                f"{settings.rank}: they are of different adapters",
                field=a.name,
            )
        tensors.append(AdapterTensor(matrix, rank, settings.scale(module, rank), a, b))
    return tensors


def _factor(stored: StoredTensor, rotary: int) -> Factor:
    if stored.dtype not in _TYPES:
        raise UnsupportedModelError(
            f"{stored.file.path}: tensor '{stored.name[:120]}' is of type {stored.dtype}; adapters are "
            f"read in {', '.join(_TYPES)}",
            field=stored.name,
        )

    def read() -> Buffer:
        data = stored.read_bytes()
        return data if not rotary else interleaved(data, stored.shape[0], rotary)

    return Factor(stored.name, stored.dtype, stored.shape, read)


def interleaved(data: Buffer, rows: int, head: int) -> bytes:
    """The rows of heads so long with their two halves interleaved, as GGUF has them for ``llama``."""
    width = len(data) // rows
    order = (
        first + i % 2 * (head // 2) + i // 2 for first in range(0, rows, head) for i in range(head)
    )
    view = memoryview(data)
    return b"".join(view[row * width : (row + 1) * width] for row in order)


def _other(where: Path, name: str) -> UnsupportedModelError:
    what = next(
        (text for part, text in _OTHERS if part in name),
        "is no A or B of a matrix of a layer",
    )
    return UnsupportedModelError(f"{where}: tensor '{name[:120]}' {what}", field=name)


def _no_matrix(
    where: Path, name: str, base: BaseModel, settings: PeftSettings
) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{where}: tensor '{name[:120]}' is for no matrix of this model, {base.architecture} with "
        f"{base.layers} layers of {', '.join(base.modules)}: the adapter is for another base model"
        f"{settings.made_for}",
        field=name,
    )
