"""Quantizing models: what comes out, that it is the same everywhere, and what it says about itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pyqwen import Model
from pyqwen._native import measure_quantization, quantize_weights
from pyqwen.errors import CancelledError
from pyqwen.quantize import RECIPES, ImportanceMatrix, convert, quantize, write_imatrix
from pyqwen.quantize.plot import plot_svg

SIZES = {"hidden": 256, "ffn": 512, "layers": 2}


@pytest.fixture
def checkpoint(make_checkpoint) -> Path:
    """A model whose rows fit every block."""
    return make_checkpoint(**SIZES).write()


def matrix_for(path: Path, seed: int = 7) -> ImportanceMatrix:
    """An importance matrix for all matrices of a GGUF file but the embedding."""
    random = np.random.default_rng(seed)
    values = {
        tensor.name: random.uniform(0.01, 4, int(tensor.shape[0])).astype(np.float32)
        for tensor in gguf.GGUFReader(path).tensors
        if len(tensor.shape) == 2 and tensor.name != "token_embd.weight"
    }
    return ImportanceMatrix(values, dict.fromkeys(values, 100), 3, 512, ("some text",))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys and tensors of a GGUF file, by name."""
    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    return keys, {tensor.name: tensor for tensor in reader.tensors}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs(checkpoint: Path, tmp_path: Path, recipe: str) -> None:
    out = tmp_path / "model.gguf"
    done = quantize(checkpoint, out, recipe)
    keys, tensors = read(out)
    assert done.file_bytes == out.stat().st_size
    assert [t.name for t in done.tensors] == list(tensors)
    for tensor in done.tensors:
        stored = tensors[tensor.name]
        assert stored.tensor_type.name == tensor.type
        assert stored.n_bytes == tensor.n_bytes
        assert tuple(reversed(stored.shape.tolist())) == tensor.shape
        assert (tensor.rms_error is None) == (tensor.type == tensor.source_type)
    names = {"F32": "ALL_F32", "COPY": "MOSTLY_BF16"}
    file_type = names.get(recipe, f"MOSTLY_{recipe}")
    assert keys["general.file_type"] == gguf.LlamaFileType[file_type]
    assert keys["general.quantization_version"] == 2
    with Model(out, threads=1) as model:
        assert np.isfinite(model.logits([1, 2, 3])).all()


def test_the_bytes_and_errors_are_those_of_the_core(checkpoint: Path, tmp_path: Path) -> None:
    full = convert(checkpoint, tmp_path / "full.gguf", "f32").path
    matrix = matrix_for(full)
    done = quantize(checkpoint, tmp_path / "model.gguf", "Q4_K_M", imatrix=matrix)
    weights, tensors = read(full)[1], read(done.path)[1]
    for tensor in done.tensors:
        if tensor.type == tensor.source_type:
            assert tensors[tensor.name].data.tobytes() == weights[tensor.name].data.tobytes()
            continue
        rows = np.array(weights[tensor.name].data, np.float32)
        importance = matrix.values.get(tensor.name)
        data = quantize_weights(rows, tensor.type, importance=importance)
        assert tensors[tensor.name].data.tobytes() == data.tobytes()
        error = measure_quantization(data, rows, tensor.type, importance=importance)
        assert tensor.rms_error == pytest.approx(error.relative)
        assert tensor.worst_block is not None
        assert tensor.worst_block.error == error.worst
        place = (tensor.worst_block.row, tensor.worst_block.column)
        assert place == (error.worst_row, error.worst_column)
        if importance is None:
            assert tensor.weighted_error is None
        else:
            expected = (error.weighted_error / error.weighted_energy) ** 0.5
            assert tensor.weighted_error == pytest.approx(expected)


def test_slices_change_nothing(
    make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint(architecture="llama", **SIZES).write()
    whole = quantize(path, tmp_path / "whole.gguf", "Q4_K_M")
    monkeypatch.setattr("pyqwen.quantize.source.model_source.SLICE_ELEMENTS", 5 * 256)
    sliced = quantize(path, tmp_path / "sliced.gguf", "Q4_K_M")
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "sliced.gguf").read_bytes()
    for a, b in zip(whole.tensors, sliced.tensors, strict=True):
        assert a.worst_block == b.worst_block
        assert a.rms_error == (None if b.rms_error is None else pytest.approx(b.rms_error))


def test_threads_and_instruction_sets_change_nothing(checkpoint: Path, tmp_path: Path) -> None:
    outs, reports = [], []
    for i, (threads, isa) in enumerate([(1, "scalar"), (2, "scalar"), (3, ""), (8, "avx2")]):
        out, report = tmp_path / f"{i}.gguf", tmp_path / f"{i}.json"
        command = ["quantize", checkpoint, out, "Q3_K_M", str(threads), "--report", report]
        run_cli(*command, env={"PYQWEN_ISA": isa} if isa else {})
        outs.append(out.read_bytes())
        reports.append(json.loads(report.read_text()))
        reports[-1].pop("output")
    assert all(out == outs[0] for out in outs)
    assert all(report == reports[0] for report in reports)


