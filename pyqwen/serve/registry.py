"""The models of a server by their names: opened when they are asked for, closed when nobody needs them.

Owns who waits for whom. A request holds a :class:`Lease`, and a model with leases is never closed. Opening
takes seconds and runs on a thread of its own, so that any event loop may wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqwen.errors import OutOfMemoryError
from pyqwen.loading.adapters.open_adapter import checked_adapters
from pyqwen.loading.memory_plan import MemoryPlan, plan
from pyqwen.model import Model, OpenOptions
from pyqwen.serve.errors import ApiError
from pyqwen.serve.settings import ServerSettings

_log = logging.getLogger("pyqwen.serve")

ANY_NAME = "*"
"""An alias that stands for every name that is not known."""

Source = str | os.PathLike[str] | Model
Sources = Source | Sequence[Source] | Mapping[str, Source]


@dataclass(eq=False)
class Served:
    """A model that the server can answer with.

    ``model`` is there while it is open; ``users`` counts its leases. A model that was handed over open
    (``is_lent``) is never closed here.
    """

    name: str
    source: str | None
    aliases: tuple[str, ...] = ()
    model: Model | None = None
    is_lent: bool = False
    users: int = 0
    last_used: float = 0.0
    unload_after: float | None = None
    opening: Future[Model] | None = None
    timer: threading.Timer | None = None
    load_seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The file, where it is known without opening it."""
        if self.model is not None:
            return self.model.path
        return Path(self.source) if self.source is not None else None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to use an open model."""

    served: Served
    model: Model
    name: str
    """What was asked for: the model's name, or that of one of its adapters."""
    adapter: dict[str, float] | None
    """The adapter, where it is one, and its factor."""
    load_seconds: float
    """How long this request waited for the model to be opened."""


