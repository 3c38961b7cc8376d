"""The headers of the core: one version with the package, and nothing that only tests call in the library."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
from extension import INSTALL, kernel_lib

from pyqwen import _native

ROOT = Path(__file__).resolve().parents[2]


def test_header_library_and_package_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    header = (ROOT / "csrc" / "pyqwen.h").read_text(encoding="utf-8")
    parts = re.findall(r"#define PQ_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)\n", header)
    assert ".".join(parts) == project["version"]
    assert _native.ffi.string(_native.lib.pq_version()).decode() == project["version"]


def test_functions_for_tests_are_not_in_the_library_of_users() -> None:
    header = (ROOT / "csrc" / "pyqwen_test.h").read_text(encoding="utf-8")
    names = [name for name in dir(kernel_lib()) if name.startswith("pq_")]
    here = [name for name in names if f" {name}(" in header]
    assert "pq_test_matmul" in here
    assert not [name for name in here if hasattr(_native.lib, name)]


def test_builds_without_it_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyqwen._ffi_test", None)
    with pytest.raises(ImportError) as caught:
        kernel_lib.__wrapped__()
    assert INSTALL in str(caught.value)
    for file in ("README.md", ".ci/install-and-test"):
        assert f"{INSTALL} && pytest" in (ROOT / file).read_text(encoding="utf-8")
