"""An output file that is either complete under its name or not there at all.

The bytes go to NAME.partial beside it, which takes the place of NAME in one step when everything is
on the disk; on any failure it is removed. A process that is killed leaves the .partial file, and the
next run overwrites it. The file is locked, so that two runs cannot write it at once.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Self

_LOCK_BYTE = 1 << 62  # where Windows locks: beyond all data, for its locks forbid writing


class OutputFile:
    """A context manager: write to ``file``, then ``commit()``; without it, nothing remains.

    ``inputs`` must not be overwritten: a path that is one of them, or lies inside one that is a
    directory, is refused (``ValueError``) before anything is touched. ``OSError`` where the
    directory cannot be written, the disk lacks ``n_bytes``, or another process is writing the file.
    """

    def __init__(self, path: Path, *, inputs: Iterable[Path], n_bytes: int) -> None:
        self.path = path.resolve()  # through a symbolic link: its target is replaced, not the link
        _refuse_inputs(path, self.path, inputs)
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{path} is not a regular file; name the file to write")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent))
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._n_bytes = n_bytes
        self._committed = False

    def __enter__(self) -> Self:
        self.file = _open_locked(self._partial)
        try:
            self.file.truncate(0)
            self._check_space()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._committed:
            return
        self._discard()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(self.path)  # a failed write does not say where

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < self._n_bytes:
            raise OSError(
                errno.ENOSPC,
                f"not enough space: {self._n_bytes:,} bytes are needed, {free:,} are free",
                str(self.path.parent),
            )

    def commit(self) -> None:
        """Bring the bytes to the disk and give the file its name, in this order."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if sys.platform == "win32":
            self.file.close()  # an open file cannot be renamed there
        self._partial.replace(self.path)
        self._committed = True
        self.file.close()
        _sync_directory(self.path.parent)

    def _discard(self) -> None:
        if sys.platform != "win32":  # while the lock is held, so that it is our own file that goes
            self._partial.unlink(missing_ok=True)
        with suppress(OSError):  # what is buffered may not fit the disk, and is not wanted any more
            self.file.close()
        if sys.platform == "win32":  # an open file cannot be removed there
            self._partial.unlink(missing_ok=True)


def _refuse_inputs(given: Path, resolved: Path, inputs: Iterable[Path]) -> None:
    for source in inputs:
        if source.is_dir():
            if source.resolve() in (resolved, *resolved.parents):
                raise ValueError(
                    f"the output {given} lies inside the input {source}; write it elsewhere"
                )
        elif resolved.exists() and source.exists() and resolved.samefile(source):
            raise ValueError(f"the output {given} is the input {source}; name another file")


def _open_locked(path: Path) -> BufferedWriter:
    """Open ``path`` without truncating it, make it ours, and see that it still has its name."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        file: BufferedWriter = os.fdopen(descriptor, "wb")
        try:
            _lock(descriptor, path)
            if _is_named(descriptor, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # a run that ended just now renamed or removed it: take the new one


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, path: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _LOCK_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise OSError(errno.EBUSY, "another process is writing this file", str(path)) from error
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise  # some network file systems know no locks: there, two runs are the user's care


def _sync_directory(path: Path) -> None:
    """Make the rename itself durable, where directories can be opened."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
