"""Byte-level BPE, and the texts of control tokens: ``pq_tokenizer``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from pyqwen._ffi import ffi, lib
from pyqwen._native.ownership import borrowed, keeping, new_cell, writable
from pyqwen._native.quantize import CancelFlag
from pyqwen._native.status import check, new_error

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_IDS_AT_ONCE = 65_536  # made into Python numbers in one go, which keeps other threads waiting


@dataclass(frozen=True)
class PackedStrings:
    """UTF-8 texts back to back, and where each begins (``uint64_t[count + 1]``)."""

    text: bytes | bytearray
    bounds: Any

    @classmethod
    def of(cls, texts: Iterable[str]) -> PackedStrings:
        """Pack texts; what is no character (a surrogate) stays, as bytes that are not UTF-8."""
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        return cls(b"".join(encoded), ffi.new("uint64_t[]", [0, *accumulate(map(len, encoded))]))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def beginning(self, count: int) -> tuple[bytes, bytes]:
        """Return the first ``count`` texts as bytes, and their bounds: the same for the same texts."""
        bounds = bytes(ffi.buffer(self.bounds, (count + 1) * ffi.sizeof("uint64_t")))
        return bytes(self.text[: self.bounds[count]]), bounds

    def unpacked(self) -> list[bytes]:
        """Return each text by itself."""
        ends = ffi.unpack(self.bounds, len(self.bounds))
        return [bytes(self.text[a:b]) for a, b in pairwise(ends)]


class ControlMatch(NamedTuple):
    """A place, in bytes, where the text of a control token begins: of the longest that does."""

    begin: int
    end: int
    token: int


class TokenizerHandle:
    """A vocabulary, and with ``pre`` its byte-level BPE. Immutable, for any number of threads."""

    def __init__(
        self,
        tokens: PackedStrings,
        *,
        source: str = "",
        pre: str | None = None,
        kinds: bytes | None = None,
        merges: PackedStrings | None = None,
        control: Iterable[str] = (),
    ) -> None:
        """Check and index ``tokens``; the arguments are the fields of ``pq_vocabulary``.

        ``source`` is what messages begin with. Nothing of the arguments is kept.
        """
        out, error = new_cell("pq_tokenizer **", lib.pq_tokenizer_close), new_error()
        vocabulary = ffi.new("pq_vocabulary *")
        texts = {  # kept here, for the struct only points to them
            name: ffi.new("char[]", value.encode("utf-8", "replace"))
            for name, value in (("source", source), ("pre", pre))
            if value is not None
        }
        for name, value in texts.items():
            setattr(vocabulary, name, value)
        lists = {"tokens": tokens, "merges": merges, "control": PackedStrings.of(control)}
        with ExitStack() as lent:
            for name, packed in lists.items():
                if packed is not None:
                    field = getattr(vocabulary, name)
                    field.text = lent.enter_context(borrowed("char[]", packed.text))
                    field.bounds, field.count = packed.bounds, len(packed)
            if kinds is not None:
                vocabulary.kinds = lent.enter_context(borrowed("uint8_t[]", kinds))
            check(lib.pq_tokenizer_open(out, vocabulary, error), error)
        self._pointer = keeping(out[0], out)
        self._count = len(tokens)
        self.kinds = bytes(ffi.buffer(lib.pq_tokenizer_kinds(self._pointer), self._count))

    def __len__(self) -> int:
        return self._count

    def piece(self, token: int) -> bytes:
        """Return a token, which must be in range, as the file spells it."""
        length = ffi.new("size_t *")
        text = lib.pq_tokenizer_piece(self._pointer, token, length)
        return bytes(ffi.buffer(text, length[0]))

    def find(self, piece: bytes) -> int | None:
        """Return the token of exactly this spelling, unless it is padding."""
        with borrowed("char[]", piece) as text:
            token = lib.pq_tokenizer_find(self._pointer, text, len(piece))
        return int(token) if token >= 0 else None

    def encode(
        self,
        text: bytes,
        *,
        control: bool = False,
        cuts: Sequence[int] = (),
        cancel: CancelFlag | None = None,
    ) -> list[int]:
        """Return the tokens of ``text``; with ``control`` control tokens are recognized.

        But not across one of the ``cuts``, ascending byte positions. ``CancelledError`` if
        ``cancel`` is set meanwhile.
        """
        ids, n = new_cell("int32_t **", lib.pq_tokenizer_free), ffi.new("size_t *")
        error = new_error()
        with borrowed("char[]", text) as data:
            status = lib.pq_tokenizer_encode(
                self._pointer,
                data,
                len(text),
                int(control),
                ffi.new("size_t[]", cuts) if cuts else ffi.NULL,
                len(cuts),
                ids,
                n,
                ffi.NULL if cancel is None else cancel.pointer,
                error,
            )
        check(status, error)
        found: list[int] = []
        for begin in range(0, n[0], _IDS_AT_ONCE):
            found += ffi.unpack(ids[0] + begin, min(_IDS_AT_ONCE, n[0] - begin))
        return found

    def decode(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of tokens, which must be in range."""
        array, length, error = ffi.new("int32_t[]", ids), ffi.new("size_t *"), new_error()
        room = 8 * len(array) + 64
        while True:
            out = bytearray(room)
            with writable("char[]", out) as target:
                status = lib.pq_tokenizer_decode(
                    self._pointer, array, len(array), target, room, length, error
                )
            check(status, error)
            if length[0] <= room:
                return bytes(memoryview(out)[: length[0]])
            room = length[0]

    def all_bytes(self) -> tuple[bytes, npt.NDArray[np.uint32]]:
        """Return the bytes of all tokens, one after the other, and how many each has."""
        import numpy as np

        lengths = np.empty(self._count, np.uint32)
        with writable("uint32_t[]", lengths) as out:
            lib.pq_tokenizer_lengths(self._pointer, out)
        return self.decode(list(range(self._count))), lengths

    def control_matches(self, text: bytes) -> list[ControlMatch]:
        """Return all places where texts of control tokens begin, overlapping ones, too."""
        matches, n = new_cell("pq_match **", lib.pq_tokenizer_free), ffi.new("size_t *")
        error = new_error()
        with borrowed("char[]", text) as data:
            status = lib.pq_tokenizer_match(self._pointer, data, len(text), matches, n, error)
        check(status, error)
        places = (matches[0][i] for i in reversed(range(n[0])))
        return [ControlMatch(m.begin, m.begin + m.bytes, m.token) for m in places]
