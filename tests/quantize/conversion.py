"""What the tests of converting look at: the keys that come out, and what was said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf

from pyqwen.quantize import Conversion, convert

Keys = dict[str, Any]


def converted(path: Path) -> tuple[Keys, Conversion]:
    """The keys of what ``path`` becomes, and what was said about it."""
    out = path.parent / "model.gguf"
    done = convert(path, out)
    fields = gguf.GGUFReader(out).fields
    return {name: field.contents() for name, field in fields.items()}, done


def said(done: Conversion, *words: str) -> bool:
    """Whether one of the notes has all these words."""
    return any(all(word in note for word in words) for note in done.notes)
