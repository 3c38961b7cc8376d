"""Adapters (LoRA) over HTTP: as models of their own names, as vLLM has it, and by llama.cpp's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyqwen.serve.errors import ApiError

if TYPE_CHECKING:
    from pyqwen.serve.exchange import Exchange
    from pyqwen.serve.registry import Lease, Registry


def choose_adapter(options: dict[str, Any], lease: Lease, names: Sequence[str]) -> None:
    """Turn ``lora``, a list of numbers and factors, or else the name that was asked for as a model, into
    the option ``adapter``. ``names``: those of the model, in the order of their numbers."""
    wanted = options.pop("lora", None)
    if wanted is None:
        options["adapter"] = lease.adapter
        return
    chosen: dict[str, float] = {}
    for entry in wanted:
        if not 0 <= entry.id < len(names):
            there = f"there are {len(names)}" if names else "the model has none"
            raise ApiError(400, f"there is no adapter {entry.id}: {there}", param="lora")
        chosen[names[entry.id]] = entry.scale
    options["adapter"] = chosen or None


def refuse_adapter(lease: Lease) -> None:
    """For what is not done with an adapter."""
    if lease.adapter is not None:
        raise ApiError(
            501,
            f"{lease.name} is an adapter of {lease.served.name}, with which this is not supported",
            code="unsupported",
            param="model",
        )


class LoraAdapters:
    """llama.cpp's /lora-adapters."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list(self, exchange: Exchange) -> None:
        """The adapters of the first model; 0 says that a request for the model itself has none of them."""
        names = self._registry.adapters_of(self._registry.all[0])
        await exchange.reply(
            [
                {"id": i, "path": name, "scale": 0.0, "task_name": "", "prompt_prefix": ""}
                for i, name in enumerate(names)
            ]
        )

    async def set(self, exchange: Exchange) -> None:
        """Refused: what one client sets would change the answers of all others."""
        raise ApiError(
            501,
            "factors are not set for everybody here: give lora: [{id, scale}] with each request, or the "
            "name of the adapter as the model",
            code="unsupported",
        )
