"""Files of sessions: the tokens of one, and the keys and values of each block of them.

    header | tokens | extra, as JSON | checksums of the blocks | zeros up to 4096 n | blocks

All numbers are little-endian, tokens 4 bytes each, checksums 8. The header says for which model file,
layout of the cache and way of computing the blocks are (``SessionHandle.identity``), and has a checksum of
itself and one of what stands between it and the blocks. So a file that was cut, damaged or made for
something else is refused, and none can do more than make its reader's numbers wrong: the checksums are
against accidents, not against intent. Positions behind the last token are zeros: what stood there is of no
one's concern.

The size follows from the header, and is checked before anything is read for it.
"""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
from array import array
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from pyqwen._native import checksum
from pyqwen.errors import ContextOverflowError, SessionFileError
from pyqwen.output_file import OutputFile

VERSION = 1
_MAGIC = b"PQSESS\r\n"
# Magic, version, positions of a block, identity (3), bytes of a block, tokens, bytes of extra, checksum of
# what is in front of the blocks; behind these, the checksum of all that.
_HEADER = struct.Struct("<8s2I3QQ2IQ")
_SELF = struct.Struct("<Q")
_ALIGNMENT = 4096
_MOST_EXTRA = 64 << 20


class Kind(NamedTuple):
    """What a file has to agree on with the model that reads it."""

    identity: tuple[int, int, int]
    positions: int  # of a block
    block_bytes: int


class Contents(NamedTuple):
    """What a file holds beside the blocks."""

    tokens: list[int]
    extra: dict[str, Any] | None

    def encoded(self) -> tuple[bytes, bytes]:
        """Tokens and extra as the file has them; ``ValueError`` or ``TypeError`` if it cannot."""
        words = array("I", self.tokens)
        if sys.byteorder == "big":
            words.byteswap()
        extra = b""
        if self.extra is not None:
            try:
                extra = json.dumps(self.extra, ensure_ascii=False).encode()
            except RecursionError as error:
                raise ValueError("extra is nested too deeply for JSON") from error
            if len(extra) > _MOST_EXTRA:
                raise ValueError(
                    f"extra has {len(extra):,} bytes of JSON, of {_MOST_EXTRA:,} at most"
                )
        return words.tobytes(), extra


