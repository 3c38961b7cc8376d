"""What all APIs of one server share: its models, settings and counters, and how a request gets a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pyqwen.serve.adapters import choose_adapter
from pyqwen.serve.asking import Answers, Ask, WholeAnswers, answering
from pyqwen.serve.metrics import Metrics
from pyqwen.serve.registry import Lease, Registry
from pyqwen.serve.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Core:
    """One server; nothing of it is global. ``streams``: whether any request may ask for a stream."""

    registry: Registry
    settings: ServerSettings
    metrics: Metrics
    streams: bool = True

    @asynccontextmanager
    async def running(self, lease: Lease, asks: Sequence[Ask]) -> AsyncIterator[list[Answers]]:
        """Run what a request asks of its model; leaving stops the model."""
        kind = Answers if self.streams else WholeAnswers
        for ask in asks:
            choose_adapter(ask.options, lease, self.registry.adapters_of(lease.served))
        async with answering(lease.model, asks, self.metrics, kind) as answers:
            yield answers

    @property
    def waiting(self) -> int:
        """Requests beyond those that run together."""
        waiting = 0
        for served in self.registry.all:
            together = served.model.max_sequences if served.model is not None else 0
            waiting += max(0, served.users - together)
        return waiting
