"""The settings with which a model is opened, as ``Model`` and ``plan`` share them: defaults, checks.

What needs the file, such as whether it can be read so far, is checked by the core.
"""

from __future__ import annotations

from operator import index

DEFAULT_MAX_SEQUENCES = 4
DEFAULT_BATCH = 256
LARGEST = 2**32 - 1
"""The core counts in 32 bits; its own limits are lower, and it names them."""


def checked_count(name: str, value: int | None) -> int | None:
    """Return ``value`` if it is None or a whole number from 1 to ``LARGEST``."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not 1 <= index(value) <= LARGEST:
        raise ValueError(f"{name} must be from 1 to {LARGEST:,}, not {value:,}")
    return index(value)
