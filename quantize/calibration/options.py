"""What may be asked of a quantization with a calibration text, and whether it makes sense."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyqwen.quantize.calibration.layers import Methods
from pyqwen.quantize.recipes import AUTO, COPY


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """A text and what to do with it. Of AUTO one of the targets is given, of recipes none."""

    text: str
    methods: Methods
    target_size: int | None  # bytes of the whole file
    target_bpw: float | None  # bits per weight, of all tensors together


def calibration_options(
    recipe: str,
    text: str | None,
    gptq: bool | None,
    awq: bool | None,
    target_size: int | None,
    target_bpw: float | None,
) -> CalibrationOptions | None:
    """The options, or None where no text is given; ``ValueError`` where they contradict each other."""
    is_auto = recipe == AUTO
    if text is None and (is_auto or gptq or awq):
        what = "AUTO needs" if is_auto else "GPTQ and AWQ need"
        raise ValueError(f"{what} a calibration text: give calibration (--calibration TEXT)")
    if is_auto == (target_size is None and target_bpw is None):
        raise ValueError(
            "AUTO needs a target: give target_size (--target-size) or target_bpw (--target-bpw)"
            if is_auto
            else f"a target is for AUTO; {recipe} decides the types, and so the size, by itself"
        )
    if target_size is not None and target_bpw is not None:
        raise ValueError("target_size and target_bpw exclude each other; give one")
    if target_size is not None and target_size <= 0:
        raise ValueError(f"target_size is {target_size}; it must be a number of bytes above 0")
    if target_bpw is not None and not (math.isfinite(target_bpw) and 0 < target_bpw <= 32):
        raise ValueError(f"target_bpw is {target_bpw}; it must be above 0 and at most 32")
    if text is None:
        return None
    if recipe == COPY:
        raise ValueError("COPY changes nothing, so that a calibration text is of no use")
    methods = Methods(
        gptq=is_auto if gptq is None else gptq,
        awq=is_auto if awq is None else awq,
    )
    return CalibrationOptions(text, methods, target_size, target_bpw)


def either(name: str, value: bool | None, alias: str, other: bool | None) -> bool | None:
    """The value of an option with two names; ``ValueError`` where both are given and differ."""
    if value is not None and other is not None and value != other:
        raise ValueError(
            f"{name} is {value} and {alias} is {other}, but they are the same; give one"
        )
    return other if value is None else value
