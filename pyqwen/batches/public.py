"""``pyqwen.batch``: what users call."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from pyqwen._native import KVType
from pyqwen.drafting import Draft
from pyqwen.loading.gguf_file import Load
from pyqwen.model import Model
from pyqwen.os_errors import raising_file_errors

if TYPE_CHECKING:
    from pyqwen.batches.driver import Pool, Progress, Report
    from pyqwen.batches.output import BatchOutput
    from pyqwen.batches.rows import RowFile

_log = logging.getLogger("pyqwen.batch")

FindModel = Callable[[str | None], Path]
"""The file of a model by its name; None: the default model."""

DEFAULT_PARALLEL = 16
MOST_PARALLEL, MOST_WORKERS = 1024, 256


class BatchOptions(TypedDict, total=False):
    """The keywords of ``Model`` that a batch takes."""

    context: int | None
    threads: int | None
    kv_type: KVType | None
    load: Load
    cache: bool
    isa: str | None
    exact: bool | None
    batch: int
    draft: Draft
    prefix_cache_bytes: int | None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch came to. ``rows`` of the input are answered, ``failed`` of them with an error, ``found``
    of them by earlier starts. Tokens and ``lost_workers`` are those of this start."""

    rows: int
    failed: int
    found: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    lost_workers: int


@raising_file_errors
def batch(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] | Model | None = None,
    *,
    name: str | None = None,
    parallel: int | None = None,
    workers: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    progress: Callable[[int, int], object] | None = None,
    **options: Unpack[BatchOptions],
) -> BatchResult:
    """Answer a file of requests: OpenAI's batch rows, one JSON object a line.

    ``source`` has rows ``{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}``
    (also ``/v1/completions``, ``/v1/embeddings`` and ``/v1/responses``). Of each, ``out`` gets a row
    ``{"id": ..., "custom_id": ..., "response": {"status_code": ..., "body": ...}, "error": ...}``, in any
    order; what cannot be answered has an ``error``. If ``out`` is there already, it is gone on with: a
    batch that was stopped or killed lost at most the rows that were running. All rows are answered by
    ``model``, whatever model they name.

    - ``model``: a path, a name or, in this process, an open ``Model``; None: the default model.
    - ``name``: what the answers call it (default: its name, or its file without folder and ``.gguf``).
    - ``parallel``: rows that run together in one engine; None: 16, or what the open model allows.
    - ``workers``: so many processes on this machine, each a whole engine with its share of the processors
      (one for each NUMA node pays; on one node, one engine is as fast). None: in this process.
    - ``ray``, ``ray_address``: an engine on each host of a Ray cluster (needs the extra ``ray``); address
      None: that of ``RAY_ADDRESS``, else a cluster of this machine.
    - ``progress``: called with the rows done and their number; False stops the batch.
    - other options: as for ``Model``. ``threads`` are those of all engines of this machine or of a host
      together. Drafts pay where few rows run together, and are off unless asked for.

    Raises ``ValueError`` for files that cannot be (``source`` without requests or with one ``custom_id``
    twice, ``out`` of another batch), ``FileAccessError`` for those that cannot be read or written, what
    ``Model`` raises, ``CancelledError`` where ``progress`` stopped it, ``ImportError`` where an extra is
    missing.
    """
    wish = Wish(model, name, parallel, workers, ray, ray_address, options)

    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function, not {type(progress).__name__}")
    paths = checked_path("source", source), checked_path("out", out)
    return answer_file(*paths, wish, _Report(progress))


class _Report:
    def __init__(self, progress: Callable[[int, int], object] | None) -> None:
        self._progress = progress

    def begin(self, rows: RowFile, output: BatchOutput) -> None:
        if output.healed:
            _log.warning("the last line of %s was torn: it is written again", output.path)

    def note(self, state: Progress) -> object:
        return self._progress(state.done, state.total) if self._progress is not None else None


