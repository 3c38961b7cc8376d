"""Serving models over HTTP, to the clients of OpenAI, Anthropic, Ollama and llama.cpp.

    from pyqwen.serve import create_app

    app = create_app("qwen2.5-coder-1.5b")      # an ASGI application, to be run or mounted anywhere

``pyqwen serve`` runs it. Needs the extra ``serve`` (``pip install "pyqwen[serve]"``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqwen.serve.app import Application, create_app
    from pyqwen.serve.settings import ServerSettings

__all__ = ["Application", "ServerSettings", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "ServerSettings":
        from pyqwen.serve import settings as module
    elif name in __all__:
        module = _application()
    else:
        raise AttributeError(f"module 'pyqwen.serve' has no attribute {name!r}")
    return getattr(module, name)


def _application() -> Any:
    try:
        import msgspec
        import starlette  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"serving needs {error.name}, which comes with: pip install 'pyqwen[serve]'",
            name=error.name,
        ) from error
    del msgspec
    from pyqwen.serve import app

    return app
