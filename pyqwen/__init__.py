"""pyqwen: quantized inference of Qwen2.5 models on ordinary CPUs.

    from pyqwen import Model

    with Model("qwen2.5-coder-1.5b") as model:
        print(model.chat("Write a haiku about the sea.").text)

Names are imported from their modules when they are first used, so that ``import pyqwen`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqwen.chat_template import ChatTemplate
    from pyqwen.config import ModelConfig
    from pyqwen.errors import (
        CancelledError,
        ClosedError,
        ConstraintError,
        ContextOverflowError,
        ModelChangedError,
        ModelFileError,
        ModelFormatError,
        ModelNotFoundError,
        NumericError,
        OutOfMemoryError,
        PyQwenError,
        TemplateError,
        UnsupportedModelError,
    )
    from pyqwen.inspection import Inspection, inspect
    from pyqwen.memory_plan import MemoryPlan, plan
    from pyqwen.model import Model
    from pyqwen.results import ChatCompletion, Chunk, Completion, Timings, TokenLogprob, Usage
    from pyqwen.sampling import SamplingParams
    from pyqwen.stream import AsyncStream, Stream
    from pyqwen.tokenizer import Tokenizer

_MODULES = {
    "AsyncStream": "stream",
    "CancelledError": "errors",
    "ChatCompletion": "results",
    "ChatTemplate": "chat_template",
    "Chunk": "results",
    "ClosedError": "errors",
    "Completion": "results",
    "ConstraintError": "errors",
    "ContextOverflowError": "errors",
    "Inspection": "inspection",
    "MemoryPlan": "memory_plan",
    "Model": "model",
    "ModelChangedError": "errors",
    "ModelConfig": "config",
    "ModelFileError": "errors",
    "ModelFormatError": "errors",
    "ModelNotFoundError": "errors",
    "NumericError": "errors",
    "OutOfMemoryError": "errors",
    "PyQwenError": "errors",
    "SamplingParams": "sampling",
    "Stream": "stream",
    "TemplateError": "errors",
    "Timings": "results",
    "TokenLogprob": "results",
    "Tokenizer": "tokenizer",
    "UnsupportedModelError": "errors",
    "Usage": "results",
    "inspect": "inspection",
    "plan": "memory_plan",
}

__all__ = [
    "AsyncStream",
    "CancelledError",
    "ChatCompletion",
    "ChatTemplate",
    "Chunk",
    "ClosedError",
    "Completion",
    "ConstraintError",
    "ContextOverflowError",
    "Inspection",
    "MemoryPlan",
    "Model",
    "ModelChangedError",
    "ModelConfig",
    "ModelFileError",
    "ModelFormatError",
    "ModelNotFoundError",
    "NumericError",
    "OutOfMemoryError",
    "PyQwenError",
    "SamplingParams",
    "Stream",
    "TemplateError",
    "Timings",
    "TokenLogprob",
    "Tokenizer",
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "inspect",
    "plan",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("pyqwen")
    elif name in _MODULES:
        value = getattr(import_module(f"pyqwen.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module 'pyqwen' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
