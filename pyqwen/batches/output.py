"""The output of a batch: lines that are appended, each in one write, and what a second start finds of them.

A process that is killed loses no line that was written; a machine that loses power those of the last second,
or half of the last line, which is cut off when the file is opened again. That a file belongs to another batch
is known by the ids of its rows, which are digests of the requests.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from pyqwen.output_file import lock_file, refuse_inputs

if TYPE_CHECKING:
    from pyqwen.batches.rows import RowFile

_BEGINNING = b'{"id":"batch_req_'
_SYNC_SECONDS = 1.0
_CHUNK = 2**20


class _Body(msgspec.Struct):
    model: str | None = None


class _Response(msgspec.Struct):
    body: _Body | None = None


class _Line(msgspec.Struct):
    id: str
    custom_id: str | None
    error: Any
    response: _Response | None


_decode = msgspec.json.Decoder(_Line).decode


class BatchOutput:
    """A context manager. ``done`` are the numbers of the rows that are answered, ``failed`` how many of
    them without success."""

    def __init__(self, path: Path, rows: RowFile, *, model: str) -> None:
        """``model``: what the answers will call the model, as those that are there must have."""
        refuse_inputs(path, [rows.path])
        self.path = path.resolve()  # through a link: what it leads to is written
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"{path} is not a regular file; name the file to write")
        self._rows, self._model = rows, model
        self._synced = 0.0
        self._unsynced = False
        self.done: set[int] = set()
        self.failed = 0
        self.healed = 0
        """Bytes of half a line that were cut off."""

    def __enter__(self) -> Self:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags, 0o666)
        try:
            lock_file(self._descriptor, self.path)
            self._read()
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._sync()
        finally:
            os.close(self._descriptor)

    def append(self, line: bytes, *, now: Callable[[], float] = time.monotonic) -> None:
        """Write a line; what of it does not fit the disk is taken back. ``OSError`` where it cannot be."""
        data, size = line + b"\n", os.fstat(self._descriptor).st_size
        failure, written = None, 0
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            failure = error
        if written < len(data):
            os.ftruncate(self._descriptor, size)
            code = failure.errno if failure is not None else errno.ENOSPC
            raise OSError(code, os.strerror(code or errno.EIO), str(self.path)) from failure
        self._unsynced = True
        if now() - self._synced > _SYNC_SECONDS:
            self._sync()
            self._synced = now()

    def _sync(self) -> None:
        if self._unsynced:
            os.fsync(self._descriptor)
            self._unsynced = False

    def _read(self) -> None:
        """Find out what is answered, and cut off what is no whole line."""
        end = offset = number = 0
        with open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            for line in file:
                offset += len(line)
                number += 1
                if not line.endswith(b"\n"):
                    break
                if line.strip():
                    self._note(line, number)
                end = offset
            rest = offset - end
            if rest:
                file.seek(end)
                if not _is_torn(file.read(len(_BEGINNING))):
                    raise self._foreign(number, "is no row of a batch")
        if rest:
            os.ftruncate(self._descriptor, end)
            self.healed = rest
            self._unsynced = True

    def _note(self, data: bytes, number: int) -> None:
        try:
            line = _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise self._foreign(number, "is no row of a batch") from None
        row = self._rows.number_by_id(line.id)
        if row is None:
            name = str(line.custom_id)[:100]
            if line.custom_id is not None and self._rows.number_of(line.custom_id) is not None:
                problem = f"answers another request with the custom_id {name!r}"
            else:
                problem = f"answers the custom_id {name!r}, which is not in {self._rows.path}"
            raise self._foreign(number, problem)
        if row in self.done:
            raise self._foreign(number, f"answers the custom_id {line.custom_id!r} a second time")
        body = line.response.body if line.response is not None else None
        if body is not None and body.model is not None and body.model != self._model:
            raise self._foreign(
                number, f"is by the model {body.model[:100]!r}, not {self._model!r}"
            )
        self.done.add(row)
        self.failed += line.error is not None

    def _foreign(self, number: int, problem: str) -> ValueError:
        return ValueError(
            f"{self.path} is there already, and line {number} {problem}: name another output, or remove "
            "the file"
        )


def _is_torn(beginning: bytes) -> bool:
    """Whether half a line can be one of ours; a machine that lost power may leave zeros instead."""
    text = beginning.rstrip(b"\0")
    return _BEGINNING.startswith(text[: len(_BEGINNING)])