def test_the_environment_names_the_instruction_set(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQWEN_ISA", "scalar")
    quantize(checkpoint, tmp_path / "model.gguf", "Q4_0")
    monkeypatch.setenv("PYQWEN_ISA", "abacus")
    with pytest.raises(ValueError, match=r"PYQWEN_ISA .*'abacus'"):
        quantize(checkpoint, tmp_path / "model.gguf", "Q4_0")


def run_cli(*words: Any, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pyqwen", *map(str, words)]
    subprocess.run(command, check=True, env={**os.environ, **env}, capture_output=True)


def test_a_checkpoint_and_its_gguf_file_give_the_same(checkpoint: Path, tmp_path: Path) -> None:
    converted = convert(checkpoint, tmp_path / "full.gguf").path
    quantize(checkpoint, tmp_path / "a.gguf", "Q4_K_M")
    quantize(converted, tmp_path / "b.gguf", "Q4_K_M")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    quantize(checkpoint, tmp_path / "c.gguf", "COPY")
    assert (tmp_path / "c.gguf").read_bytes() == converted.read_bytes()


def test_split_models(make_tiny_model, tmp_path: Path) -> None:
    sizes = {"hidden": 256, "ffn": 512, "tensor_type": "F16"}
    whole = make_tiny_model(**sizes)
    first = make_tiny_model(**sizes, split_max_tensors=7)
    assert first != whole
    for part in (first, sorted(first.parent.glob(f"{first.name[:-20]}*"))[1]):
        quantize(part, tmp_path / "b.gguf", "Q4_K_M")
    quantize(whole, tmp_path / "a.gguf", "Q4_K_M")
    a, b = read(tmp_path / "a.gguf"), read(tmp_path / "b.gguf")
    assert not [key for key in b[0] if key.startswith("split.")]
    assert {n: t.data.tobytes() for n, t in a[1].items()} == {
        n: t.data.tobytes() for n, t in b[1].items()
    }


def test_all_kinds_of_keys_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    first = tmp_path / "full.gguf"
    convert(checkpoint, first)
    reader = gguf.GGUFReader(first)
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "qwen2")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    kinds = gguf.GGUFValueType
    odd = {
        "odd.u8": (7, kinds.UINT8),
        "odd.i8": (-7, kinds.INT8),
        "odd.u16": (65535, kinds.UINT16),
        "odd.i16": (-300, kinds.INT16),
        "odd.u64": (2**64 - 1, kinds.UINT64),
        "odd.i64": (-(2**63), kinds.INT64),
        "odd.f64": (1e300, kinds.FLOAT64),
        "odd.bool": (True, kinds.BOOL),
        "odd.text": (b"not \xff UTF-8", kinds.STRING),
    }
    for name, (value, kind) in odd.items():
        writer.add_key_value(name, value, kind)
    writer.add_key_value("odd.list", [1, 2, 70000], kinds.ARRAY, kinds.INT64)
    writer.add_key_value("odd.texts", ["a", b"\xff"], kinds.ARRAY, kinds.STRING)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    quantize(tmp_path / "odd.gguf", tmp_path / "out.gguf", "Q8_0")
    before, after = (gguf.GGUFReader(tmp_path / n).fields for n in ("odd.gguf", "out.gguf"))
    assert list(after)[3:] == list(before)[3:]  # after those of the header
    for name, field in after.items():
        if not name.startswith(("GGUF.", "general.file_type")):
            assert field.types == before[name].types
            parts = zip(field.parts[2:], before[name].parts[2:], strict=True)
            assert all(np.array_equal(a, b) for a, b in parts), name


def test_a_dry_run_tells_the_truth(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint(ffn=288, layers=2).write()
    before = sorted(tmp_path.rglob("*"))
    dry = quantize(path, None, "Q4_K_M", dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert dry.path is None
    real = quantize(path, tmp_path / "model.gguf", "Q4_K_M")
    assert dry.file_bytes == real.file_bytes == (tmp_path / "model.gguf").stat().st_size
    assert dry.types == real.types
    assert dry.bits_per_weight == real.bits_per_weight
    assert [(t.name, t.type, t.n_bytes, t.fallback) for t in dry.tensors] == [
        (t.name, t.type, t.n_bytes, t.fallback) for t in real.tensors
    ]
    assert dry.rms_error is None
    assert all(t.rms_error is None and t.worst_block is None for t in dry.tensors)


def test_fallbacks_are_reported(make_checkpoint, tmp_path: Path) -> None:
    done = quantize(make_checkpoint(ffn=288).write(), tmp_path / "model.gguf", "Q4_K_M")
    types = {t.name: t.type for t in done.fallbacks}
    assert types["blk.0.ffn_down.weight"] == "Q5_0"  # rows of 288
    assert types["blk.1.ffn_down.weight"] == "Q8_0"  # meant to be Q6_K
    assert types["blk.0.attn_q.weight"] == "Q5_0"  # rows of 128
    assert types["token_embd.weight"] == "Q8_0"
    assert "128" in str(done.fallbacks[0].fallback)


def test_quantizing_again_needs_a_word(checkpoint: Path, tmp_path: Path) -> None:
    first = tmp_path / "q8.gguf"
    quantize(checkpoint, first, "Q8_0")
    with pytest.raises(ValueError, match=r"Q8_0 already.*--allow-requantize"):
        quantize(first, tmp_path / "q4.gguf", "Q4_K_M")
    assert not (tmp_path / "q4.gguf").exists()
    done = quantize(first, tmp_path / "q4.gguf", "Q4_K_M", allow_requantize=True)
    assert {t.source_type for t in done.tensors} == {"Q8_0", "F32"}
    # What keeps its type is not quantized again.
    quantize(first, tmp_path / "copy.gguf", "Q8_0")
    assert (tmp_path / "copy.gguf").read_bytes() == first.read_bytes()


# -------------------------------------------------------------------------------------- importance matrices


def test_importance_from_a_file(checkpoint: Path, tmp_path: Path) -> None:
    matrix = matrix_for(convert(checkpoint, tmp_path / "full.gguf").path)
    path = tmp_path / "imatrix.gguf"
    write_imatrix(path, matrix)
    done = quantize(checkpoint, tmp_path / "model.gguf", "Q4_K_S", imatrix=path)
    keys, _ = read(tmp_path / "model.gguf")
    assert keys["quantize.imatrix.file"] == str(path).encode()[:127].decode()
    assert keys["quantize.imatrix.dataset"] == "some text"
    assert keys["quantize.imatrix.entries_count"] == len(matrix.values)
    assert keys["quantize.imatrix.chunks_count"] == 3
    assert done.notes == ()
    plain = quantize(checkpoint, tmp_path / "plain.gguf", "Q4_K_S")
    better = 0
    for tensor, other in zip(done.tensors, plain.tensors, strict=True):
        if tensor.weighted_error is not None:
            assert tensor.rms_error > other.rms_error  # it paid for it here
            better += 1
    assert better == len(matrix.values)


def test_include_and_exclude(checkpoint: Path, tmp_path: Path) -> None:
    matrix = matrix_for(convert(checkpoint, tmp_path / "full.gguf").path)

    def weighted(**options: Any) -> set[str]:
        done = quantize(checkpoint, tmp_path / "m.gguf", "Q4_K_S", imatrix=matrix, **options)
        return {t.name for t in done.tensors if t.weighted_error is not None}

    assert weighted(include_weights=["attn_v", "blk.1.ffn_up"]) == {
        "blk.0.attn_v.weight",
        "blk.1.attn_v.weight",
        "blk.1.ffn_up.weight",
    }
    assert weighted(exclude_weights=["attn", "ffn_down", "blk.0"]) == {
        "blk.1.ffn_gate.weight",
        "blk.1.ffn_up.weight",
    }
    with pytest.raises(ValueError, match="exclude"):
        weighted(exclude_weights=["a"], include_weights=["b"])


def test_missing_entries_are_noted(checkpoint: Path, tmp_path: Path) -> None:
    matrix = matrix_for(convert(checkpoint, tmp_path / "full.gguf").path)
    del matrix.values["blk.0.attn_k.weight"], matrix.values["blk.1.ffn_up.weight"]
    done = quantize(checkpoint, tmp_path / "m.gguf", "Q4_K_S", imatrix=matrix)
    assert len(done.notes) == 1
    assert re.search(r"blk\.0\.attn_k\.weight and 1 more", done.notes[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_importances_that_cannot_be(checkpoint: Path, tmp_path: Path, value: float) -> None:
    matrix = matrix_for(convert(checkpoint, tmp_path / "full.gguf").path)
    matrix.values["blk.1.ffn_up.weight"][17] = value
    with pytest.raises(ArithmeticError, match=r"blk\.1\.ffn_up\.weight.*column 17"):
        quantize(checkpoint, tmp_path / "m.gguf", "Q4_K_S", imatrix=matrix)
    assert not (tmp_path / "m.gguf").exists()


def test_an_importance_matrix_of_another_model(checkpoint: Path, tmp_path: Path) -> None:
    matrix = matrix_for(convert(checkpoint, tmp_path / "full.gguf").path)
    matrix.values["blk.1.ffn_up.weight"] = np.ones(99, np.float32)
    with pytest.raises(ValueError, match=r"blk\.1\.ffn_up\.weight.*99 values.*256 columns"):
        quantize(checkpoint, tmp_path / "m.gguf", "Q4_K_S", imatrix=matrix)


# ------------------------------------------------------------------------------- progress, cancel, the report


def test_progress_ends_at_the_total(checkpoint: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = quantize(checkpoint, tmp_path / "m.gguf", "Q4_0", progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (done.tensor_bytes, done.tensor_bytes)


def test_cancel(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.gguf"
    out.write_bytes(b"old")
    cancel = threading.Event()
    with pytest.raises(CancelledError):
        quantize(checkpoint, out, "Q4_0", progress=lambda *_: cancel.set(), cancel=cancel)
    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "m.gguf"]
    assert not [t for t in threading.enumerate() if t.name.startswith("pyqwen-")]


def test_an_expression_that_matches_nothing_is_noted(checkpoint: Path) -> None:
    pairs = [("ffn_dwn", "Q8_0"), ("ffn_up", "Q8_0")]
    done = quantize(checkpoint, None, "Q4_0", tensor_types=pairs, dry_run=True)
    assert done.notes == ("the tensor type ffn_dwn=Q8_0 matches no matrix",)


def test_the_report(checkpoint: Path, tmp_path: Path) -> None:
    done = quantize(checkpoint, tmp_path / "m.gguf", "Q4_K_M")
    report = json.loads(json.dumps(done.to_dict()))
    assert report["file_bytes"] == done.file_bytes
    assert report["weights"] == sum(np.prod(t["shape"]) for t in report["tensors"])
    assert report["tensor_bytes"] == sum(t["bytes"] for t in report["tensors"])
    assert report["bits_per_weight"] == 8 * report["tensor_bytes"] / report["weights"]
    assert sum(t["bytes"] for t in report["types"].values()) == report["tensor_bytes"]
    assert sum(t["tensors"] for t in report["types"].values()) == len(report["tensors"])
    assert 0 < report["rms_error"] < 0.1


def test_the_plot(checkpoint: Path, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ET

    done = quantize(checkpoint, tmp_path / "a <model>.gguf", "Q4_K_M")
    root = ET.fromstring(plot_svg(done))
    titles = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]
    matrices = [t for t in done.tensors if len(t.shape) == 2]
    for tensor in matrices:
        assert sum(title.startswith(f"{tensor.name}: {tensor.type}") for title in titles) == 2
    dry = quantize(checkpoint, None, "Q4_K_M", dry_run=True)
    titles = [e.text for e in ET.fromstring(plot_svg(dry)).iter() if e.tag.endswith("title")]
    assert len(titles) == len(matrices)


def test_memory_does_not_grow_with_the_model(make_checkpoint, tmp_path: Path) -> None:
    import tracemalloc

    def peak(layers: int) -> int:
        path = make_checkpoint(layers=layers, hidden=256, ffn=512).write()
        tracemalloc.start()
        try:
            quantize(path, tmp_path / "model.gguf", "Q8_0")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # imports
    small, large = peak(8), peak(24)
    more_weights = 16 * (3 * 256 * 512 + 3 * 256 * 256) * 4  # bytes as float32
    assert large - small < more_weights / 20


def test_empty_lists_are_left_out(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "full.gguf")
    data = bytearray((tmp_path / "full.gguf").read_bytes())
    # The merges become a list of none: their bytes go into a key of their own, a text.
    at = data.index(b"tokenizer.ggml.merges") + len(b"tokenizer.ggml.merges")
    merges = b"".join(len(m).to_bytes(8, "little") + m for m in (b"t h", b"th e"))
    assert data[at + 16 : at + 16 + len(merges)] == merges
    empty = data[at : at + 8] + bytes(8)
    text = b"x" * (len(merges) - 8 - 1 - 4 - 8)
    key = (1).to_bytes(8, "little") + b"x" + (8).to_bytes(4, "little")
    data[at : at + 16 + len(merges)] = empty + key + len(text).to_bytes(8, "little") + text
    data[16:24] = (int.from_bytes(data[16:24], "little") + 1).to_bytes(8, "little")
    (tmp_path / "full.gguf").write_bytes(data)
    quantize(tmp_path / "full.gguf", tmp_path / "out.gguf", "Q8_0")
    keys = read(tmp_path / "out.gguf")[0]
    assert "tokenizer.ggml.merges" not in keys
    assert keys["x"] == text.decode()
