"""A tiny model served in this process, and clients for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pyqwen import Model
from pyqwen.serve import create_app

sys.path.insert(0, str(Path(__file__).parent))  # for the driver, whatever the import mode

T = TypeVar("T")


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> Iterator[Model]:
    """The tiny model, open."""
    with Model(tiny_model_path, threads=1) as model:
        yield model


@pytest.fixture
def app(model: Model) -> Any:
    """The open model as a server: it is called ``tiny``."""
    return create_app({"tiny": model})


@pytest.fixture
def run() -> Callable[[Awaitable[T]], T]:
    """Run a coroutine in an event loop of its own."""

    def run(work: Awaitable[T]) -> T:
        async def main() -> T:
            return await work

        return asyncio.run(main())

    return run
