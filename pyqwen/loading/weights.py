"""Opening a model, written once: its file, its packed form, its weights, and the tokenizer beside them.

`Model` puts the engine around it; what measures or observes opens sessions of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from pyqwen import _native
from pyqwen.loading import packed_cache
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.memory_plan import with_kv_type
from pyqwen.loading.settings import Settings, resolve_settings
from pyqwen.text.tokenizer import Tokenizer


class Weights:
    """An open file, what was loaded from it, and how sessions are to run it. Close it after use."""

    def __init__(
        self,
        path: Path,
        file: GGUFFile,
        model: _native.ModelHandle,
        settings: Settings,
        not_kept: packed_cache.PackedFile | None = None,
    ) -> None:
        """``load_weights`` makes one; ``not_kept``: the packed form, where the cache has none that is
        whole."""
        self.path = path
        self.file = file
        self.model = model
        self.settings = settings
        self._not_kept = not_kept

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the file."""
        return _read_tokenizer(self.file, self.path)

    def cache_writer(self) -> packed_cache.Writer | None:
        """Return what keeps the packed form for the next start; None if there is nothing to keep."""
        if self._not_kept is None:
            return None
        if self.model.packed_problem:
            packed_cache.report_problem(self._not_kept, self.model.packed_problem)
        return packed_cache.Writer(self.model, self._not_kept)

    def session(
        self, context: int | None = None, *, threads: int | None = None
    ) -> _native.SessionHandle:
        """Return a new session; close it. None stands for what the settings say."""
        settings = self.settings
        return _native.SessionHandle(
            self.model,
            context=context or settings.context or 0,
            sequences=settings.max_sequences,
            threads=threads or settings.threads,
            batch=settings.batch,
            kv_type=settings.kv_type,
        )

    def close(self) -> None:
        """Give up the weights and the file; sessions that are open keep what they need."""
        self.model.close()
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def load_weights(
    path: Path,
    settings: Settings,
    *,
    with_tokenizer: bool = False,
    progress: _native.Progress | None = None,
    cancel: threading.Event | None = None,
) -> Weights:
    """Open the file ``path`` and load its weights; ``with_tokenizer``: read that meanwhile.

    ``progress`` gets bytes done and bytes in all; if it returns False, and after ``cancel`` was set,
    ``CancelledError`` is raised. What fails leaves nothing behind.
    """

    def watch(done: int, total: int) -> bool | None:  # with it, Ctrl-C is noticed, too
        if cancel is not None and cancel.is_set():
            return False
        return progress(done, total) if progress is not None else None

    with ExitStack() as undo:
        file = undo.enter_context(GGUFFile(path, settings.load))
        settings = with_kv_type(file, settings)
        with ThreadPoolExecutor(1, "pyqwen-open") as beside:
            tokenizer = _begin_reading(beside, file, path) if with_tokenizer else None
            packed = None
            if settings.cache:
                packed = packed_cache.locate(file, path, isa=settings.isa, exact=settings.exact)
            stored = packed is not None and packed.exists
            model = _native.ModelHandle(
                file.handle,
                isa=settings.isa,
                threads=settings.threads,
                exact=settings.exact,
                coarse=settings.coarse,
                progress=watch,
                packed=packed.path if packed is not None and stored else None,
            )
            undo.callback(model.close)
            not_kept = None if stored and not model.packed_problem else packed
            weights = Weights(path, file, model, settings, not_kept)
            if tokenizer is not None:
                weights.tokenizer = tokenizer.result()
        undo.pop_all()
    return weights


@contextmanager
def open_weights(
    path: Path,
    *,
    threads: int | None = None,
    kv_type: _native.KVType | None = None,
    coarse: bool = False,
    cache: bool = True,
    progress: _native.Progress | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[Weights]:
    """Load the model in ``path`` to measure it, one sequence at a time, and free it at the end.

    The rest as in ``resolve_settings`` and ``load_weights``. ``cache`` maps packed weights that are
    there; none are stored, which would disturb what is measured.
    """
    settings = resolve_settings(
        threads=threads, kv_type=kv_type, coarse=coarse, cache=cache, max_sequences=1
    )
    with load_weights(path, settings, progress=progress, cancel=cancel) as weights:
        yield weights


def _begin_reading(
    beside: ThreadPoolExecutor, file: GGUFFile, path: Path
) -> Future[Tokenizer] | None:
    """Read the tokenizer on another thread; None if there can be none: it is read later then."""
    try:
        return beside.submit(_read_tokenizer, file, path)
    except RuntimeError:
        return None


def _read_tokenizer(file: GGUFFile, path: Path) -> Tokenizer:
    return Tokenizer.from_metadata(file.metadata, source=path.name)
