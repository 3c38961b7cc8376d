"""What the engine asks of whoever holds the model's memory (``loading/residence.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pyqwen._native import Progress, SessionHandle


class Residence(Protocol):
    """A model that is in memory or not."""

    def load(self, progress: Progress) -> SessionHandle:
        """Bring an unloaded model back; ``progress`` returning False stops it (``CancelledError``)."""

    def is_settled(self) -> bool:
        """Whether nothing is in progress that unloading would break off; what is, hurries then."""

    def unload(self) -> None:
        """Free session and weights."""
