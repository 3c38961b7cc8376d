"""pyqwen: quantized inference of Qwen2.5 and Qwen3 models on ordinary CPUs.

    from pyqwen import Model

    with Model("qwen2.5-coder-1.5b") as model:
        print(model.chat("Write a haiku about the sea.").text)

Names are imported from their modules when they are first used, so that ``import pyqwen`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqwen.batches.public import BatchResult, batch
    from pyqwen.catalog.public import pull
    from pyqwen.constraints.constraint import Constraint
    from pyqwen.engine.session import Session
    from pyqwen.engine.stream import AsyncStream, Stream
    from pyqwen.errors import (
        CancelledError,
        ClosedError,
        ConstraintError,
        ContextOverflowError,
        FileAccessError,
        ModelChangedError,
        ModelFileError,
        ModelFormatError,
        ModelNotFoundError,
        NoThreadError,
        NumericError,
        OutOfMemoryError,
        PyQwenError,
        SessionFileError,
        TemplateError,
        UnsupportedModelError,
    )
    from pyqwen.loading.config import ModelConfig
    from pyqwen.loading.inspection import Inspection, inspect
    from pyqwen.loading.memory_plan import MemoryPlan, plan
    from pyqwen.model import Model
    from pyqwen.results import (
        ChatCompletion,
        Chunk,
        Completion,
        Timings,
        TokenLogprob,
        ToolCall,
        ToolCallDelta,
        Usage,
    )
    from pyqwen.sampling import SamplingParams
    from pyqwen.text.chat_template import ChatTemplate
    from pyqwen.text.tokenizer import Tokenizer
    from pyqwen.tool_runs import AsyncToolRun, ToolRun
    from pyqwen.tools.loop import ToolResult

_MODULES = {
    "AsyncStream": "engine.stream",
    "AsyncToolRun": "tool_runs",
    "BatchResult": "batches.public",
    "CancelledError": "errors",
    "ChatCompletion": "results",
    "ChatTemplate": "text.chat_template",
    "Chunk": "results",
    "ClosedError": "errors",
    "Completion": "results",
    "Constraint": "constraints.constraint",
    "ConstraintError": "errors",
    "ContextOverflowError": "errors",
    "FileAccessError": "errors",
    "Inspection": "loading.inspection",
    "MemoryPlan": "loading.memory_plan",
    "Model": "model",
    "ModelChangedError": "errors",
    "ModelConfig": "loading.config",
    "ModelFileError": "errors",
    "ModelFormatError": "errors",
    "ModelNotFoundError": "errors",
    "NoThreadError": "errors",
    "NumericError": "errors",
    "OutOfMemoryError": "errors",
    "PyQwenError": "errors",
    "SamplingParams": "sampling",
    "Session": "engine.session",
    "SessionFileError": "errors",
    "Stream": "engine.stream",
    "TemplateError": "errors",
    "Timings": "results",
    "TokenLogprob": "results",
    "Tokenizer": "text.tokenizer",
    "ToolCall": "results",
    "ToolCallDelta": "results",
    "ToolResult": "tools.loop",
    "ToolRun": "tool_runs",
    "UnsupportedModelError": "errors",
    "Usage": "results",
    "batch": "batches.public",
    "inspect": "loading.inspection",
    "plan": "loading.memory_plan",
    "pull": "catalog.public",
}

__all__ = [
    "AsyncStream",
    "AsyncToolRun",
    "BatchResult",
    "CancelledError",
    "ChatCompletion",
    "ChatTemplate",
    "Chunk",
    "ClosedError",
    "Completion",
    "Constraint",
    "ConstraintError",
    "ContextOverflowError",
    "FileAccessError",
    "Inspection",
    "MemoryPlan",
    "Model",
    "ModelChangedError",
    "ModelConfig",
    "ModelFileError",
    "ModelFormatError",
    "ModelNotFoundError",
    "NoThreadError",
    "NumericError",
    "OutOfMemoryError",
    "PyQwenError",
    "SamplingParams",
    "Session",
    "SessionFileError",
    "Stream",
    "TemplateError",
    "Timings",
    "TokenLogprob",
    "Tokenizer",
    "ToolCall",
    "ToolCallDelta",
    "ToolResult",
    "ToolRun",
    "UnsupportedModelError",
    "Usage",
    "__version__",
    "batch",
    "inspect",
    "plan",
    "pull",
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
