"""The settings with which a model is opened, resolved once: arguments over the environment over defaults.

`Model`, `plan` and what measures share them. What needs the file, such as whether it can be read so far,
is checked by the core.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from operator import index
from reprlib import repr as brief

from pyqwen import _native
from pyqwen.loading import environment
from pyqwen.loading.environment import LARGEST
from pyqwen.loading.gguf_file import Load

DEFAULT_MAX_SEQUENCES = 4
DEFAULT_BATCH = 256
AUTO_KV_TYPE = "auto"
"""Stands for the best type of the cache that fits; the file and the free memory tell which."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is loaded, and how its sessions run. The names are those of ``Model``'s arguments.

    ``context`` None is what the model was trained for, which only its file tells. ``kv_type`` is
    ``AUTO_KV_TYPE`` until the file is open. ``coarse`` rounds
    activations as llama.cpp does, which is worse than as we do, to measure what it would.
    """

    context: int | None
    threads: int
    kv_type: _native.KVType
    isa: str
    exact: bool
    coarse: bool
    max_sequences: int
    batch: int
    load: Load
    cache: bool


def resolve_settings(
    *,
    context: int | None = None,
    threads: int | None = None,
    kv_type: _native.KVType | None = None,
    isa: str | None = None,
    exact: bool | None = None,
    coarse: bool = False,
    max_sequences: int | None = None,
    batch: int | None = None,
    load: Load = "mmap",
    cache: bool = True,
) -> Settings:
    """Return the settings that arguments, the environment and defaults make, in this order.

    ``ValueError`` or ``TypeError`` for what can never be.
    """
    max_sequences = _checked_count("max_sequences", max_sequences) or DEFAULT_MAX_SEQUENCES
    batch = _checked_count("batch", batch) or DEFAULT_BATCH
    exact = environment.exact() if exact is None else bool(exact)
    if isa is not None:
        isa = environment.checked_isa(isa, "isa")
    return Settings(
        context=_checked_count("context", context),
        threads=_checked_count("threads", threads)
        or environment.threads()
        or _native.default_threads(),
        kv_type=_checked_kv_type(kv_type, exact),
        isa=isa or environment.isa() or _native.default_isa(),
        exact=exact,
        coarse=coarse,
        max_sequences=max_sequences,
        batch=max(batch, max_sequences),
        load=load,
        cache=cache,
    )


def _checked_kv_type(kv_type: _native.KVType | None, exact: bool) -> _native.KVType:
    if kv_type is None:
        return "f32" if exact else "f16"
    return AUTO_KV_TYPE if kv_type == AUTO_KV_TYPE else _native.checked_kv_type(kv_type)


def _checked_count(name: str, value: int | None) -> int | None:
    """Return ``value`` if it is None or a whole number from 1 to ``LARGEST``."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if not 1 <= index(value) <= LARGEST:
        raise ValueError(f"{name} must be from 1 to {LARGEST:,}, not {value:,}")
    return index(value)


def checked_bytes(name: str, value: int | None) -> int | None:
    """Return ``value`` if it is None or a whole number from 0 on."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a number of bytes, not {type(value).__name__}")
    if index(value) < 0:
        raise ValueError(f"{name} must be a number of bytes from 0 on, not {brief(value)}")
    return index(value)


def checked_seconds(name: str, value: float | None) -> float | None:
    """Return ``value`` as a time that can be waited for, if it is None or a number from 0 on."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of seconds from 0 on, not {brief(value)}")
    return float(min(value, threading.TIMEOUT_MAX))
