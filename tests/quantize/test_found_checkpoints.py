"""Checkpoints as people have them: odd names, odd places, weights in odd files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from conversion import converted, said

from pyqwen import Model
from pyqwen.__main__ import main
from pyqwen.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from pyqwen.quantize import convert, quantize

# --------------------------------------------------------------------------------- names, shards and types


def rename(files: Any, prefix: str, head: str = "lm_head.weight") -> None:
    files.tensors = {
        head if name == "lm_head.weight" else prefix + name.removeprefix("model."): values
        for name, values in files.tensors.items()
    }


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("", "lm_head.weight"),
        ("module.model.", "module.lm_head.weight"),
        ("_orig_mod.model.", "_orig_mod.lm_head.weight"),
        ("language_model.model.", "language_model.lm_head.weight"),
        ("transformer.", "lm_head.weight"),
    ],
)
def test_names_with_another_prefix(make_checkpoint, tmp_path: Path, prefix: str, head: str) -> None:
    files = make_checkpoint(tied=False)
    usual = convert(files.write(), tmp_path / "usual.gguf").path.read_bytes()
    rename(files, prefix, head)
    done = convert(files.write(), tmp_path / "odd.gguf")
    assert done.path.read_bytes() == usual
    assert said(done, "'model.'")
    assert done.tensors[0].source == f"{prefix}embed_tokens.weight"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("up_proj.weight", "up_proj.qweight", "AWQ or GPTQ"),
        ("up_proj.weight", "up_proj.weight_packed", "compressed-tensors"),
        ("up_proj.weight", "up_proj.weight.absmax", "bitsandbytes"),
        ("up_proj.weight", "up_proj.lora_A.weight", "adapter"),
    ],
)
def test_weights_that_are_no_plain_model(
    make_checkpoint, tmp_path: Path, old: str, new: str, word: str
) -> None:
    files = make_checkpoint()
    files.tensors = {name.replace(old, new): values for name, values in files.tensors.items()}
    with pytest.raises(UnsupportedModelError, match=word) as caught:
        convert(files.write(), tmp_path / "model.gguf")
    assert "download" not in str(caught.value)


def test_missing_weights_are_no_bad_download(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(num_hidden_layers=3)
    with pytest.raises(ModelFormatError, match=r"model\.layers\.2.* 26 tensors") as caught:
        convert(files.write(), tmp_path / "model.gguf")
    assert "download" not in str(caught.value)


@pytest.mark.parametrize("stem", ["model", "pytorch_model"])
def test_shards_without_an_index(make_checkpoint, tmp_path: Path, stem: str) -> None:
    files = make_checkpoint()
    usual = convert(files.write(), tmp_path / "usual.gguf").path.read_bytes()
    path = files.write(shards=3)
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (path / name).unlink()
    for shard in list(path.glob("model-*")):
        shard.rename(shard.with_name(shard.name.replace("model", stem)))
    done = convert(path, tmp_path / "odd.gguf")
    assert done.path.read_bytes() == usual
    assert said(done, "index")
    (path / f"{stem}-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"00002-of-00003.*incomplete"):
        convert(path, tmp_path / "odd.gguf")


def test_weights_under_another_name(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    (path / "model.safetensors").rename(path / "weights.safetensors")
    assert said(converted(path)[1], "weights.safetensors")
    (path / "other.safetensors").write_bytes((path / "weights.safetensors").read_bytes())
    with pytest.raises(ModelFormatError, match=r"other\.safetensors, weights\.safetensors"):
        convert(path, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("embedding", "output"), [("BF16", "F32"), ("F32", "BF16"), ("F32", "F16")]
)
def test_a_tied_output_in_another_type(
    make_checkpoint, tmp_path: Path, embedding: str, output: str
) -> None:
    files = make_checkpoint(tied=True, dtype=embedding)
    values = files.tensors["model.embed_tokens.weight"]
    if embedding == "F32":  # with more digits than the other type has
        values = files.tensors["model.embed_tokens.weight"] = values + np.float32(2.0**-20)
    files.dtypes["lm_head.weight"] = output
    files.tensors["lm_head.weight"] = rounded(values) if output == "BF16" else values.copy()
    assert said(convert(files.write(), tmp_path / "model.gguf"), "lm_head.weight", "written once")
    files.tensors["lm_head.weight"][3, 5] += 1
    with pytest.raises(ModelFormatError, match="differs"):
        convert(files.write(), tmp_path / "model.gguf")


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 values rounded to bfloat16, to nearest with ties to even."""
    bits = values.view(np.uint32)
    up = np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
    return ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)


def test_yarn_without_its_original_length(make_checkpoint) -> None:
    keys, done = converted(make_checkpoint(rope_scaling={"type": "yarn", "factor": 4}).write())
    assert keys["qwen2.rope.scaling.original_context_length"] == 512
    assert said(done, "YaRN", "512")


# ------------------------------------------------------------------------------- directories and names