@dataclass(frozen=True, slots=True)
class Wish:
    """Who is to answer: the arguments of :func:`batch`, checked.

    ``ValueError`` or ``TypeError`` for what cannot be.
    """

    model: str | os.PathLike[str] | Model | None
    name: str | None
    parallel: int | None
    workers: int | None
    ray: bool
    ray_address: str | None
    options: BatchOptions

    def __post_init__(self) -> None:
        for what, count, most in (
            ("parallel", self.parallel, MOST_PARALLEL),
            ("workers", self.workers, MOST_WORKERS),
        ):
            _check_count(what, count, most)
        if not isinstance(self.ray, bool):
            raise TypeError(f"ray must be True or False, not {type(self.ray).__name__}")
        for what, text in (("name", self.name), ("ray_address", self.ray_address)):
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{what} must be a text, not {type(text).__name__}")
            if text is not None and not (text and text.isprintable()):
                raise ValueError(f"{what} is {text[:100]!r}")
        unknown = self.options.keys() - BatchOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}")
        if isinstance(self.model, Model):
            self._check_open_model()
        elif self.model is not None:
            checked_path("model", self.model)
        if self.workers is not None and self.uses_ray:
            raise ValueError("workers are processes of this machine; a Ray cluster has its own")
        if self.is_remote:
            self._check_sent_options()

    def _check_open_model(self) -> None:
        if self.is_remote:
            raise ValueError("an open model answers in this process; give workers its path")
        if self.options or self.parallel is not None:
            given = ", ".join(self.options) or "parallel"
            raise ValueError(f"the model is open already: {given} would have no effect")

    def _check_sent_options(self) -> None:
        for what, value in self.options.items():
            if value is not None and not isinstance(value, str | int | float | tuple):
                raise ValueError(f"{what} cannot be given to other processes")

    @property
    def uses_ray(self) -> bool:
        return self.ray or self.ray_address is not None

    @property
    def is_remote(self) -> bool:
        return self.uses_ray or self.workers is not None

    @property
    def served_name(self) -> str:
        """What answers call the model."""
        from pyqwen import catalog

        if self.name is not None:
            return self.name
        if isinstance(self.model, Model):
            path: str | Path = self.model.path
        else:
            path = os.fspath(self.model or catalog.DEFAULT_MODEL)
            if not (path.lower().endswith(".gguf") or os.path.lexists(path)):
                return path
        name = Path(path).name
        return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name

    def pool(self, find: FindModel) -> Pool:
        """Where the workers come from."""
        model = self.model
        options: dict[str, Any] = dict(self.options)
        if isinstance(model, Model):
            lent = model
            return _own_engine(lambda: lent, self.served_name, lent=True)
        options.setdefault("max_sequences", self.parallel or DEFAULT_PARALLEL)
        source = None if model is None else os.fspath(model)
        if self.uses_ray:
            return _ray_cluster(self.ray_address, source, self.served_name, options)
        path = find(source)
        if self.workers is not None:
            return _processes(self.workers, path, self.served_name, options)
        return _own_engine(lambda: Model(path, **options), self.served_name)


def _find_model(source: str | None) -> Path:
    from pyqwen import catalog

    return catalog.resolve(catalog.DEFAULT_MODEL if source is None else source)


def answer_file(
    source: Path, out: Path, wish: Wish, report: Report, find: FindModel = _find_model
) -> BatchResult:
    """Answer the rows of a file; ``find`` is called for the model's file when there is something to do."""
    _check_extras(wish)
    from pyqwen.batches.driver import Driver
    from pyqwen.batches.output import BatchOutput
    from pyqwen.batches.rows import RowFile

    with RowFile(source) as rows, BatchOutput(out, rows, model=wish.served_name) as output:
        state = Driver(rows, output, lambda: wish.pool(find), report).run()
    read, cached, written = state.tokens
    return BatchResult(
        rows=state.total,
        failed=state.failed,
        found=state.found,
        prompt_tokens=read,
        cached_tokens=cached,
        completion_tokens=written,
        lost_workers=state.lost,
    )


def _own_engine(open_model: Callable[[], Model], name: str, *, lent: bool = False) -> Pool:
    from pyqwen.batches.engine import OwnEngine

    return OwnEngine(open_model, name, lent=lent)


def _processes(workers: int, path: Path, name: str, options: dict[str, Any]) -> Pool:
    from pyqwen.batches.machine_shares import numa_nodes, shares
    from pyqwen.batches.messages import Settings
    from pyqwen.batches.processes import Processes
    from pyqwen.loading.settings import resolve_settings

    threads = resolve_settings(threads=options.pop("threads", None)).threads
    return Processes(
        [
            Settings(
                str(path.absolute()), name, {**options, "threads": share.threads}, share.processors
            )
            for share in shares(workers, threads, numa_nodes())
        ]
    )


def _ray_cluster(
    address: str | None, source: str | None, name: str, options: dict[str, Any]
) -> Pool:
    from pyqwen import catalog
    from pyqwen.batches.messages import Settings
    from pyqwen.batches.ray_cluster import RayCluster

    source = catalog.DEFAULT_MODEL if source is None else source
    if os.path.lexists(source):  # actors have another working directory
        source = str(Path(source).absolute())
    return RayCluster(address, Settings(source, name, options))


def _check_extras(wish: Wish) -> None:
    for module, extra in (("msgspec", "batch"), ("ray", "ray")):
        if module == "ray" and not wish.uses_ray:
            continue
        if find_spec(module) is None:
            raise ImportError(
                f"batches need {module} for this, which comes with: pip install 'pyqwen[{extra}]'",
                name=module,
            )


def checked_path(what: str, path: object) -> Path:
    """A path of the caller's; ``ValueError`` or ``TypeError`` where it cannot be one."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{what} must be a path, not {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a text, not bytes")
    if not text or "\0" in text:
        raise ValueError(f"{what} is {text[:100]!r}, which is no path")
    return Path(text)


def _check_count(what: str, value: object, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise ValueError(f"{what} must be from 1 to {most:,}")
