"""A loaded model without the engine around it, for what measures or observes: sessions of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyqwen import _native
from pyqwen.loading import environment, packed_cache
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Weights:
    """An open file, what was loaded from it, and how sessions are to run it."""

    path: Path
    file: GGUFFile
    model: _native.ModelHandle
    threads: int
    kv_type: str

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the file."""
        return Tokenizer.from_metadata(self.file.metadata, source=str(self.path))

    def session(self, context: int) -> _native.SessionHandle:
        """Return a new session for one sequence of up to ``context`` tokens; close it."""
        return _native.SessionHandle(
            self.model, context=context, threads=self.threads, kv_type=self.kv_type
        )


@contextmanager
def open_weights(
    path: Path,
    *,
    threads: int | None = None,
    kv_type: str | None = None,
    coarse: bool = False,
    cache: bool = True,
    progress: _native.Progress | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[Weights]:
    """Load the model in ``path`` and free it at the end.

    Settings that are None come from the environment, else from the defaults. ``coarse`` rounds
    activations as llama.cpp does, which is worse than as we do, to measure what it would. While loading,
    ``progress`` gets bytes done and bytes in all, and setting ``cancel`` raises ``CancelledError``.
    ``cache`` maps packed weights that are there; none are stored, which would disturb what is measured.
    """
    isa, exact = environment.isa(), environment.exact()
    threads = threads or environment.threads() or _native.default_threads()
    kv_type = kv_type or ("f32" if exact else "f16")

    def watch(done: int, total: int) -> bool | None:  # with it, Ctrl-C is noticed, too
        if cancel is not None and cancel.is_set():
            return False
        return progress(done, total) if progress is not None else None

    with GGUFFile(path) as file:
        packed = packed_cache.locate(file, path, isa=isa, exact=exact) if cache else None
        model = _native.ModelHandle(
            file.handle,
            isa=isa,
            threads=threads,
            exact=exact,
            coarse=coarse,
            progress=watch,
            packed=packed.path if packed is not None and packed.exists else None,
        )
        with closing(model):
            yield Weights(path, file, model, threads, kv_type)
