"""Adapters of peft on converted checkpoints: its logits, in exact mode within 2e-4 of the largest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from pyqwen import Model
from pyqwen.quantize import convert

sys.path.insert(0, str(Path(__file__).parent))
from peft_logits import CASES, IDS, POSITIONS, RESULTS, adapter, checkpoint, logits


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_peft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    out, own = tmp_path / "model.gguf", adapter(case, tmp_path / "adapter")
    convert(checkpoint(case, tmp_path / "model").write(), out)
    expected = np.load(RESULTS)[case]
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(out, adapters={"own": own}, threads=1) as model:
        found = model.logits(IDS, adapter="own")[POSITIONS]
        plain = model.logits(IDS)[POSITIONS]
    largest = np.abs(expected).max()
    assert np.abs(plain - expected).max() > 0.2 * largest  # the adapter matters
    assert np.abs(found - expected).max() < 2e-4 * largest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of transformers, about itself
@pytest.mark.parametrize("case", CASES)
def test_peft_still_computes_them(
    tmp_path: Path, unavailable: Callable[[str], NoReturn], case: str
) -> None:
    try:
        import peft  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        unavailable(f"{error.name} is not installed")
    model = checkpoint(case, tmp_path / "model").write()
    found = logits(model, adapter(case, tmp_path / "adapter"))
    expected = np.load(RESULTS)[case]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
