"""From a ``pq_status`` to an exception, and from a C struct to a dictionary."""

from __future__ import annotations

from typing import Any

from pyqwen import errors
from pyqwen._ffi import ffi, lib

_EXCEPTIONS: dict[int, type[Exception]] = {
    lib.PQ_ERR_ARGUMENT: ValueError,
    lib.PQ_ERR_NOT_FOUND: errors.ModelNotFoundError,
    lib.PQ_ERR_IO: errors.ModelFileError,
    lib.PQ_ERR_FORMAT: errors.ModelFormatError,
    lib.PQ_ERR_UNSUPPORTED: errors.UnsupportedModelError,
    lib.PQ_ERR_MEMORY: errors.OutOfMemoryError,
    lib.PQ_ERR_CONTEXT: errors.ContextOverflowError,
    lib.PQ_ERR_NUMERIC: errors.NumericError,
    lib.PQ_ERR_CANCELLED: errors.CancelledError,
    lib.PQ_ERR_CHANGED: errors.ModelChangedError,
    lib.PQ_ERR_FORKED: errors.PyQwenError,
}


def new_error() -> Any:
    """Return a ``pq_error`` for a call to fill; one per call, so that threads do not share it."""
    return ffi.new("pq_error *")


def check(status: int, error: Any) -> None:
    """Raise the exception for a status that is not ``PQ_OK``."""
    if status == lib.PQ_OK:
        return
    text = ffi.string(error.text).decode("utf-8", "replace")
    exception = _EXCEPTIONS[status]
    if issubclass(exception, errors.ModelFileError):
        field = ffi.string(error.field).decode("utf-8", "replace")
        offset = int(error.offset)
        raise exception(text, offset=offset if offset >= 0 else None, field=field or None)
    raise exception(text)


def to_dict(struct: Any) -> dict[str, Any]:
    """Return what a pointer to a C struct of scalars and char arrays holds."""
    out: dict[str, Any] = {}
    for name, field in ffi.typeof(struct).item.fields:
        value = getattr(struct, name)
        is_text = field.type.kind == "array"
        out[name] = ffi.string(value).decode("utf-8", "replace") if is_text else value
    return out
