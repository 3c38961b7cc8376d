"""A loaded model, its hyperparameters, and the memory plan."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from reprlib import repr as brief
from types import TracebackType
from typing import Any

from pyqwen._ffi import ffi, lib
from pyqwen._native.files import FileHandle
from pyqwen._native.ownership import keeping, new_cell
from pyqwen._native.status import check, new_error, to_dict
from pyqwen.errors import ClosedError


def _kv_types() -> dict[str, int]:
    """Number of each type of the KV cache, by name."""
    types: dict[str, int] = {}
    while (name := lib.pq_kv_type_name(len(types))) != ffi.NULL:
        types[ffi.string(name).decode()] = len(types)
    return types


KV_TYPES = _kv_types()
KVType = str | tuple[str, str]
"""A type of the KV cache by name, or those of its keys and of its values."""

Progress = Callable[[int, int], bool | None]
"""Called with bytes done and bytes in all; returning ``False`` cancels."""


def _keep_error(kind: Any, error: BaseException, traceback: TracebackType) -> None:
    """Keep what was raised in ``_on_progress``, be it Ctrl-C on its first line."""
    ffi.from_handle(traceback.tb_frame.f_locals["arg"]).error = error


@ffi.def_extern(  # type: ignore[untyped-decorator]
    name="pq_on_progress", error=1, onerror=_keep_error
)
def _on_progress(arg: Any, done: int, total: int) -> int:
    """Stop loading when the caller's function says so or raises; that must not unwind through C."""
    return 1 if ffi.from_handle(arg).call(done, total) is False else 0


@dataclass
class _ProgressState:
    call: Progress
    error: BaseException | None = None


class ModelHandle:
    """A loaded ``pq_model``. Keeps the file that it reads from; sessions and images keep the model."""

    def __init__(
        self,
        file: FileHandle,
        *,
        isa: str | None = None,
        threads: int = 0,
        exact: bool = False,
        coarse: bool = False,
        progress: Progress | None = None,
        packed: str | os.PathLike[str] | None = None,
    ) -> None:
        """``packed`` is a file of packed weights to map, if it is whole and of this model."""
        source = file.pointer
        options, _keep, state = model_options(isa, threads, exact, progress)
        path = ffi.new("char[]", b"" if packed is None else os.fsencode(packed))
        options.packed = ffi.NULL if packed is None else path
        options.coarse = 1 if coarse else 0
        out, error = new_cell("pq_model **", lib.pq_model_close, source), new_error()
        status = lib.pq_model_open(out, source, options, error)
        if state is not None and state.error is not None:
            raise state.error
        check(status, error)
        model = keeping(out[0], out)
        self.config: dict[str, Any] = to_dict(lib.pq_model_config(model))
        self.isa: str = ffi.string(lib.pq_model_isa(model)).decode()
        self.packed_problem: str = ffi.string(lib.pq_model_packed_problem(model)).decode(
            "utf-8", "replace"
        )
        self.weight_bytes = int(lib.pq_model_weight_bytes(model))
        self._pointer = model

    @property
    def pointer(self) -> Any:
        """The ``pq_model *``; whoever keeps it keeps the model."""
        if self._pointer is None:
            raise ClosedError("the model was closed")
        return self._pointer

    def close(self) -> None:
        """Give the weights up; they are freed when no session and no image needs them. Idempotent."""
        self._pointer = None


def model_options(
    isa: str | None, threads: int, exact: bool, progress: Progress | None
) -> tuple[Any, list[Any], _ProgressState | None]:
    """Return the options struct and what must stay alive beside it."""
    options = ffi.new("pq_model_options *")
    keep: list[Any] = []
    options.threads = _uint32("threads", threads)
    options.exact = 1 if exact else 0
    options.isa = ffi.NULL
    if isa is not None:
        keep.append(ffi.new("char[]", isa.encode()))
        options.isa = keep[-1]
    state = None
    if progress is not None:
        state = _ProgressState(progress)
        keep.append(ffi.new_handle(state))
        options.progress = lib.pq_on_progress
        options.progress_arg = keep[-1]
    return options, keep, state


def _uint32(name: str, value: int) -> int:
    """Return ``value`` if C can count so far; cffi would raise ``OverflowError`` without a name."""
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be below {2**32:,} and not negative, not {value:,}")
    return value


def read_config(file: FileHandle) -> dict[str, Any]:
    """Return the hyperparameters of a file, every tensor checked against them."""
    config, error = ffi.new("pq_config *"), new_error()
    check(lib.pq_config_read(config, file.pointer, error), error)
    return to_dict(config)


def checked_kv_type(value: KVType) -> KVType:
    """Return ``value`` if it is a type of the KV cache, or those of its keys and its values.

    Two that are equal become one. Raises ``ValueError`` or ``TypeError``.
    """
    if not isinstance(value, str) and not (isinstance(value, tuple | list) and len(value) == 2):
        raise TypeError(f"kv_type must be a name or a pair of names, not {brief(value)}")
    keys, values = key_value_types(value)
    for name in (keys, values):
        if not isinstance(name, str) or name not in KV_TYPES:
            raise ValueError(f"kv_type {brief(name)}: choose one of {', '.join(KV_TYPES)}")
    return keys if keys == values else (keys, values)


def key_value_types(kv_type: KVType) -> tuple[str, str]:
    """Return the types of keys and of values."""
    return (kv_type, kv_type) if isinstance(kv_type, str) else kv_type


def session_options(context: int, sequences: int, threads: int, batch: int, kv_type: KVType) -> Any:
    options = ffi.new("pq_session_options *")
    options.context = _uint32("context", context)
    options.sequences = _uint32("max_sequences", sequences)
    options.threads, options.batch = _uint32("threads", threads), _uint32("batch", batch)
    key_type, value_type = key_value_types(checked_kv_type(kv_type))
    options.key_type, options.value_type = KV_TYPES[key_type], KV_TYPES[value_type]
    return options


def plan(
    file: FileHandle,
    *,
    context: int = 0,
    sequences: int = 1,
    threads: int = 0,
    batch: int = 0,
    kv_type: KVType = "f16",
    isa: str | None = None,
    exact: bool = False,
) -> dict[str, int]:
    """Return the bytes a model and session would take: weights, kv_per_token, kv, compute."""
    model, _keep, _ = model_options(isa, threads, exact, None)
    options = session_options(context, sequences, threads, batch, kv_type)
    out, error = ffi.new("pq_memory_plan *"), new_error()
    check(lib.pq_plan(out, file.pointer, model, options, error), error)
    return to_dict(out)
