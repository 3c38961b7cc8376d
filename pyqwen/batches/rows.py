"""The rows of an input file: OpenAI's batch requests, one JSON object a line.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...]}}

A file is read once from end to end, and of each row its place, a digest and what it begins with are kept:
rows are read again when they are answered. What is wrong with a single row is its answer; what is wrong with
the file, such as two rows of one ``custom_id``, is a ``ValueError``.
"""

from __future__ import annotations

import codecs
import json
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from pyqwen.batches.prefixes import by_prefix, prefix_key

MAX_LINE = 64 * 2**20
"""Bytes of a row."""
URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
_MODELS = 10  # names that are remembered
_ID_PREFIX = "batch_req_"
_ID_BYTES = 12

encode_json = msgspec.json.Encoder().encode


class RowError(Exception):
    """A row that is no request; ``code`` is OpenAI's word for the reason, ``param`` the field."""

    def __init__(
        self, code: str, message: str, param: str | None = None, custom_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.param, self.custom_id = code, message, param, custom_id


class Request(msgspec.Struct):
    """A row as it was read; ``body`` is JSON that is not looked at yet."""

    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: msgspec.Raw = msgspec.Raw()


_decode_request = msgspec.json.Decoder(Request).decode


def read_request(data: bytes) -> Request:
    """The request of a line; ``RowError`` where it is none."""
    try:
        request = _decode_request(data)
    except msgspec.ValidationError as error:
        raise RowError("invalid_request", f"a row is a JSON object: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RowError(
            "invalid_json_line", f"the line is not JSON: {error}", custom_id=_found_name(data)
        ) from error
    name = request.custom_id
    if not isinstance(name, str) or not name:
        problem = "is missing" if name is None else "must be a text that is not empty"
        raise RowError("missing_required_parameter", f"custom_id {problem}", "custom_id")
    if request.method != "POST":
        raise RowError(
            "invalid_method", f"method must be POST, not {_brief(request.method)}", "method", name
        )
    if request.url not in URLS:
        known = ", ".join(URLS)
        raise RowError("invalid_url", f"url {_brief(request.url)} is none of {known}", "url", name)
    if not bytes(request.body).startswith(b"{"):
        raise RowError("missing_required_parameter", "body must be a JSON object", "body", name)
    return request


def _found_name(data: bytes) -> str | None:
    """The custom_id of a line whose only fault is half a character, which Python's json takes."""
    try:
        name = json.loads(data)["custom_id"]
        return name if isinstance(name, str) and name.encode() else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _checked_size(data: bytes | None) -> Request:
    if data is None:
        raise RowError("invalid_json_line", f"the line is longer than {MAX_LINE:,} bytes")
    return read_request(data)


def _brief(value: object) -> str:
    return "missing" if value is None else repr(value)[:100]


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A row that is given to a worker: its number in the file, its id in the output, its bytes."""

    number: int
    id: str
    data: bytes


class RowFile:
    """An input file, open. Rows have numbers from 0 on.

    ``ids``, ``custom_ids`` and ``lines`` (counted from 1, as editors do) are lists by number; ``errors`` has
    what is wrong with rows that are no requests. Blank lines are no rows. Close it after use.
    """

    def __init__(self, path: Path) -> None:
        """Read the whole file. ``ValueError`` where two rows have one custom_id, or none is a request."""
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is not a regular file; rows are read from one more than once")
        self.path = path
        self.ids: list[str] = []
        self.custom_ids: list[str | None] = []
        self.lines = array("Q")
        self.errors: dict[int, RowError] = {}
        self.models: set[str] = set()  # that rows ask for
        self._offsets, self._sizes = array("Q"), array("Q")
        self._keys: list[bytes] = []
        self._by_name: dict[str, int] = {}
        self._by_id: dict[str, int] = {}
        self._file = path.open("rb")
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.ids)

    def number_of(self, custom_id: str) -> int | None:
        """The row of this custom_id."""
        return self._by_name.get(custom_id)

    def number_by_id(self, row_id: str) -> int | None:
        """The row of this id in the output."""
        return self._by_id.get(row_id)

    def ordered(self, numbers: Sequence[int]) -> list[int]:
        """These rows so that those whose prompts begin alike follow each other. May be called once."""
        keys, self._keys = self._keys, []
        return by_prefix(numbers, keys)

    def read(self, number: int) -> Row:
        """A row's bytes; ``ValueError`` if the file was changed."""
        self._file.seek(self._offsets[number])
        data = self._file.read(self._sizes[number])
        if _id_of(data) != self.ids[number]:
            raise ValueError(
                f"{self.path} was changed while it was answered: line {self.lines[number]} is another one"
            )
        return Row(number, self.ids[number], data)

    def _read(self) -> None:
        for line, offset, data in _lines(self._file):
            if data is not None and not data:
                continue
            number = len(self.ids)
            self.lines.append(line)
            self._offsets.append(offset)
            self._sizes.append(0 if data is None else len(data))
            self._add(number, line, data)
        if not self.ids:
            raise ValueError(f"{self.path} has no rows")
        if len(self.errors) == len(self.ids):
            error = self.errors[0]
            raise ValueError(
                f"{self.path} has no row that is a request of a batch; line {self.lines[0]}: "
                f"{error.message}"
            )

    def _add(self, number: int, line: int, data: bytes | None) -> None:
        key, name = b"", None
        try:
            request = _checked_size(data)
            name = request.custom_id
            key = self._prefix_key(request)
        except RowError as error:
            self.errors[number] = error
            name = error.custom_id
        if name is not None:
            first = self._by_name.setdefault(name, number)
            if first != number:
                raise ValueError(
                    f"{self.path}: the custom_id {name[:100]!r} stands in line {self.lines[first]} and "
                    f"again in line {line}; each row needs one of its own"
                )
        row_id, copies = _id_of(data or b""), 0
        while row_id in self._by_id:  # lines without a custom_id may be the same
            copies += 1
            row_id = _id_of(data or b"", copies)
        self.custom_ids.append(name)
        self.ids.append(row_id)
        self._by_id[row_id] = number
        self._keys.append(key)

    def _prefix_key(self, request: Request) -> bytes:
        try:
            body = msgspec.json.decode(request.body)
            if isinstance(body.get("model"), str) and len(self.models) < _MODELS:
                self.models.add(body["model"])
            if request.url == "/v1/embeddings":
                return b""
            return prefix_key((request.url.encode(), *_prompt_parts(body)))
        except (ValueError, OverflowError, RecursionError):  # its answer will say what is wrong
            return b""


def _prompt_parts(body: dict[str, Any]) -> Iterator[bytes]:
    """What a prompt is made of, in its order."""
    for name in ("tools", "instructions", "prompt", "messages", "input"):
        value = body.get(name)
        for part in value if isinstance(value, list) else (value,):
            if isinstance(part, dict) and "role" in part:
                part = [part["role"], part.get("content"), part.get("tool_calls")]
            if part is not None:
                yield part.encode() if isinstance(part, str) else encode_json(part)


def _id_of(data: bytes, copy: int = 0) -> str:
    """The id of a row in the output: the same request always has the same."""
    digest = blake2b(data, digest_size=_ID_BYTES, salt=copy.to_bytes(16, "little"))
    return _ID_PREFIX + digest.hexdigest()


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes | None]]:
    """The lines of a file: number, offset, and bytes without white space around; None: too long."""
    offset = line = 0
    while data := file.readline(MAX_LINE + 1):
        line += 1
        start, size = offset, len(data)
        offset += size
        if line == 1 and data.startswith(codecs.BOM_UTF8):
            data, start = data[len(codecs.BOM_UTF8) :], start + len(codecs.BOM_UTF8)
        if size > MAX_LINE and not data.endswith(b"\n"):
            while rest := file.readline(MAX_LINE):
                offset += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield line, start, None
            continue
        text = data.strip()
        yield line, start + len(data) - len(data.lstrip()), text