def test_directories_that_are_no_checkpoint(tmp_path: Path) -> None:
    def message(files: dict[str, str]) -> str:
        folder = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        folder.mkdir(exist_ok=True)
        messages = set()
        for make, kind in ((convert, "auto"), (quantize, "Q4_0")):
            with pytest.raises(ValueError, match=folder.name) as caught:
                make(folder, tmp_path / "model.gguf", kind)
            messages.add(str(caught.value))
        (text,) = messages
        assert "download" not in text
        return text

    assert "m-q4_0.gguf OUT.gguf" in message({"m-q4_0.gguf": "GGUF"})
    assert "Meta's own format" in message({"params.json": "{}", "consolidated.00.pth": ""})
    assert "diffusers" in message({"model_index.json": "{}"})
    assert "checkpoint-500" in message({"checkpoint-500/config.json": "{}"})
    assert "snapshots/0a1b" in message({"snapshots/0a1b/config.json": "{}", "refs/main": "0a1b"})
    assert "holds weights (model.safetensors)" in message({"model.safetensors": ""})
    assert "it holds notes.txt" in message({"notes.txt": ""})
    assert "it is empty" in message({})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen2.5-0.5b", "pyqwen pull qwen2.5-0.5b"),
        ("Qwen/Qwen2.5-0.5B-Instruct-GGUF:q8_0", "pyqwen pull"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "hf download Qwen/Qwen2.5-0.5B-Instruct"),
        ("./missing", "no such directory"),
    ],
)
def test_names_are_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        convert(name, "model.gguf")


def test_a_model_of_the_cache_is_quantized_by_its_name(
    make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)  # where no directory is called so
    for name in ("qwen2.5-0.5b", "Qwen2.5-0.5B-Instruct"):
        with pytest.raises(ModelNotFoundError, match=r"quantized already.*qwen2\.5-0\.5b:f16"):
            quantize(name, "q.gguf", "Q8_0")
        assert main(["quantize", name, "q.gguf", "Q8_0"]) == 1
    with pytest.raises(ModelNotFoundError, match="pyqwen pull"):
        quantize("qwen2.5-0.5b:f16", "q.gguf", "Q8_0")
    assert main(["quantize", "qwen2.5-0.5b:f16", "q.gguf", "Q8_0"]) == 1
    whole = tmp_path / "whole.gguf"
    convert(make_checkpoint().write(), whole, "f16")
    monkeypatch.setattr("pyqwen.quantize.source.open_source.resolve", lambda name: whole)
    done = quantize("qwen2.5-0.5b:f16", tmp_path / "q.gguf", "Q8_0")
    assert done.source == whole


def test_the_name_of_a_snapshot_in_the_hub_cache(make_checkpoint, tmp_path: Path) -> None:
    snapshots = tmp_path / "models--Me--Tiny-Qwen2.5-Instruct" / "snapshots"
    snapshots.mkdir(parents=True)
    path = make_checkpoint().write().rename(snapshots / "0123456789abcdef")
    keys, _ = converted(path)
    assert keys["general.name"] == "Tiny Qwen2.5 Instruct"
    assert keys["general.finetune"] == "Instruct"


# --------------------------------------------------------------------------------- what comes of it must run


@pytest.mark.parametrize(
    ("shape", "word"),
    [({"hidden": 96, "heads": 2}, "heads of 48"), ({"ffn": 100}, "128 and 100")],
)
def test_what_the_core_would_refuse_is_not_written(
    make_checkpoint, tmp_path: Path, shape: dict[str, int], word: str
) -> None:
    path = make_checkpoint(**shape).write()
    text = "the quick brown fox " * 200
    for make in (
        lambda: convert(path, tmp_path / "model.gguf"),
        lambda: quantize(path, tmp_path / "model.gguf", "Q8_0"),
        lambda: quantize(path, None, "Q4_K_M", dry_run=True),
        lambda: quantize(path, tmp_path / "model.gguf", "Q8_0", calibration=text),
    ):
        with pytest.raises(UnsupportedModelError, match=word) as caught:
            make()
        assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("repetition_penalty", 0.0), ("temperature", -1), ("top_p", 1.5), ("min_p", 2)],
)
def test_a_sampling_default_that_cannot_be_is_left_out(
    make_checkpoint, tmp_path: Path, name: str, value: float
) -> None:
    files = make_checkpoint()
    files.generation[name] = value
    _, done = converted(files.write())
    assert said(done, name, "left out")
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert model.defaults.top_k == 20
        assert model.generate("the", max_tokens=1).token_ids


def test_top_k_below_0_is_off(make_checkpoint) -> None:
    files = make_checkpoint()
    files.generation["top_k"] = -1
    keys, done = converted(files.write())
    assert keys["general.sampling.top_k"] == 0
    assert done.notes == ()


def test_sampling_defaults_of_a_gguf_file(make_checkpoint, tmp_path: Path) -> None:
    converted(make_checkpoint().write())
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "qwen2")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            kind = field.types[0]
            sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub)
    writer.kv_data[0]["general.sampling.top_k"].value = -5
    writer.kv_data[0]["general.sampling.penalty_repeat"].value = 0.0
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    done = quantize(tmp_path / "odd.gguf", tmp_path / "q.gguf", "Q8_0")
    assert any("general.sampling.penalty_repeat" in note for note in done.notes)
    fields = gguf.GGUFReader(tmp_path / "q.gguf").fields
    assert fields["general.sampling.top_k"].contents() == 0
    assert "general.sampling.penalty_repeat" not in fields
