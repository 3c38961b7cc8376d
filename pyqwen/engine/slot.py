"""A slot: one sequence of the session, and what it holds."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyqwen._native import Adapters


@dataclass(eq=False, slots=True)
class Slot:
    """One sequence of the session: the tokens whose keys and values it holds, and its state."""

    index: int
    adapter: Adapters | None = None  # with which these were computed
    salt: Hashable = None  # what they depend on, the adapter among it
    tokens: list[int] = field(default_factory=list)
    in_use: bool = False  # by a request that is running; otherwise it is empty
