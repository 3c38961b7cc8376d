"""JSON files of checkpoints, which come from strangers: bounded in size, and without JSON's loose ends.

Knows nothing of what the files mean.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from pyqwen.errors import ModelFormatError, ModelNotFoundError

MEGABYTE = 1 << 20


def read_json_object(path: Path, *, limit: int = 16 * MEGABYTE) -> dict[str, Any]:
    """Return the object in ``path``; ``limit`` is the largest size in bytes that is read.

    ``ModelNotFoundError`` if there is no such file; ``ModelFormatError`` if it is longer, no JSON, or
    not an object, has a key twice, or a number that JSON does not have (NaN).
    """
    return parse_json_object(read_bounded(path, limit=limit), str(path))


def read_optional_object(path: Path, *, limit: int = 16 * MEGABYTE) -> dict[str, Any]:
    """Return the object in ``path``, or an empty one where there is no such file."""
    return read_json_object(path, limit=limit) if path.is_file() else {}


def read_json_list(path: Path, *, limit: int = MEGABYTE) -> list[Any]:
    """Return the list in ``path``; the rest as in ``read_json_object``."""
    value = _parse(read_bounded(path, limit=limit), str(path))
    if not isinstance(value, list):
        raise ModelFormatError(f"{path} holds a {type(value).__name__}, not a JSON list")
    return value


def read_bounded(path: Path, *, limit: int) -> bytes:
    """Return the bytes of a regular file of at most ``limit`` bytes."""
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no such file; the model needs it")
    size = path.stat().st_size
    if size > limit:
        raise ModelFormatError(
            f"{path} has {size:,} bytes; no such file of a real model is longer than {limit:,}"
        )
    return path.read_bytes()


def read_text(path: Path, *, limit: int) -> str:
    """Return a text of at most ``limit`` bytes; ``ModelFormatError`` where it is not UTF-8."""
    try:
        return read_bounded(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path} is not UTF-8 text: {error}") from error


def parse_json_object(data: bytes, where: str) -> dict[str, Any]:
    """Return the object that ``data`` spells; ``where`` names it in messages."""
    value = _parse(data, where)
    if not isinstance(value, dict):
        raise ModelFormatError(f"{where} holds a {type(value).__name__}, not a JSON object")
    return value


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:  # bad UTF-8 and JSON errors are ValueErrors
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise ModelFormatError(
            f"{where} is not valid JSON: {reason}; the file is damaged, fetch it again"
        ) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise ValueError(f"it has the key {twice[:80]!r} twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