class Registry:
    """Finds, opens and closes models; may be used from several event loops."""

    def __init__(
        self,
        sources: Sources,
        settings: ServerSettings,
        options: OpenOptions,
        aliases: Sequence[str] = (),
        adapter_scales: Mapping[str, float] | None = None,
    ) -> None:
        """``adapter_scales``: the factors of adapters that are asked for as models; 1 where none is given."""
        self._settings = settings
        self._options = options
        self._guard = threading.Lock()
        self.all: list[Served] = _served_models(sources)
        self._by_name: dict[str, Served] = {}
        for served, more in zip(self.all, _shared_out(aliases, len(self.all)), strict=True):
            served.aliases = more
            served.unload_after = settings.unload_after
            for name in (served.name, *more):
                self._add_name(name, served)
        self.adapters: dict[str, Served] = {}  # by their names, whose they are
        self._scales = dict(adapter_scales or {})
        for served in self.all:
            for name in self._adapters_of(served):
                self._add_name(name, served)
                self.adapters[name] = served
        if unknown := self._scales.keys() - self.adapters.keys():
            raise ValueError(f"adapter_scales: there is no adapter {min(unknown)!r}")
        for served in self.all:  # further spellings, where they name nothing else
            for name in _other_names(served):
                self._by_name.setdefault(name, served)

    def _adapters_of(self, served: Served) -> list[str]:
        if served.model is not None:
            return list(served.model.adapters)
        names = list(checked_adapters(self._options.get("adapters")))
        if names and sum(not one.is_lent for one in self.all) > 1:
            raise ValueError("adapters go with one model, and here are several")
        return names

    def adapters_of(self, served: Served) -> list[str]:
        """The names of a model's adapters, in their order."""
        return [name for name, whose in self.adapters.items() if whose is served]

    def _add_name(self, name: str, served: Served) -> None:
        if self._by_name.setdefault(name, served) is not served:
            raise ValueError(f"two models have the name {name!r}; give them names of their own")

    def add(self, name: str, path: Path) -> Served:
        """Serve one more model, whose file is here now; the one of that name, if there is one."""
        with self._guard:
            if name in self._by_name:
                return self._by_name[name]
            served = Served(_checked_name(name), str(path))
            served.unload_after = self._settings.unload_after
            self.all.append(served)
            self._by_name[name] = served
            return served

    @property
    def names(self) -> list[str]:
        """What the models are called, the first one first."""
        return [served.name for served in self.all]

    def find(self, name: str | None) -> Served:
        """The model of a name, without one the first; ``ApiError`` 404 tells which there are."""
        if not name:
            return self.all[0]
        if (known_as := self._spelling(name)) is not None:
            return self._by_name[known_as]
        known = ", ".join([*self.names, *self.adapters])
        raise ApiError(
            404,
            f"model {name[:200]!r} not found; there is {known} (--alias gives a model another name)",
            code="model_not_found",
            param="model",
        )

    def _spelling(self, name: str) -> str | None:
        """As which of the names that are known a name is understood."""
        spellings = name, name.removesuffix(":latest"), ANY_NAME
        return next((spelling for spelling in spellings if spelling in self._by_name), None)

    @asynccontextmanager
    async def lease(self, name: str | None, answers: int = 1) -> AsyncIterator[Lease]:
        """Wait until the model is open, and keep it so; ``ApiError`` 429 where too many wait.

        ``answers``: how many answers the request wants at once.
        """
        served = self.find(name)
        self._enter(served, answers)
        try:
            start = time.monotonic()
            model = await self._opened(served)
            known_as = self._spelling(name) if name else None
            adapter, label = None, served.name
            if known_as is not None and known_as in self.adapters:
                adapter, label = {known_as: self._scales.get(known_as, 1.0)}, known_as
            yield Lease(served, model, label, adapter, time.monotonic() - start)
        finally:
            self._leave(served, answers)

    def _enter(self, served: Served, answers: int) -> None:
        together = self._options.get("max_sequences", 0) or 1
        if served.model is not None:
            together = served.model.max_sequences
        with self._guard:
            if served.users and served.users + answers > together + self._settings.queue:
                raise ApiError(
                    429,
                    f"{served.users} requests are running or waiting for {served.name}; try later",
                    code="queue_full",
                    retry_after=2,
                )
            served.users += answers

    def _leave(self, served: Served, answers: int) -> None:
        with self._guard:
            served.users -= answers
            served.last_used = time.monotonic()
        self._plan_unloading(served)

    # Opening

    async def _opened(self, served: Served) -> Model:
        while True:
            with self._guard:
                if served.model is not None and not served.model.closed:
                    return served.model
                if served.is_lent:
                    raise ApiError(503, f"the model {served.name} was closed", code="unloaded")
                if served.opening is None:
                    served.opening = self._start_opening(served)
                opening = served.opening
            await asyncio.shield(asyncio.wrap_future(opening))

    def _start_opening(self, served: Served) -> Future[Model]:
        opening: Future[Model] = Future()
        opening.set_running_or_notify_cancel()  # nobody's leaving ends what others wait for

        def work() -> None:
            try:
                model = self._open(served)
            except BaseException as error:
                with self._guard:
                    served.opening = None
                opening.set_exception(error)
            else:
                with self._guard:
                    served.model, served.opening = model, None
                opening.set_result(model)

        threading.Thread(target=work, name="pyqwen-open", daemon=True).start()
        return opening

    def _open(self, served: Served) -> Model:
        assert served.source is not None
        start = time.monotonic()
        self._make_room(served)
        model = Model(served.source, **self._options)
        served.load_seconds = time.monotonic() - start
        _log.info("loaded %s in %.2f s", served.name, served.load_seconds)
        return model

    def _make_room(self, served: Served) -> None:
        """Close models that nobody uses, the longest unused first, until this one fits."""
        keys = (
            *("context", "kv_type", "threads", "isa", "exact", "batch", "cache", "max_sequences"),
            *("draft", "adapters"),
        )
        settings: dict[str, Any] = {key: self._options[key] for key in keys if key in self._options}  # type: ignore[literal-required]
        while True:
            needed = plan(served.source or "", **settings)
            if _usual_bytes(needed) <= needed.available or not self._close_oldest(served):
                break
        least = needed.weights + needed.compute + needed.tokenizer
        if least > needed.available:
            raise OutOfMemoryError(
                f"{served.name} takes {least:,} bytes without its cache, and {needed.available:,} "
                "are free"
            )

    def _close_oldest(self, other_than: Served) -> bool:
        with self._guard:
            idle = [
                served
                for served in self.all
                if served.model is not None
                and not served.is_lent
                and not served.users
                and served is not other_than
            ]
            if not idle:
                return False
            oldest = min(idle, key=lambda served: served.last_used)
            model, oldest.model = oldest.model, None
        _log.info("unloading %s: its memory is needed", oldest.name)
        assert model is not None
        model.close()
        return True

    # Closing

    def _plan_unloading(self, served: Served, wait: float | None = None) -> None:
        """Look again when the model may have been unused for long enough; one timer for each model."""
        after = served.unload_after
        with self._guard:
            if after is None or served.is_lent or served.model is None or served.timer is not None:
                return
            seconds = after if wait is None else wait
            served.timer = threading.Timer(seconds, self._unload_if_idle, (served,))
            served.timer.daemon = True
            served.timer.start()

    def _unload_if_idle(self, served: Served) -> None:
        with self._guard:
            served.timer = None
            after, model = served.unload_after, served.model
            idle = time.monotonic() - served.last_used
            if after is None or model is None or served.users:
                return  # the last lease looks again
            is_due = idle >= after - 0.001
            if is_due:
                served.model = None
        if is_due:
            _log.info("unloading %s: unused for %.0f s", served.name, idle)
            model.close()
        else:
            self._plan_unloading(served, after - idle)

    def unload_when_idle(self, served: Served, after: float | None) -> None:
        """From now on unload a model after these seconds without requests; None: never."""
        with self._guard:
            served.unload_after = after
            timer, served.timer = served.timer, None
        if timer is not None:
            timer.cancel()
        self._plan_unloading(served)

    def close(self) -> None:
        """Close the models that were opened here."""
        for served in self.all:
            with self._guard:
                timer, served.timer = served.timer, None
                model = None if served.is_lent else served.model
                if model is not None:
                    served.model = None
            if timer is not None:
                timer.cancel()
            if model is not None:
                model.close()


