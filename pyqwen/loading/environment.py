"""The environment variables that choose how models run. Read when a model is opened."""

from __future__ import annotations

import os

from pyqwen import _native

LARGEST = 2**32 - 1
"""The core counts in 32 bits; its own limits are lower, and it names them."""


def threads() -> int | None:
    """``PYQWEN_THREADS``, or None if it is not set."""
    text = os.environ.get("PYQWEN_THREADS", "").strip()
    if not text:
        return None
    # Python does not turn digits by the thousand into a number.
    if not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= LARGEST:
        raise ValueError(
            f"PYQWEN_THREADS must be a number of threads, 1 to {LARGEST:,}, not {text[:80]!r}"
        )
    return int(text)


def isa() -> str | None:
    """``PYQWEN_ISA``, or None if it is not set; checked to be one that runs here."""
    name = os.environ.get("PYQWEN_ISA", "").strip()
    return checked_isa(name, "PYQWEN_ISA") if name else None


def checked_isa(name: str, source: str) -> str:
    """Return ``name`` if it is an instruction set that can run here, else raise ``ValueError``."""
    known = _native.isas()
    if not known.get(name, False):
        why = "this machine cannot run" if name in known else "is unknown:"
        usable = ", ".join(isa for isa, available in known.items() if available)
        raise ValueError(f"{source} names an instruction set that {why} {name!r}; usable: {usable}")
    return name


def exact() -> bool:
    """``PYQWEN_EXACT``: 1 for float32 activations, the reference path."""
    text = os.environ.get("PYQWEN_EXACT", "").strip()
    if text not in ("", "0", "1"):
        raise ValueError(f"PYQWEN_EXACT must be 1 or 0, not {text!r}")
    return text == "1"
