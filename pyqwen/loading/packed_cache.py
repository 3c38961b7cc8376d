"""Packed weights on disk: what loading made of a model, kept so that the next start only maps it.

Owns the folder ``packed`` of the cache: names, notes, writing, removing. What is in a file, and
whether it can be trusted, is the core's (csrc/model/packed.c): it verifies every byte before it uses
one. So nothing here waits for the disk: a file that a crash tore is no more than one that is missing.

Nothing here fails either: without room, or where the folder cannot be written, there is no cache.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyqwen import _native
from pyqwen.errors import PyQwenError

if TYPE_CHECKING:
    from pyqwen.loading.gguf_file import GGUFFile

SMALLEST = 256 * 2**20
"""Files below this many bytes are packed in less than a tenth of a second."""

DISK_RESERVE = 2 * 2**30
"""So many bytes stay free on the disk."""

# The first answer comes first. Then writing takes half of one core's time at most.
_DELAY_SECONDS = 1.0

_POLL_SECONDS = 0.05

_SUFFIX = ".packed"

_log = logging.getLogger("pyqwen")


@dataclass(frozen=True, slots=True)
class PackedFile:
    """The packed form of a model file: where it is or would be, and the bytes it takes."""

    path: Path
    size: int
    sources: tuple[Path, ...]

    @property
    def exists(self) -> bool:
        return self.path.is_file()


def packed_dir() -> Path:
    """Where packed weights are kept."""
    from pyqwen.catalog.cache import cache_root

    return cache_root() / "packed"


def locate(
    file: GGUFFile, path: Path, *, isa: str | None = None, exact: bool = False
) -> PackedFile | None:
    """The packed form of an open file; None for one that has none or is not worth it.

    ``path`` is what was opened. A file that is opened with ``load="copy"`` has none: mapping its
    packed form is what its owner does not want.
    """
    key, size = _native.packed_key(file.handle, isa=isa, exact=exact)
    if not key or size < SMALLEST:
        return None
    return PackedFile(packed_dir() / f"{key}{_SUFFIX}", size, shards(path, file.shards))


def report_problem(packed: PackedFile, problem: str) -> None:
    """Say why a packed file that is there was not used; it will be written again."""
    _log.warning("%s is not used and will be written again: %s", packed.path, problem)


def shards(path: Path, count: int) -> tuple[Path, ...]:
    """All files of a split model, of which ``path`` is one."""
    path = path.resolve() if count == 1 else path.absolute()
    if count == 1:
        return (path,)
    ending = f"-of-{count:05d}.gguf"
    stem = path.name.removesuffix(ending)[:-6]
    return tuple(path.with_name(f"{stem}-{i:05d}{ending}") for i in range(1, count + 1))


# --- writing ---------------------------------------------------------------------------------


class Writer:
    """Writes what a model packed, on a thread of its own, and gives up when it is stopped."""

    def __init__(self, model: _native.ModelHandle, packed: PackedFile) -> None:
        self._packed = packed
        self._image: _native.PackedImage | None = _native.PackedImage(model)
        self._stopped = threading.Event()
        self._hurry = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pyqwen-cache", daemon=True)

    def start(self) -> None:
        """Begin to write; without memory for a thread there is nothing kept."""
        try:
            self._thread.start()
        except RuntimeError:  # no thread could be started
            self._image = None
            self._done.set()

    def stop(self) -> None:
        """Abandon what is not finished, and let go of the model."""
        self._stopped.set()
        self.finish()
        self._image = None

    def finish(self, timeout: float | None = None) -> bool:
        """Write without a break and wait for the end; False if it was not reached in ``timeout``."""
        self._hurry.set()
        end = None if timeout is None else time.monotonic() + timeout
        wait = _POLL_SECONDS if timeout is None else min(_POLL_SECONDS, timeout)
        while not self._done.wait(wait):
            if not self._thread.is_alive():
                break  # a process that was forked does not have the thread
            if end is not None and (wait := min(wait, end - time.monotonic())) <= 0:
                return False
        return True

    def _run(self) -> None:
        try:
            self._hurry.wait(_DELAY_SECONDS)
            if not self._stopped.is_set():
                self._write_alone()
        except (OSError, PyQwenError) as error:
            _log.info("packed weights are not kept in %s: %s", self._packed.path, error)
        except Exception:
            _log.exception("packed weights could not be kept in %s", self._packed.path)
        finally:
            self._image = None  # it keeps the model
            self._done.set()

    def _write_alone(self) -> None:
        from filelock import FileLock, Timeout

        folder = self._packed.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < self._packed.size + DISK_RESERVE:
            _log.info("packed weights are not kept: %s has no room for them", folder)
            return
        try:
            with FileLock(self._packed.path.with_suffix(".lock"), timeout=0):
                self._write()
        except Timeout:
            return  # another process writes the same
        for path in prune():
            _log.info("removed %s: its model is gone or was changed", path)

    def _write(self) -> None:
        path = self._packed.path
        part = path.with_suffix(".part")  # left by a process that was killed: written over
        try:
            if not self._write_file(part):
                return
            _write_sources(path, self._packed.sources)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _write_file(self, part: Path) -> bool:
        image = self._image
        if image is None or image.bytes == 0:
            return False
        checksums = []
        with part.open("wb", buffering=0) as file:
            file.seek(image.offset)
            for piece, checksum in image.pieces():
                start = time.monotonic()
                _write_all(file.fileno(), piece)
                checksums.append(checksum)
                if not self._hurry.is_set():
                    self._hurry.wait(time.monotonic() - start)
                if self._stopped.is_set():
                    return False
            file.seek(0)
            _write_all(file.fileno(), memoryview(image.header(checksums)))
        return True


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write_sources(path: Path, sources: tuple[Path, ...]) -> None:
    from pyqwen.catalog.cache import write_note

    stats = [(source, source.stat()) for source in sources]
    write_note(
        path.with_suffix(".json"),
        {"sources": [[str(source), stat.st_size, stat.st_mtime_ns] for source, stat in stats]},
    )


# --- what there is ---------------------------------------------------------------------------


def stored_bytes(paths: tuple[Path, ...]) -> int:
    """The bytes that packed forms of a model take; ``paths`` are its files."""
    wanted = {str(path) for path in paths} | {str(path.resolve()) for path in paths}
    return sum(
        file.stat().st_size
        for file, sources in _entries()
        if any(str(source) in wanted for source, _, _ in sources)
    )


def prune() -> list[Path]:
    """Delete the packed forms of files that are gone or were changed, and return their paths."""
    removed: list[Path] = []
    newest: dict[tuple[str, str], Path] = {}
    for file, sources in _entries():
        if not sources or not all(_is_unchanged(*source) for source in sources):
            removed.append(file)
            continue
        # Of one file and one width of panels only the last is of the layout in use.
        place = (str(sources[0][0]), file.stem.rpartition("-")[2])
        other = newest.setdefault(place, file)
        if other is not file:
            older, newer = sorted((other, file), key=lambda path: path.stat().st_mtime_ns)
            newest[place] = newer
            removed.append(older)
    for file in removed:
        for path in (file, file.with_suffix(".json"), file.with_suffix(".lock")):
            with suppress(OSError):  # on Windows a file that is mapped stays
                path.unlink(missing_ok=True)
    return [file for file in removed if not file.exists()]


def _entries() -> Iterator[tuple[Path, list[tuple[Path, int, int]]]]:
    """Every packed file with its sources: path, size and time of change; none if not known."""
    from pyqwen.catalog.cache import read_note

    for file in sorted(packed_dir().glob(f"*{_SUFFIX}")):
        try:
            rows = (read_note(file.with_suffix(".json")) or {})["sources"]
            yield file, [(Path(name), int(size), int(time)) for name, size, time in rows]
        except (KeyError, TypeError, ValueError):
            yield file, []


def _is_unchanged(source: Path, size: int, modified: int) -> bool:
    try:
        stat = source.stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (size, modified)