def _usual_bytes(planned: MemoryPlan) -> int:
    """What a model takes besides the interpreter, with one context full."""
    cache = planned.kv // planned.max_sequences
    return planned.weights + planned.adapters + planned.compute + planned.tokenizer + cache


def _served_models(sources: Sources) -> list[Served]:
    if isinstance(sources, str | os.PathLike | Model):
        sources = [sources]
    if isinstance(sources, Mapping):
        named: list[tuple[str | None, Source]] = [
            (_checked_name(name), source) for name, source in sources.items()
        ]
    elif isinstance(sources, Sequence) and not isinstance(sources, bytes):
        named = [(None, source) for source in sources]
    else:
        raise TypeError(f"models must be names, paths or models, not {type(sources).__name__}")
    if not named:
        raise ValueError("there is no model to serve")
    return [_served(name, source) for name, source in named]


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a model's name must be str, not {type(name).__name__}")
    if not name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be the name of a model")
    return name


def _served(name: str | None, source: object) -> Served:
    if isinstance(source, Model):
        return Served(name or _stem(source.path), None, model=source, is_lent=True)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a model is a name, a path or a Model, not {type(source).__name__}")
    text = os.fspath(source)
    if not isinstance(text, str):
        raise TypeError("the path of a model must be text, not bytes")
    return Served(name or _default_name(text), text)


def _default_name(source: str) -> str:
    is_file = source.lower().endswith(".gguf") and os.path.lexists(source)
    return _stem(Path(source)) if is_file else source


def _stem(path: Path) -> str:
    return path.name[: -len(".gguf")] if path.name.lower().endswith(".gguf") else path.name


def _other_names(served: Served) -> list[str]:
    """Spellings that mean the same model: its path and file name."""
    path = served.path
    if path is None:
        return []
    return [str(path), path.name, _stem(path)]


def _shared_out(aliases: Sequence[str], models: int) -> list[tuple[str, ...]]:
    """Which aliases are whose: all of them the only model's, else one for each in their order."""
    if isinstance(aliases, str):
        aliases = (aliases,)
    names = tuple(map(_checked_name, aliases))
    if models == 1:
        return [names]
    if len(names) > models:
        raise ValueError(f"there are {len(names)} aliases for {models} models")
    return [names[i : i + 1] for i in range(models)]
