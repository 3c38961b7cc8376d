"""A model in memory: brought there, taken out when nobody needs it, and brought back.

Owns what ``Model`` frees: the file, the weights, the session that runs them, and what writes their packed
form. The engine's worker is its only user after the first ``load``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

from pyqwen import _native
from pyqwen.errors import CancelledError, ModelChangedError, ModelNotFoundError
from pyqwen.loading.adapters.open_adapter import files_of, load_adapters
from pyqwen.loading.packed_cache import Writer, shards
from pyqwen.loading.settings import Settings
from pyqwen.loading.weights import Weights, load_weights


class Residence:
    """Weights and session of one file, there or not."""

    def __init__(
        self, path: Path, settings: Settings, adapters: Mapping[str, Path] | None = None
    ) -> None:
        """``adapters``: absolute paths by the names that sessions call them."""
        self._path = path.absolute()  # the working directory may be another one next time
        self._settings = settings
        self._adapters = adapters or {}
        self._held = ExitStack()
        self._seen: dict[Path, tuple[int, int]] = {}  # size and time of change of each file
        self.writer: Writer | None = None
        self.weights: Weights | None = None  # while they are there

    def first_load(
        self, progress: _native.Progress | None = None
    ) -> tuple[Weights, _native.SessionHandle]:
        """Load the file, its tokenizer with it. What fails leaves nothing behind."""
        return self._load(progress, is_first=True)

    def load(self, progress: _native.Progress | None = None) -> _native.SessionHandle:
        """Load the file again after ``unload``, and return a new session.

        ``ModelNotFoundError`` and ``ModelChangedError`` if it is not the file any more that it was:
        texts, templates and settings of the first time are still in use. ``progress`` as for ``Model``.
        """
        changed = next((path for path, seen in self._seen.items() if _state(path) != seen), None)
        if changed is not None:
            what = "changed" if changed.exists() else "removed"
            error = ModelChangedError if changed.exists() else ModelNotFoundError
            raise error(
                f"{changed} was {what} while the model was unloaded (unload_after): put the file "
                "back, or open the model anew"
            )
        return self._load(progress, is_first=False)[1]

    def _load(
        self, progress: _native.Progress | None, *, is_first: bool
    ) -> tuple[Weights, _native.SessionHandle]:
        with ExitStack() as held:
            weights = held.enter_context(
                load_weights(self._path, self._settings, with_tokenizer=is_first, progress=progress)
            )
            if is_first:
                self._settings = (
                    weights.settings
                )  # what was chosen stays, however much is free later
                files = shards(self._path, weights.file.shards)
                self._seen = {file: _state(file) for file in files}

            def go_on(total: int = weights.file.tensor_bytes) -> None:
                if progress is not None and progress(total, total) is False:
                    raise CancelledError("loading was cancelled")

            adapters = load_adapters(self._adapters, weights.model, go_on)
            if is_first:
                self._seen |= {file: _state(file) for file in files_of(self._adapters)}
            session = held.enter_context(closing(weights.session()))
            session.give_adapters(adapters)
            self.writer = weights.cache_writer()
            if self.writer is not None:
                held.callback(self.writer.stop)
                self.writer.start()
            self._held = held.pop_all()
            self.weights = weights
        return weights, session

    def is_settled(self) -> bool:
        """Whether the packed form is written, which later loads map; if it is not, it hurries now."""
        return self.writer is None or self.writer.finish(0)

    def unload(self) -> None:
        """Free session, weights and file; without effect if they are not there."""
        self.weights = None
        self._held.close()


def _state(path: Path) -> tuple[int, int]:
    """What changes with a file: its size and time of change; zeros if it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
