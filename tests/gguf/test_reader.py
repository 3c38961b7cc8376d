"""What a valid GGUF file gives: all value and tensor types, split files, both ways of loading."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_build import (
    KINDS,
    TYPES,
    Tensor,
    array,
    build,
    number,
    string,
    strings,
    tiny,
)

from pyqwen.errors import ClosedError, ModelChangedError, ModelFormatError, ModelNotFoundError
from pyqwen.loading.gguf_file import GGUFFile

Write = Callable[..., Path]

EXTREMES = {
    "u8": [0, 255],
    "i8": [-128, 127],
    "u16": [0, 65535],
    "i16": [-32768, 32767],
    "u32": [0, 2**32 - 1],
    "i32": [-(2**31), 2**31 - 1],
    "f32": [0.0, -1.5, float("inf")],
    "bool": [False, True],
    "u64": [0, 2**64 - 1],
    "i64": [-(2**63), 2**63 - 1],
    "f64": [0.1, -1e300],
}


# ---------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("kind", EXTREMES)
def test_numbers(write: Write, load: str, kind: str) -> None:
    values = EXTREMES[kind]
    entries = [number(f"n{i}", kind, v) for i, v in enumerate(values)]
    with GGUFFile(write(build([*entries, array("all", kind, values)])), load) as file:
        assert [file.metadata[f"n{i}"] for i in range(len(values))] == values
        assert file.metadata["all"] == values
        assert all(type(v) is type(values[0]) for v in file.metadata["all"])


def test_texts(write: Write, load: str) -> None:
    texts = ["", "plain", "größer", "你好", "🙂👩‍👩‍👧", "a\0b", "\n"]
    entries = [string(f"t{i}", t) for i, t in enumerate(texts)] + [strings("all", texts)]
    with GGUFFile(write(build(entries)), load) as file:
        assert [file.metadata[f"t{i}"] for i in range(len(texts))] == texts
        assert file.metadata["all"] == texts


def test_text_that_is_not_utf8_is_replaced(write: Write, load: str) -> None:
    entries = [string("s", b"a\xffb"), strings("all", [b"\xf0\x9f", b"\x99\x82"])]
    with GGUFFile(write(build(entries)), load) as file:
        assert file.metadata["s"] == "a\ufffdb"
        assert len(file.metadata["all"]) == 2  # halves of one character stay two strings


def test_empty_arrays_and_empty_file(write: Write, load: str) -> None:
    entries = [array("i", "u32", []), strings("s", []), array("b", "bool", [])]
    with GGUFFile(write(build(entries)), load) as file:
        assert [file.metadata[k] for k in ("i", "s", "b")] == [[], [], []]
    with GGUFFile(write(build()), load) as file:
        assert dict(file.metadata) == {}
        assert file.tensors == []


def test_metadata_is_a_mapping_in_file_order(write: Write) -> None:
    names = [f"key.{i}" for i in random.Random(1).sample(range(1000), 200)]
    with GGUFFile(write(build([number(n, "u32", i) for i, n in enumerate(names)]))) as file:
        assert list(file.metadata) == names
        assert len(file.metadata) == 200
        assert file.metadata[names[77]] == 77
        assert "key.none" not in file.metadata
        assert file.metadata.get("key.none", 5) == 5
        with pytest.raises(KeyError, match=r"key\.none"):
            file.metadata["key.none"]


def test_key_names_may_be_long_and_unicode(write: Write, load: str) -> None:
    names = ["k" * 65535, "ключ", "🔑"]
    with GGUFFile(write(build([number(n, "u8", 1) for n in names])), load) as file:
        assert list(file.metadata) == names


def test_large_metadata_is_read_in_growing_steps(write: Write, load: str) -> None:
    words = [f"word {i}" for i in range(120_000)]
    entries = [
        string("first", "x" * 70_000),
        strings("words", words),
        string("big", "y" * 3_000_000),
        number("last", "u32", 7),
    ]
    with GGUFFile(write(build(entries, [Tensor("t")])), load) as file:
        assert file.metadata["words"] == words
        assert len(file.metadata["big"]) == 3_000_000
        assert file.metadata["last"] == 7
        assert file.read("t") == Tensor("t").data()


# ----------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("type_name", TYPES)
def test_tensor_types(write: Write, load: str, type_name: str) -> None:
    tensor = Tensor("t.weight", (512, 3), type_name)
    with GGUFFile(write(build([], [Tensor("before", (5,)), tensor])), load) as file:
        info = file.tensor("t.weight")
        assert (info.name, info.type, info.shape) == ("t.weight", type_name, (512, 3))
        assert info.n_bytes == tensor.n_bytes
        assert info.offset % 32 == 0
        assert file.read("t.weight") == tensor.data()


@pytest.mark.parametrize("alignment", [8, 16, 32, 64, 4096, 1 << 20])
def test_alignment(write: Write, load: str, alignment: int) -> None:
    tensors = [Tensor(f"t{i}", (i + 1,)) for i in range(4)]
    key = number("general.alignment", "u32", alignment)
    with GGUFFile(write(build([key], tensors, alignment=alignment)), load) as file:
        assert file.alignment == alignment
        assert all(info.offset % alignment == 0 for info in file.tensors)
        for tensor in tensors:
            assert file.read(str(tensor.name)) == tensor.data()


def test_dimensions_names_and_version_2(write: Write, load: str) -> None:
    tensors = [
        Tensor("a", (7,)),
        Tensor("b", (3, 2)),
        Tensor("c", (2, 3, 2)),
        Tensor("d" * 63, (1, 2, 1, 3)),
    ]
    with GGUFFile(write(build([], tensors, version=2)), load) as file:
        assert file.version == 2
        assert [t.shape for t in file.tensors] == [t.dims for t in tensors]
        assert file.tensor_bytes == sum(t.n_bytes for t in tensors)
        with pytest.raises(KeyError):
            file.tensor("e")


def test_tensors_may_come_in_any_order_and_leave_holes(write: Write, load: str) -> None:
    data = build([], [Tensor("late", (4,), offset=64), Tensor("early", (4,), offset=0)])
    with GGUFFile(write(data + bytes(100)), load) as file:
        late, early = file.tensors
        assert late.offset - early.offset == 64


def test_types_that_are_known_but_not_supported_can_be_listed(write: Write) -> None:
    numbers = {16: "IQ2_XXS", 19: "IQ1_S", 34: "TQ1_0", 39: "MXFP4", 26: "I32", 31: "Q4_0_4_4"}
    tensors = [
        Tensor(name, (256,), number_, offset=i * 1024)
        for i, (number_, name) in enumerate(numbers.items())
    ]
    with GGUFFile(write(build([], tensors) + bytes(8192))) as file:
        assert [t.type for t in file.tensors] == list(numbers.values())


def test_type_sizes_are_those_of_the_gguf_package(write: Write) -> None:
    for kind, (block, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        if kind == gguf.GGMLQuantizationType.Q8_1:
            continue  # the package still has the size of before 2023; no file holds this type
        with GGUFFile(write(build([], [Tensor("t", (block, 3), int(kind))]) + bytes(4096))) as file:
            assert file.tensors[0].type == kind.name
            assert file.tensors[0].n_bytes == 3 * block_bytes


def test_parts_of_a_tensor(write: Write, load: str) -> None:
    data = Tensor("t", (100,)).data()
    with GGUFFile(write(build([], [Tensor("t", (100,)), Tensor("u")])), load) as file:
        assert file.read("t", 0, 0) == b""
        assert file.read("t", 3, 10) == data[3:13]
        assert file.read("t", 399) == data[399:]
        for offset, n in [(0, 401), (400, 1), (401, 0), (-1, 2), (0, -1), (2**63, 1)]:
            with pytest.raises(IndexError):
                file.read("t", offset, n)


def test_reading_from_many_threads(write: Write, load: str) -> None:
    tensors = [Tensor(f"t{i}", (500 + i,)) for i in range(8)]
    wrong: list[str] = []
    with GGUFFile(write(build([], tensors)), load) as file:

        def work(seed: int) -> None:
            for tensor in random.Random(seed).choices(tensors, k=200):
                if file.read(str(tensor.name)) != tensor.data():
                    wrong.append(str(tensor.name))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_closing_while_other_threads_read(write: Write, load: str) -> None:
    file = GGUFFile(write(build([], [Tensor("t", (200_000,))])), load)
    expected = file.read("t")
    outcomes: list[str] = []

    def work() -> None:
        try:
            while file.read("t") == expected:
                pass
            outcomes.append("wrong bytes")
        except ClosedError:
            outcomes.append("closed")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    file.close()
    for thread in threads:
        thread.join()
    assert outcomes == ["closed"] * 4


# --------------------------------------------------------------------------------- files and paths


def test_path_spellings(tmp_path: Path) -> None:
    path = tmp_path / "größer 模型 🙂.gguf"
    path.write_bytes(tiny())
    for spelling in (path, str(path), os.fsencode(path)):
        with GGUFFile(spelling) as file:  # type: ignore[arg-type]
            assert file.file_bytes == len(tiny())
    with pytest.raises(ValueError, match="NUL"):
        GGUFFile("a\0b")
    with pytest.raises(TypeError):
        GGUFFile(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="load"):
        GGUFFile(path, load="lazy")  # type: ignore[arg-type]


def test_use_after_close(write: Write, load: str) -> None:
    file = GGUFFile(write(tiny()), load)
    metadata = file.metadata
    file.close()
    file.close()
    with pytest.raises(ClosedError):
        metadata["general.architecture"]
    with pytest.raises(ClosedError):
        _ = file.tensors


def test_replaced_file_stays_readable(write: Write, load: str, tmp_path: Path) -> None:
    path = write(tiny())
    with GGUFFile(path, load) as file:
        other = tmp_path / "other"
        other.write_bytes(b"something else")
        try:
            other.replace(path)
        except PermissionError:
            pytest.skip("this system does not replace open files")
        assert file.read("one.weight") == Tensor("one.weight", (32, 2), "Q4_0").data()


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be truncated")
def test_truncated_while_open(write: Write, load: str) -> None:
    path = write(build([string("s", "text")], [Tensor("t", (100_000,))]))
    with GGUFFile(path, load) as file:
        os.truncate(path, 200)
        assert file.metadata["s"] == "text"  # the metadata is a copy
        with pytest.raises(ModelChangedError, match=r"model\.gguf: .*changed"):
            file.read("t")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_copy_mode_maps_nothing(write: Write) -> None:
    path = write(tiny())
    maps = Path("/proc/self/maps")
    with GGUFFile(path, "mmap"):
        assert str(path) in maps.read_text()
    with GGUFFile(path, "copy"):
        assert str(path) not in maps.read_text()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_nothing_stays_open(write: Write, load: str) -> None:
    descriptors = Path("/proc/self/fd")
    good, bad = write(tiny()), write(tiny()[:-1], "bad.gguf")
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        GGUFFile(good, load).close()
        with pytest.raises(ModelFormatError):
            GGUFFile(bad, load)
    assert len(list(descriptors.iterdir())) == before


@pytest.mark.skipif(sys.platform == "win32", reason="sparse files need a special call there")
def test_a_sparse_file_of_a_tebibyte_opens_at_once(tmp_path: Path, load: str) -> None:
    rows = 2**26
    data = build([], [Tensor("small"), Tensor("huge", (4096, rows), 0, offset=32)])
    path = tmp_path / "sparse.gguf"
    path.write_bytes(data)
    try:
        os.truncate(path, len(data) + 4096 * rows * 4)
    except OSError:
        pytest.skip("the file system has no files of that size")
    start = time.perf_counter()
    with GGUFFile(path, load) as file:
        assert file.tensor("huge").n_bytes == 2**40
        assert file.read("huge", 2**40 - 5, 5) == bytes(5)
    assert time.perf_counter() - start < 1


def test_65536_keys_in_less_than_a_second(write: Write) -> None:
    path = write(build([number(f"some.common.prefix.{i:06}", "u32", i) for i in range(65536)]))
    start = time.perf_counter()
    with GGUFFile(path) as file:
        elapsed = time.perf_counter() - start
        assert file.metadata["some.common.prefix.065535"] == 65535
    assert elapsed < 1


# ------------------------------------------------------------------------------------ split models


def shard(no: int, count: int, tensors: list[Tensor], total: int, *entries: bytes) -> bytes:
    return build(
        [
            *entries,
            number("split.no", "u16", no),
            number("split.count", "u16", count),
            number("split.tensors.count", "i32", total),
        ],
        tensors,
    )


SPLIT = [
    ("m-00001-of-00003.gguf", shard(0, 3, [], 3, string("general.name", "whole"))),
    ("m-00002-of-00003.gguf", shard(1, 3, [Tensor("a"), Tensor("b", (9,))], 3)),
    ("m-00003-of-00003.gguf", shard(2, 3, [Tensor("c", (5,))], 3)),
]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_shard_opens_all(write: Write, load: str, which: int) -> None:
    paths = [write(data, name) for name, data in SPLIT]
    with GGUFFile(paths[which], load) as file:
        assert file.shards == 3
        assert file.metadata["general.name"] == "whole"
        assert [(t.name, t.shard) for t in file.tensors] == [("a", 1), ("b", 1), ("c", 2)]
        assert file.file_bytes == sum(len(data) for _, data in SPLIT)
        for tensor in (Tensor("a"), Tensor("b", (9,)), Tensor("c", (5,))):
            assert file.read(str(tensor.name)) == tensor.data()


def test_missing_shard(write: Write, load: str) -> None:
    path = write(SPLIT[0][1], SPLIT[0][0])
    write(SPLIT[2][1], SPLIT[2][0])
    with pytest.raises(ModelNotFoundError, match=r"m-00002-of-00003\.gguf: .*file 2 .*3 files"):
        GGUFFile(path, load)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (shard(2, 3, [Tensor("a"), Tensor("b")], 3), "file 3 of 3 and not 2 of 3"),
        (shard(1, 2, [Tensor("a"), Tensor("b")], 3), "file 2 of 2 and not 2 of 3"),
        (build([], [Tensor("a"), Tensor("b")]), "file 1 of 1 and not 2 of 3"),
        (shard(1, 3, [Tensor("a")], 3), "should have 3 tensors, but its 3 files hold 2"),
        (shard(1, 3, [Tensor("a"), Tensor("c")], 3), "tensor 'c' is there twice"),
        (b"GGUF", "inside the header"),
    ],
)
def test_wrong_shard(write: Write, load: str, second: bytes, message: str) -> None:
    for (name, data), other in zip(SPLIT, [None, second, None], strict=True):
        write(other or data, name)
    for name, _ in (SPLIT[0], SPLIT[2]):
        with pytest.raises(ModelFormatError, match=message):
            GGUFFile(write(dict(SPLIT)[name], name), load)


def test_renamed_shard(write: Write, load: str) -> None:
    with pytest.raises(ModelFormatError, match=r"does not end in -00001-of-00003\.gguf"):
        GGUFFile(write(SPLIT[0][1], "renamed.gguf"), load)
    with pytest.raises(ModelFormatError, match=r"file 1 of a model in 3"):
        GGUFFile(write(SPLIT[0][1], "m-00002-of-00003.gguf"), load)


def test_split_into_one_is_not_split(write: Write, load: str) -> None:
    with GGUFFile(write(shard(0, 1, [Tensor("t")], 1), "any.gguf"), load) as file:
        assert file.shards == 1


# ----------------------------------------------------------------------- against the gguf package


def random_file(seed: int) -> bytes:
    rng = random.Random(seed)
    entries = [string("general.architecture", "qwen2")]
    for i in range(rng.randrange(12)):
        kind = rng.choice([k for k in KINDS if k not in ("array", "string", "f32")])
        values = [rng.choice(EXTREMES[kind]) for _ in range(rng.randrange(1, 9))]
        words = ["".join(rng.choices("ab é🙂\n", k=rng.randrange(9))) for _ in values]
        entries.append(
            rng.choice(
                [
                    number(f"k.{i}", kind, values[0]),
                    string(f"k.{i}", words[0]),
                    array(f"k.{i}", kind, values),
                    strings(f"k.{i}", words),
                ]
            )
        )
    tensors = [
        Tensor(
            f"blk.{i}.weight",
            (256 * rng.randrange(1, 3), *(rng.randrange(1, 4) for _ in range(rng.randrange(4)))),
            rng.choice(list(TYPES)),
        )
        for i in range(rng.randrange(1, 6))
    ]
    return build(entries, tensors)


@pytest.mark.parametrize("seed", range(40))
def test_same_directory_as_the_gguf_package(write: Write, load: str, seed: int) -> None:
    path = write(random_file(seed))
    theirs = gguf.GGUFReader(path)
    with GGUFFile(path, load) as ours:
        their_keys = {k: v for k, v in theirs.fields.items() if not k.startswith("GGUF.")}
        assert list(ours.metadata) == list(their_keys)
        for key, field in their_keys.items():
            assert ours.metadata[key] == field.contents(), key
        assert [t.name for t in ours.tensors] == [t.name for t in theirs.tensors]
        for our, their in zip(ours.tensors, theirs.tensors, strict=True):
            assert our.type == their.tensor_type.name
            assert our.shape == tuple(their.shape.tolist())
            assert (our.offset, our.n_bytes) == (their.data_offset, their.n_bytes)
            assert bytes(ours.read(our.name)) == their.data.tobytes()


def test_reads_what_the_gguf_package_writes(tmp_path: Path, load: str) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(2)
    writer.add_token_list(["a", "b", "Ġc"])
    writer.add_token_scores([0.0, -1.0, -2.5])
    writer.add_rope_freq_base(1e6)
    weights = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("w", weights)
    writer.add_tensor("h", weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GGUFFile(path, load) as file:
        assert file.metadata["qwen2.block_count"] == 2
        assert file.metadata["tokenizer.ggml.tokens"] == ["a", "b", "Ġc"]
        assert file.metadata["tokenizer.ggml.scores"] == [0.0, -1.0, -2.5]
        assert file.metadata["qwen2.rope.freq_base"] == 1e6
        assert file.tensor("w").shape == (32, 2)
        assert bytes(file.read("w")) == weights.tobytes()
        assert bytes(file.read("h")) == weights.astype(np.float16).tobytes()
