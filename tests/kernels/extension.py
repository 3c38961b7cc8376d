"""The functions of csrc/pyqwen_test.h, which only builds for tests and benchmarks have."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

INSTALL = 'pip install ".[test]" --config-settings=cmake.define.PYQWEN_TEST_EXTENSION=ON'


@cache
def kernel_lib() -> Any:
    """Return the library; where this build has none, say which build has one."""
    try:
        return import_module("pyqwen._ffi_test").lib
    except ModuleNotFoundError as error:
        if error.name != "pyqwen._ffi_test":
            raise
        raise ImportError(
            f"this build of pyqwen cannot run single kernels; in the clone's folder: {INSTALL}"
        ) from error
