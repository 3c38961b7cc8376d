"""A host program may have changed the processor's floating-point modes; results must not depend on them."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pyqwen import _native

FE_UPWARD = 0x800  # of <fenv.h> on x86


@pytest.fixture
def rounding_upward() -> Iterator[None]:
    """Let this thread round upward, as a library linked into the host might have it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the number of the rounding mode is that of x86 and glibc")
    libm = ctypes.CDLL("libm.so.6")
    before = libm.fegetround()
    assert libm.fesetround(FE_UPWARD) == 0
    yield
    libm.fesetround(before)


def _logits(path: Path) -> np.ndarray:
    model = _native.ModelHandle(_native.FileHandle(path, copy=False), threads=2)
    session = _native.SessionHandle(model, threads=2)
    ids = list(range(40))
    session.eval(ids, [0] * 40, [1] * 40)
    out = np.empty((40, model.config["vocab_rows"]), np.float32)
    session.logits(0, 40, out)
    session.close()
    return out


@pytest.fixture
def expected(tiny_model_path: Path) -> np.ndarray:
    return _logits(tiny_model_path)


def test_rounding_mode_of_the_host(
    tiny_model_path: Path, expected: np.ndarray, rounding_upward: None
) -> None:
    assert _logits(tiny_model_path).tobytes() == expected.tobytes()
    assert ctypes.CDLL("libm.so.6").fegetround() == FE_UPWARD  # and the host's mode is given back
