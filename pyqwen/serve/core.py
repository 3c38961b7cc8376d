"""What all APIs of one server share: its models, settings and counters, and how a request gets a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pyqwen.serve.asking import Answers, Ask, answering
from pyqwen.serve.metrics import Metrics
from pyqwen.serve.registry import Lease, Registry
from pyqwen.serve.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Core:
    """One server; nothing of it is global."""

    registry: Registry
    settings: ServerSettings
    metrics: Metrics

    @asynccontextmanager
    async def running(self, lease: Lease, asks: Sequence[Ask]) -> AsyncIterator[list[Answers]]:
        """Run what a request asks of its model; leaving stops the model."""
        async with answering(lease.model, asks, self.metrics) as answers:
            yield answers

    @property
    def waiting(self) -> int:
        """Requests beyond those that run together."""
        waiting = 0
        for served in self.registry.all:
            together = served.model.max_sequences if served.model is not None else 0
            waiting += max(0, served.users - together)
        return waiting
