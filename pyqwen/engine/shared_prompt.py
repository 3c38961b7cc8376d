"""A prompt that several requests have: one of them reads it, the others begin when that is done.

They find its positions in the cache of the session then. If the one that reads ends early, another goes on.
"""

from __future__ import annotations

from typing import Protocol


class Reader(Protocol):
    """A request that reads a prompt."""

    done: bool

    @property
    def has_read(self) -> bool:
        """Whether the whole prompt was read."""


class SharedPrompt:
    """Who of some requests reads their prompt. Only the engine's worker asks."""

    def __init__(self) -> None:
        self._reader: Reader | None = None

    def may_start(self, request: Reader) -> bool:
        """Whether ``request`` need not wait: the prompt is read, or is for this request to read."""
        reader = self._reader
        if reader is None or (reader.done and not reader.has_read):
            self._reader = reader = request
        return reader is request or reader.has_read
