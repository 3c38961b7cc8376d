"""What a broken, truncated or foreign file gives: one exception: what is wrong, where, what to do.

The ids L01 to L59 number the cases of the project's list of bad inputs.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf_build import (
    Tensor,
    array,
    build,
    entry,
    number,
    raw_array,
    string,
    strings,
    text,
    tiny,
)

from pyqwen.errors import (
    ModelFileError,
    ModelFormatError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from pyqwen.loading.gguf_file import GGUFFile

Write = Callable[..., Path]
Case = tuple[bytes, type[ModelFileError], str]

HUGE = (2**32, 2**63, 2**64 - 1)


def with_key(raw: bytes) -> bytes:
    return build([string("general.architecture", "qwen2"), raw], [Tensor("t")])


def with_tensor(*tensors: Tensor) -> bytes:
    return build([], tensors)


def nested(depth: int) -> bytes:
    levels = b"".join(struct.pack("<IQ", 9, 1) for _ in range(depth))
    return entry("k", 9, levels + struct.pack("<IQ", 4, 1) + bytes(4))


def foreign_cases() -> dict[str, Case]:
    kinds = {
        "zip": (b"PK\x03\x04" + bytes(40), "ZIP archive.*PyTorch.*GGUF"),
        "pickle": (b"\x80\x02}q\x00" + bytes(40), "Python pickle.*never loaded"),
        "pickle 4": (b"\x80\x04\x95" + bytes(40), "Python pickle"),
        "safetensors": (struct.pack("<Q", 80) + b'{"__metadata__":{}}'.ljust(80), "safetensors"),
        "ggml": (b"lmgg" + bytes(40), "GGML file of 2023"),
        "ggjt": (b"tjgg" + bytes(40), "GGML file of 2023"),
        "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "html": (b"\n <!DOCTYPE html><html><body>404</body></html>", "web page.*download"),
        "html 2": (b"<HTML>Access denied", "web page"),
        "json": (b'{"error": "not found"}', "JSON text"),
        "gzip": (b"\x1f\x8b\x08" + bytes(40), "gzip archive; unpack"),
        "zstd": (b"\x28\xb5\x2f\xfd" + bytes(40), "Zstandard archive; unpack"),
        "zeros": (bytes(4096), "unfinished download"),
        "big-endian magic": (b"FUGG" + bytes(40), "big-endian"),
        "text": (b"hello world, this is text", "begins with the bytes 68 65 6c 6c"),
    }
    return {
        f"L10 {name}": (data, ModelFormatError, "not a GGUF file.*" + message)
        for name, (data, message) in kinds.items()
    }


def header_cases() -> dict[str, Case]:
    good = tiny()
    cases: dict[str, Case] = {
        "L04 empty": (b"", ModelFormatError, r"empty \(0 bytes\)"),
        "L11 version 0": (build(version=0), UnsupportedModelError, "version 0 .*download"),
        "L11 version 1": (build(version=1), UnsupportedModelError, "version 1 .*download"),
        "L11 version 4": (build(version=4), UnsupportedModelError, "version 4 .*newer pyqwen"),
        "L11 big-endian": (build(version=3 << 24), UnsupportedModelError, "big-endian.*convert"),
        "L22 tensors times size wraps": (
            build(n_tensors=2**64 // 96 + 1),
            ModelFormatError,
            "tensors, but at most 0",
        ),
        "L23 one key too many": (
            build([number("a", "u8", 1)], n_keys=2),
            ModelFormatError,
            "2 keys, but at most 1",
        ),
        "L23 more keys than there are": (
            build([string("a", "x" * 100)], n_keys=2),
            ModelFormatError,
            "inside key|the file ends",
        ),
        "more than 65536 keys": (
            build([number("a", "u8", 1)], n_keys=65537) + bytes(65537 * 14),
            ModelFormatError,
            "65537 keys, but at most 65536",
        ),
    }
    for n in range(1, 24):
        cases[f"L05 {n} bytes"] = (good[:n], ModelFormatError, r"incomplete")
    for n in HUGE:
        cases[f"L20 {n} keys"] = (build(n_keys=n), ModelFormatError, f"claims {n} keys")
        cases[f"L21 {n} tensors"] = (build(n_tensors=n), ModelFormatError, f"claims {n} tensors")
    return cases


def key_cases() -> dict[str, Case]:
    u32 = struct.pack("<I", 5)
    damaged: dict[str, tuple[bytes, str]] = {
        "L24 empty name": (entry("", 4, u32), "name of key 1 .* is 0 bytes long"),
        "L24 name of 2^63": (entry("k", 4, u32, 2**63), f"is {2**63} bytes long"),
        "L24 name beyond the file": (entry("k", 4, u32, 60_000), "ends at byte .*inside key"),
        "L24 name of 65536": (entry("k" * 65536, 4, u32), "is 65536 bytes long"),
        "L25 name not UTF-8": (entry(b"k\xff", 4, u32), "name of key 1 .*UTF-8"),
        "L25 overlong UTF-8": (entry(b"k\xc0\x80", 4, u32), "UTF-8"),
        "L25 surrogate": (entry(b"k\xed\xa0\x80", 4, u32), "UTF-8"),
        "L25 beyond U+10FFFF": (entry(b"k\xf4\x90\x80\x80", 4, u32), "UTF-8"),
        "L25 cut UTF-8": (entry(b"k\xe2\x82", 4, u32), "UTF-8"),
        "L25 NUL in name": (entry(b"k\0k", 4, u32), "control characters"),
        "L25 escape sequence": (entry(b"\x1b[2J", 4, u32), "control characters"),
        "L27 type 13": (entry("k", 13, u32), "'k' .*unknown type 13"),
        "L27 type 99": (entry("k", 99, u32), "'k' .*unknown type 99"),
        "L27 type 2^31": (entry("k", 2**31, u32), f"'k' .*unknown type {2**31}"),
        "L28 string beyond the file": (string("k", "x", 10_000), "'k' .*claims 10000 bytes"),
        "L28 string of 2^64-1": (string("k", "x", 2**64 - 1), f"claims {2**64 - 1} bytes"),
        "L28 string in array": (
            raw_array("k", 8, 2, text("ok") + text("x", 2**64 - 1)),
            f"claims {2**64 - 1} bytes",
        ),
        "L29 array of 2^62": (array("k", "u32", [], 2**62), f"claims {2**62} elements"),
        "L29 array of 2^62 strings": (strings("k", [], 2**62), f"claims {2**62} elements"),
        "L29 product wraps": (array("k", "u64", [1], 2**61 + 1), f"claims {2**61 + 1} elements"),
        "L29 more than there is": (array("k", "u8", [1], 5000), "claims 5000 elements"),
        "L31 element type 13": (raw_array("k", 13, 1, u32), "elements of the unknown type 13"),
        "L31 element type 2^32-1": (raw_array("k", 2**32 - 1, 1, u32), "unknown type 4294967295"),
        "L32 bool 7": (entry("k", 7, b"\x07"), "bool in key 'k' .* is 7 "),
        "long names in messages": (entry("k" * 60_000, 99, u32), "unknown type 99; .*again$"),
        "L32 bool in array": (raw_array("k", 7, 2, b"\x01\x02"), "bool in key 'k' .* is 2 "),
    }
    cases: dict[str, Case] = {
        name: (with_key(raw), ModelFormatError, message) for name, (raw, message) in damaged.items()
    }
    twice = [number("k", "u8", 1), string("other", "x"), number("k", "u32", 2)]
    cases["L26 twice"] = (build(twice), ModelFormatError, "'k' is there twice, at bytes 37 and")
    many = [number(f"k{i}", "u8", 1) for i in range(5000)] + [number("k77", "u8", 1)]
    cases["L26 twice of many"] = (build(many), ModelFormatError, "'k77' is there twice")
    for depth in (1, 2, 10_000):
        cases[f"L30 nested {depth}"] = (
            with_key(nested(depth)),
            UnsupportedModelError,
            "'k' .*array of arrays",
        )
    return cases


def alignment_cases() -> dict[str, Case]:
    name = "general.alignment"
    values = {
        "0": (number(name, "u32", 0), "is 0, outside the range 8 to 1048576"),
        "1": (number(name, "u32", 1), "is 1, outside"),
        "13": (number(name, "u32", 13), "13, which is not a power of two"),
        "2^31": (number(name, "u32", 2**31), "outside"),
        "2^21": (number(name, "u32", 2**21), "outside"),
        "negative": (number(name, "i32", -32), "is -32, outside"),
        "lowest i64": (number(name, "i64", -(2**63)), "is -9223372036854775808, outside"),
        "float": (number(name, "f32", 32.0), "is of type f32 and should be an integer"),
        "string": (string(name, "32"), "is of type string and should be an integer"),
        "bool": (number(name, "bool", True), "is of type bool"),
        "array": (array(name, "u32", [32]), "is of type array"),
    }
    cases: dict[str, Case] = {
        f"L33 {label}": (with_key(raw), ModelFormatError, "general.alignment' .*" + message)
        for label, (raw, message) in values.items()
    }
    twice = build([number(name, "u32", 32), number(name, "u32", 64)], [Tensor("t")])
    cases["L33 twice"] = (twice, ModelFormatError, "'general.alignment' is there twice")
    return cases


def tensor_cases() -> dict[str, Case]:
    wrong: dict[str, tuple[tuple[Tensor, ...], str]] = {
        "L50 empty name": ((Tensor(""),), "name of tensor 0 .* is 0 bytes"),
        "L50 name of 64": ((Tensor("n" * 64),), "is 64 bytes long, outside the range 1 to 63"),
        "L50 name of 2^64-1": ((Tensor("n", name_length=2**64 - 1),), f"is {2**64 - 1} bytes"),
        "L50 NUL in name": ((Tensor("a\0b"),), "control characters"),
        "L50 name not UTF-8": ((Tensor(b"\xc3("),), "UTF-8"),
        "L50 twice": ((Tensor("a"), Tensor("b"), Tensor("a")), "tensor 'a' is there twice"),
        "L51 no dimensions": ((Tensor("t", (1, 2), n_dims=0),), "'t' .*1 to 4 dimensions"),
        "L51 5 dimensions": ((Tensor("t", (1,) * 5),), "'t' .*1 to 4 dimensions"),
        "L51 2^32-1 dimensions": ((Tensor("t", n_dims=2**32 - 1),), "1 to 4 dimensions"),
        "L52 dimension 0": ((Tensor("t", (0,)),), "dimension of 0"),
        "L52 inner dimension 0": ((Tensor("t", (4, 0, 2)),), "dimension of 0"),
        "L52 dimension -1": ((Tensor("t", (-1,), 0),), "beyond 63 bits"),
        "L52 dimension 2^63": ((Tensor("t", (2**63,), 0),), "beyond 63 bits"),
        "L52 product wraps to 4": ((Tensor("t", (4, 2**62 + 1), 0),), "more elements than 64"),
        "L52 product wraps to 0": ((Tensor("t", (2**32, 2**32), 0),), "more elements than 64"),
        "L52 product of four wraps": ((Tensor("t", (2**16 + 1,) * 4, 0),), "more elements than 64"),
        "L53 bytes wrap": ((Tensor("t", (2**62,), 0),), "more bytes than 64"),
        "L54 row of half a block": ((Tensor("t", (48, 2), "Q4_0"),), "rows of 48 .*Q4_0, 32"),
        "L54 row of 32 in K quant": ((Tensor("t", (32, 8), 12),), "rows of 32 .*Q4_K, 256"),
        "L56 unaligned": ((Tensor("t", offset=33),), "'t' .*not a multiple of the alignment"),
        "L57 beyond the end": ((Tensor("t", offset=2**20),), "'t' ends at byte .* file has"),
        "L57 with large numbers": (
            (Tensor("t", (2**30,), 0),),
            "'t' ends at byte 4,294,967,360 but the file has 64 bytes",
        ),
        "L57 offset wraps": ((Tensor("t", offset=2**64 - 32),), "'t' ends at byte"),
        "L58 overlap": ((Tensor("a", (16,)), Tensor("b", (4,), offset=32)), "'a' and 'b' overlap"),
        "L58 same place": ((Tensor("a"), Tensor("b", offset=0)), "overlap"),
        "L58 inside": (
            (Tensor("b", (4,), offset=64), Tensor("a", (100,), offset=0)),
            "'a' and 'b' overlap",
        ),
    }
    cases: dict[str, Case] = {
        name: (with_tensor(*tensors), ModelFormatError, message)
        for name, (tensors, message) in wrong.items()
    }
    whole = with_tensor(Tensor("t"), Tensor("u"))
    cases["L57 by 1"] = (
        whole[:-1],
        ModelFormatError,
        f"'u' ends at byte {len(whole)} but the file has {len(whole) - 1} bytes; the download is",
    )
    for number_, message in {
        2**32 - 1: "'t' .*unknown type 4294967295",
        999: "'t' .*unknown type 999",
        4: "'t' .*removed type 4 Q4_2",
        5: "'t' .*removed type 5 Q4_3",
    }.items():
        data = with_tensor(Tensor("t", (256,), number_)) + bytes(2048)
        cases[f"L55 type {number_}"] = (data, UnsupportedModelError, message)
    return cases


CASES = {
    **foreign_cases(),
    **header_cases(),
    **key_cases(),
    **alignment_cases(),
    **tensor_cases(),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_bad_bytes(write: Write, load: str, case: Case) -> None:
    data, exception, message = case
    with pytest.raises(exception, match=rf"(?s)^model\.gguf: .*{message}") as raised:
        GGUFFile(write(data), load)
    assert type(raised.value) is exception


def test_every_truncation(write: Write, load: str) -> None:
    """L06: no beginning of a file that ends with tensor data is a valid file."""
    data = tiny()
    for n in range(len(data)):
        with pytest.raises(ModelFormatError, match=r"^model\.gguf: "):
            GGUFFile(write(data[:n]), load)
    GGUFFile(write(data), load).close()


def walk(path: Path, load: str) -> int:
    """Use every accessor; return how much there was."""
    with GGUFFile(path, load) as file:  # type: ignore[arg-type]
        seen = len(repr(dict(file.metadata)))
        return seen + sum(len(file.read(t.name)) for t in file.tensors)


@pytest.mark.parametrize("seed", range(8))
def test_random_damage(write: Write, load: str, seed: int) -> None:
    """A result or a ModelFileError; anything else, and any crash, fails."""
    rng = random.Random(seed)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(100):
        data = bytearray(tiny())
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            elif kind == 2:
                del data[at : at + rng.randrange(1, 9)]
            else:
                data[at : at + 8] = struct.pack("<Q", rng.choice([0, 2**31, 2**63, 2**64 - 1]))
        try:
            walk(write(bytes(data)), load)
            outcomes["read"] += 1
        except ModelFileError as error:
            assert str(error).startswith("model.gguf: ")  # noqa: PT017
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0  # the damage is neither harmless nor always fatal


def test_error_carries_field_and_offset(write: Write) -> None:
    data = build([number("first", "u8", 1), entry("broken", 99, b"")])
    with pytest.raises(ModelFormatError) as raised:
        GGUFFile(write(data))
    assert raised.value.field == "broken"
    assert raised.value.offset == data.index(struct.pack("<I", 99))


@pytest.mark.skipif(sys.platform == "win32", reason="sparse files need a special call there")
def test_endless_metadata_is_refused_soon(write: Write, load: str) -> None:
    """A sparse file has room for all the zeros that it claims; reading stops at a limit."""
    strings_of_zeros = [entry("a" * 9 + str(i), 8, text(b"", 60 << 20)) for i in range(8)]
    head = build([strings_of_zeros[0]], n_keys=8)
    path = write(head)
    with path.open("r+b") as file:
        for raw in strings_of_zeros[1:]:
            file.seek(60 << 20, os.SEEK_END)
            file.write(raw)
        file.truncate(40 << 30)
    start = time.perf_counter()
    with pytest.raises(UnsupportedModelError, match="metadata is larger than 268435456 bytes"):
        GGUFFile(path, load)
    assert time.perf_counter() - start < 10


# ------------------------------------------------------------------------------- things on a path


def test_missing(tmp_path: Path, load: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"^none\.gguf: no such file") as raised:  # L01
        GGUFFile(tmp_path / "none.gguf", load)
    assert isinstance(raised.value, FileNotFoundError)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelNotFoundError):
        GGUFFile(tmp_path / "file" / "below", load)
    with pytest.raises(ModelFileError):
        GGUFFile("", load)


def test_directory(tmp_path: Path, load: str) -> None:
    for path in (tmp_path, f"{tmp_path}/"):  # L02
        with pytest.raises(ModelFileError, match=f"^{tmp_path.name}/?: is a directory"):
            GGUFFile(path, load)


posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@posix
def test_unreadable(write: Write, load: str) -> None:
    path = write(tiny())
    path.chmod(0)  # L03
    if os.access(path, os.R_OK):
        pytest.skip("runs as root")
    with pytest.raises(ModelFileError, match="cannot be opened: Permission denied"):
        GGUFFile(path, load)


@posix
def test_no_regular_file(tmp_path: Path, load: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # L07
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's path may be short only, and tmp_path is long.
        name = Path(tempfile.gettempdir()) / f"pyqwen-test-{os.getpid()}"
        server.bind(str(name))
        try:
            for path, kind in [
                (tmp_path / "pipe", "a pipe"),
                (name, "a socket"),
                (Path("/dev/zero"), "a device"),
                (Path("/dev/null"), "a device"),
            ]:
                with pytest.raises(ModelFileError, match=f"is {kind}, not a regular file"):
                    GGUFFile(path, load)
        finally:
            name.unlink()


@posix
def test_links(tmp_path: Path, write: Write, load: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")  # L08
    with pytest.raises(ModelFileError, match=r"loop: cannot be opened: .*symbolic links"):
        GGUFFile(tmp_path / "loop", load)
    (tmp_path / "link").symlink_to(write(tiny()))
    GGUFFile(tmp_path / "link", load).close()


@posix
def test_strange_paths(tmp_path: Path, load: str) -> None:
    with pytest.raises(ModelFileError, match="cannot be opened: File name too long"):  # L09
        GGUFFile("x" * 5000, load)
    with pytest.raises(ModelNotFoundError):
        GGUFFile(os.fsdecode(b"\xff\xfe.gguf"), load)
