"""Values of a checkpoint into the bytes of GGUF's unquantized types and Q8_0, a few rows at a time.

Every function refuses what it cannot represent, and says how many values and which come first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pyqwen.errors import NumericError
from pyqwen.quantize.source.model_source import SourceTensor

F32 = npt.NDArray[np.float32]

BLOCK = 32  # elements of a Q8_0 block
_HALF = np.float32(np.nextafter(np.float32(0.5), np.float32(0)))
_LARGEST_BF16 = float.fromhex("0x1.fep127")
_TINY = np.float32(2.0**-120)  # below it 1 / scale overflows; as a float16 such a scale is 0 anyway


class BadValues(ValueError):
    """Values that cannot be written: ``count`` of them, the first at ``index`` of the flat rows."""

    def __init__(self, what: str, bad: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> None:
        self.what = what
        self.count = int(np.count_nonzero(bad))
        self.index = int(np.argmax(bad))
        self.value = float(values.ravel()[self.index])
        super().__init__(what)


def refusal(tensor: SourceTensor, bad: BadValues, start: int, target: str) -> NumericError:
    """The error for ``bad`` values in rows from ``start`` on, which should have become ``target``."""
    row, column = divmod(bad.index, tensor.columns)
    advice = "the file is damaged: fetch it again"
    if np.isfinite(bad.value):
        advice = "keep it as f32" if target == "BF16" else "keep it as bf16 or f32"
    count = f"{bad.count:,} values" if bad.count > 1 else "1 value"
    return NumericError(
        f"{tensor.where}: in tensor '{tensor.source or tensor.name}' {count} or more {bad.what}, the "
        f"first at {tensor.place(start + row, column)}: {bad.value:g}; {advice}"
    )


def to_float32(raw: npt.NDArray[Any], dtype: str) -> F32:
    """Values that safetensors stores as ``dtype`` (BF16 as uint16 bits), exactly."""
    if dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False)


def check_finite(raw: npt.NDArray[Any], dtype: str) -> None:
    """``BadValues`` if there is a NaN or an infinity."""
    if dtype == "BF16":
        exponent = np.uint16(0x7F80)
        if int((raw & np.uint16(0x7FFF)).max(initial=0)) < exponent:
            return
    elif np.isfinite(raw).all():
        return
    values = to_float32(raw, dtype)
    raise BadValues("are NaN or infinite", ~np.isfinite(values).ravel(), values)


def check_range(values: F32, target: str) -> None:
    """``BadValues`` if there is one too large for ``target``, a tensor type of the core."""
    if target == "F32":
        return
    name, largest = ("BF16", _LARGEST_BF16) if target == "BF16" else ("F16", 65504.0)
    scales = "" if target == name else f", as which {target} stores its scales"
    _refuse(np.abs(values) > largest, values, f"are too large for {name}{scales}")


def encode(raw: npt.NDArray[Any], dtype: str, target: str) -> npt.NDArray[Any]:
    """Finite rows of ``dtype`` as ``target`` (F32, F16, BF16, Q8_0): an array with the file's bytes.

    ``BadValues`` where a value is too large for ``target``.
    """
    if dtype == target:
        return raw
    values = to_float32(raw, dtype)
    match target:
        case "F32":
            return values
        case "F16":
            return _to_float16(values)
        case "BF16":
            return _to_bfloat16(values)
        case "Q8_0":
            return _to_q8_0(values)
    raise ValueError(f"{target} is no type that is written here")


def _to_float16(values: F32) -> npt.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    _refuse(np.isinf(halves), values, "are too large for F16, whose largest is 65504")
    return halves


def _to_bfloat16(values: F32) -> npt.NDArray[np.uint16]:
    bits = values.view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)))  # to nearest, ties to even
    upper = (rounded >> 16).astype(np.uint16)
    _refuse((upper & np.uint16(0x7F80)) == 0x7F80, values, "are too large for BF16")
    return upper


def _to_q8_0(values: F32) -> npt.NDArray[np.uint8]:
    """ggml's Q8_0 (quantize_row_q8_0_ref), bit for bit: a float16 scale and 32 int8 per block."""
    blocks = values.reshape(-1, BLOCK)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    scale = largest / np.float32(127)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scale < _TINY, np.float32(0), np.float32(1) / scale)
        stored = scale.astype(np.float16)
    too_large = np.isinf(stored) & (np.abs(blocks) == largest)
    _refuse(too_large, values, "are too large for the float16 scales of Q8_0")
    scaled = blocks * inverse
    # Away from zero at one half, as roundf: adding just less than one half, then cutting off.
    quants = (scaled + np.copysign(_HALF, scaled)).astype(np.int8)
    return np.concatenate([stored.view(np.uint8), quants.view(np.uint8)], axis=1)


def _refuse(bad: npt.NDArray[np.bool_], values: F32, what: str) -> None:
    if bad.any():
        raise BadValues(what, bad.ravel(), values)
