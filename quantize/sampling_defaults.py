"""Sampling defaults that a model brings along: their names, and which of them can be sampled with."""

from __future__ import annotations

import math
from typing import Any

from pyqwen.sampling import SamplingParams

# Setting in generation_config.json and in `SamplingParams`, GGUF's key, whether it is a whole number.
SETTINGS = (
    ("top_k", "general.sampling.top_k", True),
    ("top_p", "general.sampling.top_p", False),
    ("min_p", "general.sampling.min_p", False),
    ("temperature", "general.sampling.temp", False),
    ("repetition_penalty", "general.sampling.penalty_repeat", False),
)


def usable(name: str, value: Any) -> tuple[int | float | None, str]:
    """The value as the runtime takes it, or None and why it does not.

    ``top_k`` below 0 is 0: both turn it off.
    """
    whole = next(whole for setting, _, whole in SETTINGS if setting == name)
    if type(value) not in (int, float) or not math.isfinite(value) or (whole and value % 1):
        return None, f"{name} is {value!r:.60}, not a number"
    number = max(int(value), 0) if name == "top_k" else float(value)
    if abs(number) >= 2**31:
        return None, f"{name} is {value!r:.60}, out of bounds"
    settings: dict[str, Any] = {name: number}
    try:
        SamplingParams(**settings)
    except (TypeError, ValueError) as error:
        return None, str(error)
    return number, ""
