"""A memory plan in words: whether a model fits this machine, and what it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyqwen.units import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from pyqwen import MemoryPlan
    from pyqwen._native import KVType


def kv_type_text(kv_type: KVType) -> str:
    """As ``--kv-type`` takes it."""
    return kv_type if isinstance(kv_type, str) else ",".join(kv_type)


def describe_fit(plan: MemoryPlan) -> str:
    """Whether it fits, and with which context it does."""
    longest = f"the longest context that fits is {plan.longest_context:,} tokens"
    if plan.fits:
        return f"this fits; {longest} (the model was trained for {plan.trained_context:,})"
    if plan.kv_type_that_fits is not None:
        longest += f", and with --kv-type {kv_type_text(plan.kv_type_that_fits)} this one does"
    if plan.longest_context:
        return f"this does not fit; {longest} (-c {plan.longest_context})"
    return "this does not fit, with any context: take a smaller model or quantization"


def describe_plan(plan: MemoryPlan, path: Path) -> str:
    """One line for those who are about to load: what, and the memory and disk it will take."""
    line = (
        f"{path.name}: {format_bytes(plan.weights)} of weights, up to {format_bytes(plan.total)} in "
        f"all at {plan.context:,} tokens; {format_bytes(plan.available)} available"
    )
    if plan.cache:
        line += f"; {format_bytes(plan.cache)} of disk for the cache"
    return line if plan.fits else f"{line}. {describe_fit(plan)[0].upper()}{describe_fit(plan)[1:]}"
