"""The models of the server as /v1/models lists them."""

from __future__ import annotations

from typing import Any

from pyqwen.serve.core import Core
from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import Exchange
from pyqwen.serve.fields import RawJson, now
from pyqwen.serve.registry import ANY_NAME, Served


class Models:
    """GET /v1/models and /v1/models/NAME."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._created = now()

    async def list(self, exchange: Exchange) -> None:
        data = [
            self._entry(name, served)
            for served in self._core.registry.all
            for name in (served.name, *served.aliases)
            if name != ANY_NAME
        ]
        for name, served in self._core.registry.adapters.items():
            data.append(self._adapter(name, served))
        await exchange.reply({"object": "list", "data": data})

    async def one(self, exchange: Exchange) -> None:
        name = exchange.scope["path_params"]["name"]
        if (whose := self._core.registry.adapters.get(name)) is not None:
            await exchange.reply(self._adapter(name, whose))
            return
        await exchange.reply(self._entry(name, self._core.registry.find(name)))

    def _adapter(self, name: str, served: Served) -> RawJson:
        """As vLLM lists it: a model whose parent is another one."""
        return {**self._entry(name, served), "aliases": [], "parent": served.name}

    def _entry(self, name: str, served: Served) -> RawJson:
        entry: RawJson = {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "pyqwen",
            "aliases": [alias for alias in served.aliases if alias != ANY_NAME],
            "status": {"value": "loaded" if served.model is not None else "unloaded"},
        }
        if served.model is not None:
            config = served.model.config
            entry["meta"] = {
                "n_vocab": config.real_tokens,
                "n_ctx": served.model.context,
                "n_ctx_train": config.context,
                "n_embd": config.hidden,
                "size": served.model.weight_bytes,
            }
            entry["max_model_len"] = served.model.context
        return entry


def open_model(served: Served) -> Any:
    """The model if it is open; ``ApiError`` 503 while it is not."""
    if served.model is None:
        raise ApiError(503, "Loading model", code="loading", retry_after=1)
    return served.model
