"""An examination of this machine: what pyqwen found here, what it will use, and what is wrong.

Owns the judgment of what slows pyqwen down or keeps it from working. It only reads and measures.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from pyqwen import _native
from pyqwen.loading import environment
from pyqwen.units import format_bytes

_Value = TypeVar("_Value")

_LIBRARIES = (
    "numpy",
    "cffi",
    "sentencepiece",
    "jinja2",
    "huggingface_hub",
    "platformdirs",
    "prompt_toolkit",
    "rich",
)
_ENVIRONMENT = (
    "PYQWEN_",
    "HF_HOME",
    "HF_HUB_",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "PIP_",
)
_SECRETS = ("TOKEN", "KEY", "PASSWORD", "SECRET")
# Name and password in an address, whose scheme may be missing. A password may hold unescaped
# slashes and signs, so everything up to the last @ goes: rather too much than too little.
_USER_INFO = re.compile(r"((?:[\w+.-]+:)?//)?\S*@")
_GIB = 1 << 30


@dataclass(frozen=True)
class Report:
    """What was found. ``problems`` holds one sentence for each thing that should be put right.

    ``isa`` is the instruction set in use and ``kernels`` a line about it.

    Sizes are in bytes, ``bandwidth`` (of reading memory with ``threads`` threads) in bytes per
    second; it bounds writing. ``int8_products`` per second bound the reading of prompts; None where
    ``isa`` has no such instruction.
    """

    versions: dict[str, str | None]
    platform: str
    machine: dict[str, Any]
    isas: dict[str, bool]
    isa: str
    kernels: str
    threads: int
    bandwidth: float
    int8_products: float | None
    environment: dict[str, str]
    cache: dict[str, Any]
    problems: list[str]


def examine() -> Report:
    """Look at this machine; takes about a second, for memory is read to measure its speed."""
    machine = _native.machine()
    isas = _native.isas()
    problems: list[str] = []
    asked_isa = _setting(environment.isa, problems)
    asked_threads = _setting(environment.threads, problems)
    exact = _setting(environment.exact, problems)
    isa = asked_isa or _native.default_isa()
    threads = asked_threads or _native.default_threads()
    cache = _cache()
    versions = {"pyqwen": _version("pyqwen"), "python": platform.python_version()}
    versions |= {name: _version(name) for name in _LIBRARIES}
    problems += [
        *_instruction_problems(isa, _native.default_isa(), list(isas)),
        *_thread_problems(asked_threads, machine),
        *_memory_problems(machine),
        *_exactness_problems(exact),
        *_cache_problems(cache),
        *(
            f"{name} is not installed: pip install {name}"
            for name in versions
            if not versions[name]
        ),
    ]
    return Report(
        versions=versions,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        machine=machine,
        isas=isas,
        isa=isa,
        kernels=_native.isa_summary(isa),
        threads=threads,
        bandwidth=_bandwidth(machine),
        int8_products=_native.measure_int8(isa, min(threads, machine["logical_cores"])),
        environment=_environment(),
        cache=cache,
        problems=problems,
    )


def _setting(read: Callable[[], _Value], problems: list[str]) -> _Value | None:
    """A setting of the environment as it is read when a model is opened; None if it is wrong."""
    try:
        return read()
    except ValueError as error:
        problems.append(str(error))
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _environment() -> dict[str, str]:
    """The variables that pyqwen and what it calls will read; a secret is only said to be there."""
    return {
        name: "(set)" if any(word in name.upper() for word in _SECRETS) else without_login(value)
        for name, value in sorted(os.environ.items())
        if name.upper().startswith(_ENVIRONMENT)
    }


def without_login(text: str) -> str:
    """Remove user names and passwords from the addresses in ``text``."""
    return _USER_INFO.sub(r"\1", text)


def _bandwidth(machine: dict[str, Any]) -> float:
    """Read more than the caches hold, but not more than a machine under pressure can give."""
    size = min(_GIB // 2, machine["available_bytes"] // 4)
    return _native.measure_bandwidth(_native.default_threads(), size)


def _cache() -> dict[str, Any]:
    from pyqwen import catalog

    models = catalog.list_models()
    root = catalog.cache_root()
    # Not Path.exists, which raises where a folder above may not be searched.
    existing = next(place for place in (root, *root.parents) if os.path.exists(place))  # noqa: PTH110
    return {
        "path": str(root),
        "writable": _is_writable_folder(existing),
        "free_bytes": shutil.disk_usage(existing).free,
        "models": len(models),
        "model_bytes": sum(model.size for model in models),
    }


def _is_writable_folder(folder: Path) -> bool:
    """Tried, for permissions alone do not tell: a disk may be read-only, a file in the way."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


# ----------------------------------------------------------------------------------------- problems


def _instruction_problems(isa: str, default: str, best_first: list[str]) -> list[str]:
    if best_first.index(isa) < best_first.index(default):
        return [f"PYQWEN_ISA={isa} selects kernels that are not the default: {default} is"]
    if isa != default:
        return [
            f"PYQWEN_ISA={isa} forces slower kernels than this processor has; unset it: {default}"
        ]
    if isa == "scalar":
        wanted = (
            "AVX2, FMA and F16C" if platform.machine().lower() in ("x86_64", "amd64") else "SIMD"
        )
        return [
            f"the processor, or the virtual machine around it, shows no {wanted} (that this build "
            "could use): the portable kernels run, many times slower"
        ]
    return []


def _thread_problems(asked: int | None, machine: dict[str, Any]) -> list[str]:
    cores = machine["logical_cores"]
    if asked is not None and asked > cores:
        return [f"PYQWEN_THREADS={asked} is more than the {cores} cores this process may use"]
    quota = machine["cpu_quota"]
    if 0 < quota < 1:
        return [f"the container may use only {quota:.2f} of a core: everything will be slow"]
    return []


def _exactness_problems(exact: bool | None) -> list[str]:
    if exact:
        return ["PYQWEN_EXACT=1 selects the float32 reference path, which is several times slower"]
    return []


def _memory_problems(machine: dict[str, Any]) -> list[str]:
    free = machine["available_bytes"]
    if free < 2 * _GIB:
        return [
            f"only {format_bytes(free)} of memory are available; the default model takes about "
            "1.6 GB: close other programs, or try qwen2.5-0.5b or a shorter context (-c)"
        ]
    return []


def _cache_problems(cache: dict[str, Any]) -> list[str]:
    problems = []
    if not cache["writable"]:
        problems.append(
            f"{cache['path']} is not a directory that can be written, and cannot become one: set "
            "PYQWEN_CACHE to another one"
        )
    if cache["free_bytes"] < 2 * _GIB and not cache["models"]:
        problems.append(
            f"{cache['path']}: {format_bytes(cache['free_bytes'])} free is little for a model; "
            "set PYQWEN_CACHE and HF_HUB_CACHE to directories on a larger disk"
        )
    return problems
