"""Caches of states, as programs hand them to ``Llama.set_cache``.

They are asked and filled as llama-cpp-python does it. What saves the time is the model's own prefix cache,
which needs no ``set_cache``: a state here names tokens, and holds a copy of what was computed only where
``Llama.save_state`` was called by the program itself.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from pyqwen.compat.notices import warn_once

DEFAULT_CAPACITY = 2 << 30


def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    count = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        count += 1
    return count


class BaseLlamaCache(ABC):
    """What ``Llama.set_cache`` takes: states by the tokens that they hold."""

    def __init__(self, capacity_bytes: int = DEFAULT_CAPACITY) -> None:
        self.capacity_bytes = capacity_bytes

    @property
    @abstractmethod
    def cache_size(self) -> int:
        """Bytes of all states."""

    @abstractmethod
    def __getitem__(self, key: Sequence[int]) -> Any:
        """The state with the longest beginning in common with ``key``; ``KeyError`` if there is none."""

    @abstractmethod
    def __contains__(self, key: Sequence[int]) -> bool:
        """Whether some state begins as ``key`` does."""

    @abstractmethod
    def __setitem__(self, key: Sequence[int], value: Any) -> None:
        """Keep a state; the oldest go where they do not fit."""


class LlamaRAMCache(BaseLlamaCache):
    """States in memory, the least recently used leaving first."""

    def __init__(self, capacity_bytes: int = DEFAULT_CAPACITY) -> None:
        super().__init__(capacity_bytes)
        self.cache_state: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def cache_size(self) -> int:
        return sum(state.llama_state_size for state in self.cache_state.values())

    def _find(self, key: Sequence[int]) -> tuple[int, ...] | None:
        best, longest = None, 0
        for known in self.cache_state:
            common = longest_token_prefix(known, key)
            if common > longest:
                best, longest = known, common
        return best

    def __getitem__(self, key: Sequence[int]) -> Any:
        with self._lock:
            found = self._find(key)
            if found is None:
                raise KeyError("no state begins with any of these tokens")
            self.cache_state.move_to_end(found)
            return self.cache_state[found]

    def __contains__(self, key: Sequence[int]) -> bool:
        with self._lock:
            return self._find(key) is not None

    def __setitem__(self, key: Sequence[int], value: Any) -> None:
        with self._lock:
            self.cache_state[tuple(key)] = value
            self.cache_state.move_to_end(tuple(key))
            while self.cache_state and self.cache_size > self.capacity_bytes:
                self.cache_state.popitem(last=False)


LlamaCache = LlamaRAMCache


class LlamaDiskCache(LlamaRAMCache):
    """Accepted, and kept in memory: ``Llama.save_state`` and pyqwen's sessions are what files are for."""

    def __init__(
        self, cache_dir: str = ".cache/llama_cache", capacity_bytes: int = DEFAULT_CAPACITY
    ) -> None:
        super().__init__(capacity_bytes)
        warn_once("LlamaDiskCache", "states are kept in memory, nothing is written to the disk")
