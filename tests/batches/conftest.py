"""Files of rows, and the tiny model that answers them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model

sys.path.insert(0, str(Path(__file__).parent))  # for batch_rows, whatever the import mode


@pytest.fixture(scope="module")
def model(make_tiny_model: Callable[..., Path]) -> Iterator[Model]:
    """A tiny model, open, for four rows at a time."""
    with Model(make_tiny_model(context=2048), threads=1) as model:
        yield model


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """``write(rows)``: a file of rows, each a dict or the bytes of a line."""

    def write(rows: Iterable[Any], name: str = "in.jsonl") -> Path:
        path = tmp_path / name
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path

    return write
