"""What breaks the runs that DRY finds: made once for each set of texts, and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from pyqwen._native import BreakersHandle

if TYPE_CHECKING:
    from pyqwen.text.tokenizer import Tokenizer

_KEPT = 4  # sets of texts; each has a copy of the vocabulary


class Breakers:
    """The breakers of one model; any number of threads may ask."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._made: OrderedDict[tuple[str, ...], BreakersHandle] = OrderedDict()

    def of(self, texts: tuple[str, ...]) -> BreakersHandle | None:
        """The breakers ``texts``, which are checked; None for none."""
        if not texts:
            return None
        with self._lock:
            if texts not in self._made:
                encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
                self._made[texts] = BreakersHandle(*self._tokenizer.all_bytes(), encoded)
                if len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            self._made.move_to_end(texts)
            return self._made[texts]
