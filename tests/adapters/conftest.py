"""Fixtures for tests of adapters: tiny models, and adapters for them as PEFT saves them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules here that are no test modules

import peft_files as pf


@pytest.fixture(scope="session")
def adapter_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Four adapters of the tiny model, of different ranks, matrices and types."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "all": pf.write_adapter(folder / "all", pf.factors(1)),
        "few": pf.write_adapter(
            folder / "few",
            pf.factors(2, rank=3, modules=("q_proj", "down_proj"), layers=(1,)),
            pf.settings(3, 6, use_rslora=True),
            "BF16",
        ),
        "wide": pf.write_adapter(
            folder / "wide", pf.factors(3, rank=40), pf.settings(40, 20), "F16"
        ),
        "feed": pf.write_adapter(
            folder / "feed",
            pf.factors(4, modules=("gate_proj", "up_proj")),
            pf.settings(8, 4),
        ),
    }


WriteAdapter = Callable[..., Path]


@pytest.fixture
def write_adapter(tmp_path: Path) -> WriteAdapter:
    """``write_adapter(tensors, config=None, dtype="F32")`` in a folder of this test."""

    def write(*args: object, **keywords: object) -> Path:
        return pf.write_adapter(tmp_path / "adapter", *args, **keywords)  # type: ignore[arg-type]

    return write
