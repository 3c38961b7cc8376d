"""Model: what users import. It opens a file and turns calls into requests to the engine."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypedDict, Unpack

from pyqwen import _native
from pyqwen.catalog.public import DownloadProgress, stoppable
from pyqwen.drafting import Draft, checked_draft, open_drafts
from pyqwen.embeddings import Embeddings
from pyqwen.engine.calls import Calls
from pyqwen.engine.engine import Engine
from pyqwen.engine.session import Session
from pyqwen.errors import ClosedError
from pyqwen.infilling import Infilling
from pyqwen.loading.adapters.open_adapter import AdapterPaths, checked_adapters
from pyqwen.loading.config import ModelConfig
from pyqwen.loading.generation_defaults import is_coder, read_defaults
from pyqwen.loading.gguf_file import Load
from pyqwen.loading.residence import Residence
from pyqwen.loading.settings import (
    DEFAULT_BATCH,
    DEFAULT_MAX_SEQUENCES,
    checked_bytes,
    checked_seconds,
    resolve_settings,
)
from pyqwen.loading.weights import Weights
from pyqwen.sampling import SamplingParams
from pyqwen.scores import Scores
from pyqwen.several import SeveralAnswers
from pyqwen.text.chat_template import ChatTemplate, template_metadata
from pyqwen.text.embedding_settings import embedding_metadata
from pyqwen.text.infill import find_infill
from pyqwen.text.tokenizer import Tokenizer
from pyqwen.tool_runs import ToolRuns

if TYPE_CHECKING:
    import asyncio

if TYPE_CHECKING:
    from pyqwen.constraints.grammars import Grammars

_log = logging.getLogger("pyqwen")


class OpenOptions(TypedDict, total=False):
    """The keywords of ``Model``."""

    context: int | None
    threads: int | None
    kv_type: _native.KVType | None
    load: Load
    cache: bool
    max_sequences: int
    isa: str | None
    exact: bool | None
    batch: int
    unload_after: float | None
    draft: Draft
    prefix_cache_bytes: int | None
    adapters: AdapterPaths | None
    progress: _native.Progress | None
    download_progress: DownloadProgress | None


class Model(ToolRuns, SeveralAnswers, Infilling, Scores, Embeddings):
    """A model that is loaded and ready to answer.

    Any number of threads and asyncio tasks may call it at once; up to ``max_sequences`` requests run
    together, more wait for their turn. Results do not depend on that, nor on threads or caches.
    Close it, use it as a context manager, or let go of it.

    A *prompt* (``generate``, ``stream``) is a text or token ids, continued as it stands. *Messages*
    (``chat``, ``stream_chat``) are a user's text, or a list of dicts with ``role`` ("system", "user",
    "assistant", "tool") and ``content``, which the chat template of the file makes a prompt of. The
    names with an ``a`` in front are the same for asyncio.

    Attributes, none of which can be set:

    - ``path``: the file, of a split model its first; ``config``: its hyperparameters.
    - ``tokenizer``: ``encode(text)`` and ``decode(ids)``, among others; ``chat_template``.
    - ``defaults``: the ``SamplingParams`` that the model recommends; ``default_origins``: which of
      them come from the "file" and which are published for its "family".
    - ``context``: the most tokens of one request; ``max_sequences``: how many requests run together.
    - ``threads``, ``isa``, ``kv_type``, ``exact``: how it computes.
    - ``adapters``: the paths of its adapters by name.
    - ``weight_bytes``, ``kv_bytes``: memory of the weights, and of the cache now.
    - ``loaded``: whether the weights are in memory now (see ``unload_after``); ``closed``: whether
      it was closed.
    """

    def __init__(
        self,
        path_or_name: str | os.PathLike[str],
        *,
        context: int | None = None,
        threads: int | None = None,
        kv_type: _native.KVType | None = None,
        load: Load = "mmap",
        cache: bool = True,
        max_sequences: int = DEFAULT_MAX_SEQUENCES,
        isa: str | None = None,
        exact: bool | None = None,
        batch: int = DEFAULT_BATCH,
        unload_after: float | None = None,
        draft: Draft = None,
        prefix_cache_bytes: int | None = None,
        adapters: AdapterPaths | None = None,
        progress: _native.Progress | None = None,
        download_progress: DownloadProgress | None = None,
    ) -> None:
        """Load a GGUF file, or a model of the catalog or the cache by its name.

        - ``context``: the most tokens of one request, prompt and answer; None: as trained. Memory
          for it is taken as it is used.
        - ``threads``: None: ``PYQWEN_THREADS``, else the performance cores of this machine.
        - ``kv_type``: type of the KV cache, ``"f16"``, ``"q8_0"``, ``"q5_1"``, ``"q4_0"`` or ``"f32"``,
          or those of keys and of values, such as ``("q8_0", "q5_1")``; ``"auto"``: f16, or the best
          smaller one where the context would not fit the memory that is free. None: f16.
        - ``max_sequences``: how many requests run together. Each takes memory of its own for its
          tokens; see ``pyqwen.plan``.
        - ``load``: ``"copy"`` reads the file, so that nobody can change the weights afterwards.
        - ``cache``: map the packed weights that an earlier model of this file left in the cache, and
          leave them there if there are none: they take as much of the disk as the file, and are
          written while the model runs. Not with ``"copy"``.
        - ``isa``: instruction set; None: ``PYQWEN_ISA``, else the best one here.
        - ``exact``: float32 activations, slow, the reference (the KV cache is f32 then unless
          ``kv_type`` is given); None: ``PYQWEN_EXACT``.
        - ``batch``: rows evaluated together while prompts are read.
        - ``unload_after``: free weights and cache after so many seconds without a request. The next
          one loads them again, from the packed weights if there are any: the answers are the same,
          but what was read before is read again. It raises ``ModelNotFoundError`` or
          ``ModelChangedError`` if the file is not what it was. None: never.
        - ``draft``: what guesses the next tokens, so that one pass checks several: ``"ngram"`` looks
          them up in the text and in recent answers; a path, a name or an open ``Model`` is a smaller
          one of the same vocabulary, which guesses where nothing is found. Answers stay the same, bit
          for bit. It is used as far as it is measured to pay.
        - ``prefix_cache_bytes``: how much of the KV cache is kept of earlier requests, so that what
          they read or wrote is not computed again, least recently used first to go; 0: nothing.
          None: what those that run leave of what ``plan`` says for as many requests as ever ran
          together: of one context where they come one after the other. Open sessions count, too.
        - ``adapters``: LoRA adapters by the names that calls then give (``adapter="name"``, or
          ``{"name": factor}``): directories of PEFT, or GGUF files. They are held beside the weights, and
          requests with different ones run together.
        - ``progress``: called with bytes done and bytes in all while loading; False stops it.
        - ``download_progress``: the same while a model that is not here is fetched.

        Raises ``ModelFileError`` (and those under it), ``OutOfMemoryError``, ``ValueError``.
        """
        from pyqwen import catalog

        settings = resolve_settings(
            context=context,
            threads=threads,
            kv_type=kv_type,
            isa=isa,
            exact=exact,
            max_sequences=max_sequences,
            batch=batch,
            load=load,
            cache=cache,
        )
        unload_after = checked_seconds("unload_after", unload_after)
        prefix_cache_bytes = checked_bytes("prefix_cache_bytes", prefix_cache_bytes)
        checked_draft(draft)
        paths = checked_adapters(adapters)
        self.path: Path = catalog.resolve(
            os.fspath(path_or_name), progress=stoppable(download_progress)
        )
        self.adapters: Mapping[str, Path] = MappingProxyType(paths)
        self._residence = Residence(self.path, settings, paths)
        with ExitStack() as undo:
            undo.callback(self._residence.unload)  # by a failure below, else by the engine
            weights, session = self._residence.first_load(progress)
            self.context: int = session.context
            self.threads: int = session.threads
            self._batch = session.batch
            self._describe(weights)
            speculator = open_drafts(draft, weights, download_progress)
            if speculator is not None:
                undo.callback(speculator.unload)
            self._engine = Engine(
                session, self._residence, unload_after, speculator, prefix_cache_bytes
            )
            undo.callback(self._engine.close)
            self._engine.start()
            self._finalizer = weakref.finalize(self, _close, self._engine, self._closers)
            undo.pop_all()

    @classmethod
    async def aopen(
        cls, path_or_name: str | os.PathLike[str], **options: Unpack[OpenOptions]
    ) -> Self:
        """As ``Model(...)``, beside a running event loop. Cancelling the task stops the loading.

        Progress functions are called from another thread.
        """
        import asyncio

        stop = threading.Event()

        def watched(progress: _native.Progress | None) -> _native.Progress:
            def watch(done: int, total: int) -> bool | None:
                if stop.is_set():
                    return False
                return progress(done, total) if progress is not None else None

            return watch

        options["progress"] = watched(options.get("progress"))
        options["download_progress"] = watched(options.get("download_progress"))
        opening = asyncio.ensure_future(asyncio.to_thread(lambda: cls(path_or_name, **options)))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            stop.set()
            opening.add_done_callback(_close_if_open)
            raise

    def _describe(self, weights: Weights) -> None:
        """Note what was loaded: the facts that do not change any more."""
        self.tokenizer: Tokenizer = weights.tokenizer
        self.config = ModelConfig.from_native(weights.model.config)
        self._template_metadata = template_metadata(weights.file.metadata)  # the file may be closed
        self._embedding_metadata = embedding_metadata(weights.file.metadata)
        self._source = self.path.name
        defaults = read_defaults(
            weights.file.metadata,
            hidden=self.config.hidden,
            layers=self.config.layers,
            source=self.path.name,
        )
        self.defaults: SamplingParams = defaults.params
        self.default_origins: Mapping[str, str] = defaults.origins
        for line in defaults.ignored:
            _log.warning("%s", line)
        self.kv_type: _native.KVType = weights.settings.kv_type
        self.isa: str = weights.model.isa
        self.exact: bool = weights.settings.exact
        self.max_sequences: int = weights.settings.max_sequences
        self.weight_bytes: int = weights.model.weight_bytes
        self._templates: dict[str | None, ChatTemplate] = {}
        self._template_lock = threading.Lock()
        self._grammars: Grammars | None = None  # made with the first constraint
        self._grammars_lock = threading.Lock()
        self._closers = ExitStack()
        model = weakref.proxy(self)  # no circle: a model that nobody holds is freed at once
        self._calls = Calls(
            self.tokenizer,
            template=lambda name: model._named_template(name),
            defaults=defaults.params,
            without_thinking=defaults.without_thinking,
            context=self.context,
            config=self.config,
            grammars=lambda: model._grammar_compiler(),
            is_coder=is_coder(weights.file.metadata),
            infill=find_infill(weights.file.metadata, self.tokenizer),
            source=self.path.name,
            open_session=lambda: model.session(),
            adapters=self.adapters,
        )

    def _grammar_compiler(self) -> Grammars:
        from pyqwen.constraints.grammars import Grammars

        with self._grammars_lock:
            if self._grammars is None:
                self._grammars = Grammars(self.tokenizer)
                self._closers.callback(self._grammars.close)
            return self._grammars

    def session(self, *, adapter: str | Mapping[str, float] | None = None) -> Session:
        """A session, empty: positions of one text that stay in the cache, with explicit steps.

        ``sync(ids)`` and ``eval(ids)`` read, ``logits`` are those after the last token, ``rewind(n)``
        goes back. See :class:`pyqwen.Session`. ``adapter`` as in ``generate``: what reads its tokens.
        """
        self._engine.check_caller()
        return Session(
            self,
            self._engine,
            check=self._calls.checked_ids,
            context=self.context,
            vocab_rows=self.config.vocab_rows,
            model=self.path,
            adapter=self._calls.checked_adapter(adapter),
        )

    # Lifetime

    def close(self) -> None:
        """Free the model. Requests that are running end with ``CancelledError``. May be called twice."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the model was closed."""
        return self._engine.is_closed

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory now; where they are not, the next request loads them."""
        return self._engine.is_loaded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Model cannot be pickled or copied: open the file again where it is needed"
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.isa}, {self.threads} threads"
        return f"<Model {self.path.name}: context {self.context:,}, {state}>"

    def finish_cache(self, timeout: float | None = None) -> bool:
        """Wait until the packed weights are in the cache, at most ``timeout`` seconds.

        They are written beside other work after loading, and abandoned by ``close``. Returns
        whether nothing is left to do.
        """
        writer = self._residence.writer
        return writer is None or writer.finish(timeout)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the KV cache takes now."""
        return self._engine.kv_bytes

    @property
    def chat_template(self) -> ChatTemplate:
        """The template of the file; ``TemplateError`` if the model has none."""
        return self._named_template(None)

    def _named_template(self, name: str | None) -> ChatTemplate:
        with self._template_lock:
            if name not in self._templates:
                if self.closed:
                    raise ClosedError("the model was closed")
                self._templates[name] = ChatTemplate.from_metadata(
                    self._template_metadata, self.tokenizer, name=name, source=self.path.name
                )
            return self._templates[name]


def _close(engine: Engine, others: ExitStack) -> None:
    engine.close()
    others.close()


def _close_if_open(opening: asyncio.Future[Any]) -> None:
    """Free a model that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
