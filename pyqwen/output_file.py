"""An output file that is either complete under its name or not there at all.

The bytes go to NAME.partial beside it, which takes the place of NAME in one step when everything is
on the disk; on any failure it is removed. NAME.partial is always a new file: what a killed process left
under that name, or a link that somebody put there, is removed and never written through. The file is
locked, so that two runs cannot write it at once.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Self

_LOCK_BYTE = 1 << 62  # where Windows locks: beyond all data, for its locks forbid writing
# Flags that not every system has.
_BINARY, _NO_LINKS, _NO_WAITING = (
    getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK")
)


class OutputFile:
    """A context manager: write to ``file``, then ``commit()``; without it, nothing remains.

    ``inputs`` must not be overwritten (see `refuse_inputs`), which is checked before anything is
    touched. ``OSError`` where the directory cannot be written, the disk lacks ``n_bytes``, or another
    process is writing the file.
    """

    def __init__(
        self, path: Path, *, inputs: Iterable[Path], n_bytes: int, private: bool = False
    ) -> None:
        """``private``: nobody else may read the file."""
        self.path = path.resolve()  # through a symbolic link: its target is replaced, not the link
        refuse_inputs(path, inputs)
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{path} is not a regular file; name the file to write")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent))
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._n_bytes = n_bytes
        self._mode = 0o600 if private else 0o666
        self._committed = False

    def __enter__(self) -> Self:
        self.file = _open_new(self._partial, self._mode)
        try:
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


def refuse_inputs(out: Path, inputs: Iterable[Path]) -> None:
    """``ValueError`` if writing ``out`` would replace one of ``inputs``, under whatever name it has.

    A directory stands for the files in it and in its folders, and for what links there lead to.
    """
    resolved = out.resolve()
    for source in inputs:
        if source.is_dir():
            if source.resolve() in (resolved, *resolved.parents):
                raise ValueError(
                    f"the output {out} lies inside the input {source}; write it elsewhere"
                )
            files: Iterator[Path] = (
                file for pattern in ("*", "*/*") for file in source.glob(pattern)
            )
        else:
            files = iter([source])
        for file in files:
            if _is_same(resolved, file):
                raise ValueError(f"the output {out} is the input {file}; name another file")


def _is_same(a: Path, b: Path) -> bool:
    """Whether both are one file (device and inode); a missing one is none."""
    try:
        return a.samefile(b)
    except OSError:
        return False


def _open_new(path: Path, mode: int) -> BufferedWriter:
    """Make a new file, whatever had its name before, and lock it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY | _NO_LINKS
    while True:
        _remove_left_behind(path)
        try:
            descriptor = os.open(path, flags, mode)
        except FileExistsError:
            continue
        file: BufferedWriter = os.fdopen(descriptor, "wb")
        try:
            lock_file(descriptor, path)
            if _is_named(descriptor, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # another run took it for left behind, before it was locked: try again


def _remove_left_behind(path: Path) -> None:
    """Remove what has the name of a file to be made, unless another run is writing it.

    Only the name goes: a link's target, and a file that has other names, stay as they are.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
            return
        descriptor = os.open(path, os.O_RDONLY | _BINARY | _NO_LINKS | _NO_WAITING)
    except FileNotFoundError:
        return
    try:
        lock_file(descriptor, path)
        if not _is_named(descriptor, path):
            return  # a run that ended just now renamed it
        if sys.platform != "win32":
            path.unlink()
    finally:
        os.close(descriptor)
    if sys.platform == "win32":  # an open file cannot be removed there
        path.unlink(missing_ok=True)


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def lock_file(descriptor: int, path: Path) -> None:
    """Lock an open file until it is closed; ``OSError`` where another process has locked it."""
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
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
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
