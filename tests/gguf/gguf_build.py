"""Builds GGUF files byte by byte, valid ones and, where asked, wrong ones.

Every length, count and offset that the format derives from something else can be overridden, so
that one rule at a time is broken. Nothing here is shared with the reader under test.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

KINDS = {
    "u8": (0, "B"),
    "i8": (1, "b"),
    "u16": (2, "H"),
    "i16": (3, "h"),
    "u32": (4, "I"),
    "i32": (5, "i"),
    "f32": (6, "f"),
    "bool": (7, "?"),
    "string": (8, ""),
    "array": (9, ""),
    "u64": (10, "Q"),
    "i64": (11, "q"),
    "f64": (12, "d"),
}

# Number, elements and bytes of a block, written down from the format's description.
TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22),
    "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34),
    "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144),
    "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210),
    "IQ4_NL": (20, 32, 18),
    "IQ4_XS": (23, 256, 136),
    "BF16": (30, 1, 2),
}


def text(value: str | bytes, length: int | None = None) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def entry(name: str | bytes, kind: int, payload: bytes, name_length: int | None = None) -> bytes:
    """One key with its value, the value given as bytes."""
    return text(name, name_length) + struct.pack("<I", kind) + payload


def number(name: str | bytes, kind: str, value: float) -> bytes:
    code, letter = KINDS[kind]
    return entry(name, code, struct.pack("<" + letter, value))


def string(name: str | bytes, value: str | bytes, length: int | None = None) -> bytes:
    return entry(name, KINDS["string"][0], text(value, length))


def array(name: str | bytes, kind: str, values: Sequence[float], count: int | None = None) -> bytes:
    code, letter = KINDS[kind]
    payload = struct.pack(f"<{len(values)}{letter}", *values)
    return raw_array(name, code, len(values) if count is None else count, payload)


def strings(name: str | bytes, values: Iterable[str | bytes], count: int | None = None) -> bytes:
    texts = [text(value) for value in values]
    return raw_array(name, 8, len(texts) if count is None else count, b"".join(texts))


def raw_array(name: str | bytes, element: int, count: int, payload: bytes) -> bytes:
    return entry(name, KINDS["array"][0], struct.pack("<IQ", element, count) + payload)


@dataclass(frozen=True)
class Tensor:
    """A tensor's record; what is None is derived, as a correct writer would."""

    name: str | bytes
    dims: tuple[int, ...] = (4,)
    type: str | int = "F32"
    offset: int | None = None  # from the start of the data
    n_dims: int | None = None
    name_length: int | None = None

    @property
    def n_bytes(self) -> int:
        if isinstance(self.type, int):
            return 0
        _, block, block_bytes = TYPES[self.type]
        return math.prod(self.dims) // block * block_bytes

    def data(self) -> bytes:
        """Contents that differ from tensor to tensor and from place to place."""
        seed = sum(text(self.name))
        return bytes((seed + i * 7 + i // 256) % 256 for i in range(self.n_bytes))

    def record(self, offset: int) -> bytes:
        number_of_type = self.type if isinstance(self.type, int) else TYPES[self.type][0]
        return (
            text(self.name, self.name_length)
            + struct.pack("<I", len(self.dims) if self.n_dims is None else self.n_dims)
            + b"".join(struct.pack("<Q", d % 2**64) for d in self.dims)
            + struct.pack("<IQ", number_of_type % 2**32, offset % 2**64)
        )


def align(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


def build(
    entries: Sequence[bytes] = (),
    tensors: Sequence[Tensor] = (),
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_keys: int | None = None,
    n_tensors: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A whole file. `alignment` is only the layout: the key is an entry like any other."""
    records = b""
    data = b""
    for tensor in tensors:
        data = data.ljust(align(len(data), alignment), b"\0")
        records += tensor.record(len(data) if tensor.offset is None else tensor.offset)
        data += tensor.data()
    header = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(entries) if n_keys is None else n_keys,
    )
    header += b"".join(entries) + records
    if tensors:
        header = header.ljust(align(len(header), alignment), b"\0")
    return header + data


def tiny() -> bytes:
    """A valid file of a few hundred bytes that has one of everything."""
    return build(
        [
            string("general.architecture", "qwen2"),
            number("general.alignment", "u32", 32),
            number("a.float", "f32", 0.5),
            number("a.bool", "bool", True),
            array("a.numbers", "i16", [-1, 2, 3]),
            strings("a.strings", ["", "word", "größer"]),
        ],
        [Tensor("one.weight", (32, 2), "Q4_0"), Tensor("two.bias", (3,), "F32")],
    )
