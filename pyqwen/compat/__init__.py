"""pyqwen.compat: llama-cpp-python's high-level API on top of pyqwen.

Programs written for it run by changing one import::

    from pyqwen.compat import Llama          # from llama_cpp import Llama

and those that import ``llama_cpp`` inside other packages (LangChain, LlamaIndex) after::

    import pyqwen.compat
    pyqwen.compat.install()

The interface is that of llama-cpp-python 0.3.36. Its bindings of llama.h are not here.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqwen.compat.llama import Llama as Llama

__version__ = "0.3.36"
"""The version of llama-cpp-python whose interface this is."""

_SUBMODULES = (
    *("llama", "llama_cache", "llama_chat_format", "llama_cpp", "llama_grammar"),
    *("llama_speculative", "llama_tokenizer", "llama_types"),
)
# Where names of the package are found, in this order; llama_types and the constants have many.
_SOURCES = (
    *("llama", "llama_grammar", "llama_cache", "llama_tokenizer", "llama_speculative"),
    *("llama_types", "llama_cpp"),
)


def install() -> None:
    """Let ``import llama_cpp``, anywhere in this process, find this package.

    ``RuntimeError`` if llama-cpp-python itself was imported before.
    """
    known = sys.modules.get("llama_cpp")
    if known is not None and known is not sys.modules[__name__]:
        raise RuntimeError(
            "llama-cpp-python was imported already: call pyqwen.compat.install() before"
        )
    for name in _SUBMODULES:
        sys.modules[f"llama_cpp.{name}"] = import_module(f"{__name__}.{name}")
    sys.modules["llama_cpp"] = sys.modules[__name__]


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    for source in _SOURCES:
        module = import_module(f"{__name__}.{source}")
        if name in vars(module):
            value = vars(module)[name]
            globals()[name] = value
            return value
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: it has llama-cpp-python's high-level API, and "
        "of its bindings of llama.h the constants that Llama takes"
    )
