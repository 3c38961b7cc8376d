"""Fixtures of the tests of constraints."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyqwen import Model

sys.path.insert(0, str(Path(__file__).parent))  # for schema_kinds, which is no test module


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> Iterator[Model]:
    """The tiny model, open; shared by the tests of a module."""
    with Model(tiny_model_path, threads=1) as model:
        yield model
