"""What the driver and a worker in another process tell each other: messages with their length in front."""

from __future__ import annotations

from typing import Any, BinaryIO

import msgspec

from pyqwen import errors
from pyqwen.batches.answering import Answer
from pyqwen.batches.rows import Row
from pyqwen.errors import PyQwenError

_LENGTH_BYTES = 8


class Settings(msgspec.Struct, tag="settings"):
    """The first message to a worker: the model, and how it runs."""

    model: str
    name: str
    options: dict[str, Any]
    processors: tuple[int, ...] | None = None


class Ask(msgspec.Struct, tag="row"):
    """A row to answer."""

    row: Row


class Ready(msgspec.Struct, tag="ready"):
    """The worker has opened its model and takes so many rows at a time."""

    capacity: int


class Done(msgspec.Struct, tag="answer"):
    """The answer to a row."""

    answer: Answer


class Refusal(msgspec.Struct, tag="refusal"):
    """The worker cannot open its model."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Refusal:
        return cls(type(error).__name__, str(error))

    def error(self) -> Exception:
        """The exception, where it is one of ours or Python's own; else a ``PyQwenError``."""
        found = getattr(errors, self.kind, None)
        if self.kind in ("ValueError", "TypeError"):
            return ValueError(self.message)
        if isinstance(found, type) and issubclass(found, PyQwenError):
            try:
                return found(self.message)
            except TypeError:
                pass
        return PyQwenError(f"a worker could not begin: {self.message} ({self.kind})")


ToWorker = Settings | Ask
FromWorker = Ready | Done | Refusal
encode = msgspec.msgpack.Encoder().encode
_decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
_decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


def write(stream: BinaryIO, message: ToWorker | FromWorker) -> None:
    """Send a message; ``OSError`` where the other side is gone."""
    data = encode(message)
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
    stream.flush()


def read_to_worker(stream: BinaryIO) -> ToWorker | None:
    """Wait for the next message of the driver; None: it is gone."""
    data = _read(stream)
    return None if data is None else _decode_to_worker(data)


def read_from_worker(stream: BinaryIO) -> FromWorker | None:
    """Wait for the next message of a worker; None: it is gone."""
    data = _read(stream)
    return None if data is None else _decode_from_worker(data)


def _read(stream: BinaryIO) -> bytes | None:
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    size = int.from_bytes(head, "little")
    data = stream.read(size)
    return data if len(data) == size else None