def write_session(
    path: Path, kind: Kind, contents: Contents, blocks: Iterable[bytearray], *, model: Path
) -> None:
    """Write a file, whole or not at all; ``blocks`` has the bytes of each block, in order.

    ``ValueError`` if it would replace the ``model``'s file. Only its owner can read it: it holds a text.
    """
    tokens, extra = contents.encoded()
    n_blocks = -(-len(contents.tokens) // kind.positions)
    front = len(tokens) + len(extra) + 8 * n_blocks
    start = _blocks_start(front)
    size = start + n_blocks * kind.block_bytes
    with OutputFile(path, inputs=[model], n_bytes=size, private=True) as output:
        sums = []
        output.file.seek(start)
        for i, block in enumerate(blocks):
            sums.append(checksum(i, block))
            output.file.write(block)
        if len(sums) != n_blocks:
            raise AssertionError(f"{len(sums)} blocks for {n_blocks}")
        meta = tokens + extra + struct.pack(f"<{n_blocks}Q", *sums)
        header = _HEADER.pack(
            *(_MAGIC, VERSION, kind.positions, *kind.identity, kind.block_bytes),
            *(len(contents.tokens), len(extra)),
            checksum(0, meta),
        )
        output.file.seek(0)
        output.file.write(header + _SELF.pack(checksum(0, header)) + meta)
        output.file.truncate(size)
        output.commit()


def _blocks_start(front: int) -> int:
    """Where the blocks begin, behind the header and ``front`` bytes."""
    return -(-(_HEADER.size + _SELF.size + front) // _ALIGNMENT) * _ALIGNMENT


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe is refused rather than waited for."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class SessionFile:
    """A file that is read: all but the blocks when it is opened, these with ``block``."""

    def __init__(self, path: Path, kind: Kind, *, context: int, vocab_rows: int) -> None:
        """``SessionFileError`` for what is no sound file of this kind, ``ContextOverflowError`` for one that
        the model's context is too short for, ``OSError``."""
        self._path, self._kind = path, kind
        self._file = open(path, "rb", buffering=0, opener=_open_without_waiting)  # noqa: SIM115
        try:
            self.contents = self._read_front(self._size(), context, vocab_rows)
        except BaseException:
            self._file.close()
            raise

    def _size(self) -> int:
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise self._error("is not a regular file")
        return status.st_size

    def _read_front(self, size: int, context: int, vocab_rows: int) -> Contents:
        if size < _HEADER.size + _SELF.size:
            raise self._error(f"is no session file: it has {size} bytes")
        header = self._read(bytearray(_HEADER.size))
        fields = _HEADER.unpack(header)
        magic, version, positions = fields[:3]
        if magic != _MAGIC:
            raise self._error("is no session file")
        if _SELF.unpack(self._read(bytearray(_SELF.size)))[0] != checksum(0, header):
            raise self._error("is damaged: its header is not as it was written")
        if version != VERSION:
            raise self._error(
                f"is of version {version} of session files, this pyqwen reads {VERSION}"
            )
        identity, block_bytes = fields[3:6], fields[6]
        if identity[:2] != self._kind.identity[:2]:
            raise self._error(
                "was saved with another model, or the model's file was written anew since then: open "
                "that model, or begin with another session file"
            )
        if Kind(identity, positions, block_bytes) != self._kind:
            raise self._error(
                "was saved with another kv_type, with or without exact=True, or by a pyqwen that "
                "computes otherwise: open the model as then, or begin with another session file"
            )
        n, extra_bytes, front_sum = fields[7:]
        if n > context:
            raise ContextOverflowError(
                f"{self._path} holds {n:,} tokens, which do not fit the context of {context:,}: open the "
                "model with a longer one",
                tokens=n,
                context=context,
            )
        self.n_blocks = -(-n // positions)
        front = 4 * n + extra_bytes + 8 * self.n_blocks
        self._start = _blocks_start(front)
        expected = self._start + self.n_blocks * block_bytes
        if size != expected or extra_bytes > _MOST_EXTRA:
            raise self._error(f"is damaged or was cut: it has {size:,} bytes, not {expected:,}")
        meta = bytes(self._read(bytearray(front)))
        if checksum(0, meta) != front_sum:
            raise self._error("is damaged: its tokens are not as they were written")
        return self._parse(meta, n, extra_bytes, vocab_rows)

    def _parse(self, meta: bytes, n: int, extra_bytes: int, vocab_rows: int) -> Contents:
        words = array("I", meta[: 4 * n])
        if sys.byteorder == "big":
            words.byteswap()
        tokens = words.tolist()
        if tokens and max(tokens) >= vocab_rows:
            raise self._error(f"is damaged: token {max(tokens)} is none of the model")
        at = 4 * n
        self._sums = struct.unpack_from(f"<{self.n_blocks}Q", meta, at + extra_bytes)
        try:
            extra = json.loads(meta[at : at + extra_bytes]) if extra_bytes else None
        except (ValueError, RecursionError) as error:
            raise self._error("is damaged: it holds what is no JSON") from error
        if extra is not None and not isinstance(extra, dict):
            raise self._error("is damaged: extra is no JSON object")
        return Contents(tokens, extra)

    def block(self, i: int, out: bytearray) -> None:
        """Copy the bytes of the i-th block to ``out``, as they were written."""
        self._file.seek(self._start + i * self._kind.block_bytes)
        if checksum(i, self._read(out)) != self._sums[i]:
            raise self._error(f"is damaged: block {i} of {self.n_blocks} is not as it was written")

    def _read(self, out: bytearray) -> bytearray:
        """Fill ``out`` from where the file stands."""
        view = memoryview(out)
        while view:
            done = self._file.readinto(view)
            if not done:
                raise self._error("was cut while it was read")
            view = view[done:]
        return out

    def _error(self, problem: str) -> SessionFileError:
        return SessionFileError(f"{self._path} {problem}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
