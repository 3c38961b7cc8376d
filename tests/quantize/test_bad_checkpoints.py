"""Checkpoints that are incomplete, damaged, hostile or of another kind: a clear error, no output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen.errors import (
    ModelChangedError,
    ModelFileError,
    ModelFormatError,
    ModelNotFoundError,
    NumericError,
    UnsupportedModelError,
)
from pyqwen.loading.safetensors_file import SafetensorsFile
from pyqwen.quantize import convert, quantize

WEIGHT = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., None]:
    """``refuse(path, error, *words)``: converting and quantizing fail so, and leave nothing behind."""

    def check(
        path: Path,
        error: type[Exception],
        *words: str,
        outtype: str = "auto",
        quantizes: bool = True,
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        recipe = "Q4_0" if outtype == "auto" else outtype
        for make, kind in ((convert, outtype), (quantize, recipe)):
            if make is quantize and not quantizes:
                continue
            with pytest.raises(error) as caught:
                make(path, tmp_path / "model.gguf", kind)
            for word in words:
                assert word in str(caught.value)
            assert sorted(tmp_path.rglob("*")) == before

    return check


# ------------------------------------------------------------------------------------------- the directory


def test_no_directory(refuse, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    refuse(missing, ModelNotFoundError, "missing", "no such directory", quantizes=False)
    with pytest.raises(ModelNotFoundError, match="no such file or directory"):
        quantize(missing, tmp_path / "model.gguf", "Q4_0")


def test_a_file_instead_of_a_directory(refuse, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    refuse(tmp_path / "model.safetensors", ModelFormatError, "is a file", quantizes=False)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        quantize(tmp_path / "model.safetensors", tmp_path / "model.gguf", "Q4_0")


def test_pickles_are_never_read(refuse, make_checkpoint) -> None:
    path = make_checkpoint().write()
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    refuse(path, UnsupportedModelError, "pickle", "safe_serialization")


def test_adapters(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    (path / "model.safetensors").rename(path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"}')
    words = r"adapter \(LoRA\) for Qwen/Qwen2\.5-0\.5B.*--merge-adapter"
    with pytest.raises(UnsupportedModelError, match=words):
        quantize(path, tmp_path / "out.gguf", "Q4_0")
    with pytest.raises(ModelNotFoundError, match=r"adapter \(LoRA\).*Qwen/Qwen2\.5-0\.5B.*--base"):
        convert(path, tmp_path / "out.gguf")


def test_no_weights(refuse, make_checkpoint) -> None:
    path = make_checkpoint().write()
    (path / "model.safetensors").unlink()
    refuse(path, ModelNotFoundError, "model.safetensors")


def test_git_lfs_pointer(refuse, make_checkpoint) -> None:
    path = make_checkpoint().write()
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (path / "model.safetensors").write_text(text)
    refuse(path, ModelFormatError, "git lfs pull")


# ------------------------------------------------------------------------------------------------ the index


@pytest.mark.parametrize(
    "name",
    [
        "../model-00001-of-00002.safetensors",
        "/etc/passwd",
        "C:\\model.safetensors",
        "sub/model.safetensors",
        "..\\model.safetensors",
        "model.bin",
        "",
        None,
        7,
    ],
)
def test_names_that_lead_elsewhere(refuse, make_checkpoint, name: Any) -> None:
    files = make_checkpoint()
    path = files.write(shards=2)
    files.write_index({**files.read_index(), WEIGHT: name})
    refuse(path, ModelFormatError, "index.json", WEIGHT)


def test_missing_shard(refuse, make_checkpoint) -> None:
    path = make_checkpoint().write(shards=2)
    (path / "model-00002-of-00002.safetensors").unlink()
    refuse(path, ModelNotFoundError, "model-00002-of-00002.safetensors", "incomplete")


def test_shard_without_its_tensor(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    path = files.write(shards=2)
    files.write_index({**files.read_index(), "extra": "model-00001-of-00002.safetensors"})
    refuse(path, ModelFormatError, "lacks tensor 'extra'")


def test_tensor_in_another_shard_than_the_index_says(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    path = files.write(shards=2)
    index = files.read_index()
    other = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    files.write_index({**index, WEIGHT: (other - {index[WEIGHT]}).pop()})
    refuse(path, ModelFormatError, WEIGHT)


def test_tensor_that_the_index_does_not_list(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    path = files.write(shards=2)
    index = files.read_index()
    del index[WEIGHT]
    files.write_index(index)
    refuse(path, ModelFormatError, WEIGHT, "does not list")


def test_tensor_in_two_shards(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    path = files.write(shards=2)
    first = path / "model-00001-of-00002.safetensors"
    (path / "model-00003-of-00003.safetensors").write_bytes(first.read_bytes())
    name = next(name for name, file in files.read_index().items() if file == first.name)
    files.write_index({**files.read_index(), name: "model-00003-of-00003.safetensors"})
    refuse(path, ModelFormatError, "both in")


# -------------------------------------------------------------------------------------- the safetensors file


def safetensors_with(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE = {
    "empty file": b"",
    "length only": b"\x08\0\0\0\0\0\0\0",
    "header beyond the file": (1 << 20).to_bytes(8, "little") + b"{}",
    "length of 2^64 - 1": b"\xff" * 8 + b"{}",
    "no JSON": safetensors_with(b"\x80\x04pickle"),
    "bad UTF-8": safetensors_with(b'{"\xff": 1}'),
    "a list": safetensors_with([]),
    "nested deeply": safetensors_with(b"[" * 100_000),
    "key twice": safetensors_with(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)),
    "NaN": safetensors_with(b'{"a":NaN}'),
    "entry is no object": safetensors_with({"a": 1}),
    "no shape": safetensors_with({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "three offsets": safetensors_with({"a": entry(offsets=[0, 4, 8])}),
    "negative size": safetensors_with({"a": entry(shape=[-2])}),
    "fractional size": safetensors_with({"a": entry(shape=[2.0])}),
    "true as size": safetensors_with({"a": entry(shape=[True], offsets=[0, 4])}, b"\0" * 4),
    "product overflows": safetensors_with({"a": entry(shape=[1 << 61, 1 << 61])}),
    "offsets reversed": safetensors_with({"a": entry(offsets=[8, 0])}),
    "shape too small": safetensors_with({"a": entry(shape=[1])}),
    "gap before": safetensors_with({"a": entry(shape=[1], offsets=[4, 8])}),
    "bytes left over": safetensors_with({"a": entry()}, b"\0" * 9),
    "ends after the file": safetensors_with({"a": entry()}, b"\0" * 7),
    "overlap": safetensors_with({"a": entry(), "b": entry(shape=[1], offsets=[4, 8])}),
    "dtype is no text": safetensors_with({"a": entry(dtype=["F32"])}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_safetensors(tmp_path: Path, case: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        SafetensorsFile(path)


def test_every_truncation_is_noticed(make_checkpoint, tmp_path: Path) -> None:
    data = (make_checkpoint(layers=1).write() / "model.safetensors").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in [*range(0, 3000, 97), len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFormatError):
            SafetensorsFile(path)


def test_a_change_while_reading_is_noticed(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    weights = path / "model.safetensors"

    def truncate(done: int, total: int) -> None:
        with weights.open("r+b") as file:
            file.truncate(2000)

    with pytest.raises(ModelChangedError, match=r"model\.safetensors"):
        convert(path, tmp_path / "model.gguf", progress=truncate)

    path = make_checkpoint().write()
    with pytest.raises(ModelChangedError, match=r"changed|truncated"):
        convert(
            path,
            tmp_path / "model.gguf",
            progress=lambda *_: weights.write_bytes(weights.read_bytes() + b" "),
        )
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


# ------------------------------------------------------------------------------ configuration and the tensors


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hidden_size": None}, ModelFormatError, ["hidden_size", "missing"]),
        ({"hidden_size": "128"}, ModelFormatError, ["hidden_size", "'128'"]),
        ({"hidden_size": 128.0}, ModelFormatError, ["hidden_size"]),
        ({"num_hidden_layers": 0}, ModelFormatError, ["num_hidden_layers"]),
        ({"num_hidden_layers": 10**30}, ModelFormatError, ["num_hidden_layers"]),
        ({"num_key_value_heads": 3}, ModelFormatError, ["num_key_value_heads", "divide"]),
        ({"num_attention_heads": 6, "num_key_value_heads": 2}, ModelFormatError, ["hidden_size"]),
        ({"rms_norm_eps": -1e-6}, ModelFormatError, ["rms_norm_eps"]),
        ({"tie_word_embeddings": 1}, ModelFormatError, ["tie_word_embeddings"]),
        ({"architectures": ["GemmaForCausalLM"]}, UnsupportedModelError, ["Gemma", "Qwen2"]),
        ({"architectures": None}, UnsupportedModelError, ["architectures"]),
        ({"use_sliding_window": True}, UnsupportedModelError, ["use_sliding_window"]),
        ({"attention_bias": True}, UnsupportedModelError, ["attention_bias"]),
        ({"hidden_act": "gelu"}, UnsupportedModelError, ["gelu"]),
        ({"quantization_config": {"bits": 4}}, UnsupportedModelError, ["quantized"]),
        ({"rope_scaling": {"type": "longrope"}}, UnsupportedModelError, ["longrope"]),
        ({"vocab_size": 100}, ModelFormatError, ["100", "320"]),
        ({"intermediate_size": 96}, ModelFormatError, ["mlp.gate_proj", "192", "96"]),
    ],
)
def test_bad_configurations(
    refuse, make_checkpoint, change: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    refuse(make_checkpoint(**change).write(), error, *words)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 200_000])
def test_configuration_that_is_no_json(refuse, make_checkpoint, text: str) -> None:
    path = make_checkpoint().write()
    (path / "config.json").write_text(text)
    refuse(path, ModelFormatError, "config.json")


def test_enormous_configuration(refuse, make_checkpoint) -> None:
    path = make_checkpoint().write()
    with (path / "config.json").open("r+b") as file:
        file.truncate(1 << 30)
    refuse(path, ModelFormatError, "config.json", "1,073,741,824")


def test_missing_tensor(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    del files.tensors[WEIGHT], files.tensors["model.norm.weight"]
    refuse(files.write(), ModelFormatError, WEIGHT, "1 more tensor")


def test_untied_without_output(refuse, make_checkpoint) -> None:
    files = make_checkpoint(tied=False)
    del files.tensors["lm_head.weight"]
    refuse(files.write(), ModelFormatError, "lm_head.weight", "tie_word_embeddings")


def test_tied_with_another_output(refuse, make_checkpoint) -> None:
    files = make_checkpoint(tied=True)
    files.tensors["lm_head.weight"] = files.tensors["model.embed_tokens.weight"] * 2
    refuse(files.write(), ModelFormatError, "lm_head.weight", "tie_word_embeddings")


def test_extra_tensor(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    files.tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(32, np.float32)
    refuse(files.write(), UnsupportedModelError, "q_norm")


def test_transposed_tensor(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    files.tensors[WEIGHT] = np.ascontiguousarray(files.tensors[WEIGHT].T)
    refuse(files.write(), ModelFormatError, WEIGHT, "128 × 192", "192 × 128")


@pytest.mark.parametrize("dtype", ["F64", "I8", "F8_E4M3"])
def test_types_that_are_not_converted(refuse, make_checkpoint, dtype: str) -> None:
    files = make_checkpoint()
    del files.tensors[WEIGHT]
    path = files.write() / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
    n_bytes = 192 * 128 * {"F64": 8, "I8": 1, "F8_E4M3": 1}[dtype]
    header[WEIGHT] = entry(dtype, [192, 128], [len(values), len(values) + n_bytes])
    path.write_bytes(safetensors_with(header, values + bytes(n_bytes)))
    refuse(path.parent, UnsupportedModelError, WEIGHT, dtype)


# ---------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [WEIGHT, "model.norm.weight"])
def test_values_that_are_not_finite(
    refuse, make_checkpoint, dtype: str, value: float, name: str
) -> None:
    files = make_checkpoint(dtype=dtype)
    files.tensors[name].ravel()[100] = value
    place = "[0, 100]" if name == WEIGHT else "[100]"
    refuse(files.write(), NumericError, name, place, "1 value")


@pytest.mark.parametrize(
    ("outtype", "value", "advice"),
    [("f16", 65536.0, "bf16"), ("q8_0", 1e9, "bf16"), ("bf16", 3.4e38, "f32")],
)
def test_values_that_overflow_are_counted_and_refused(
    refuse, make_checkpoint, outtype: str, value: float, advice: str
) -> None:
    value = float(np.finfo(np.float32).max) if outtype == "bf16" else value
    files = make_checkpoint(dtype="F32")
    files.tensors[WEIGHT][2, 5] = -value
    files.tensors[WEIGHT][7, 0] = value
    refuse(files.write(), NumericError, WEIGHT, "2 values", "[2, 5]", advice, outtype=outtype)


def test_the_largest_values_fit(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(dtype="F32")
    files.tensors[WEIGHT][0, :3] = [65504.0, -65504.0, 1e-45]
    convert(files.write(), tmp_path / "model.gguf", "f16")
    convert(files.write(), tmp_path / "model.gguf", "q8_0")


# ------------------------------------------------------------------------------------------------- tokenizer


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.pop("model"), ModelFormatError, ["model"]),
        (lambda t: t["model"].update(type="Unigram"), UnsupportedModelError, ["Unigram"]),
        (lambda t: t["model"].update(vocab=[]), ModelFormatError, ["vocabulary"]),
        (lambda t: t["model"]["vocab"].update(x=999), ModelFormatError, ["999"]),
        (lambda t: t["model"]["vocab"].update(xx=-1), ModelFormatError, ["-1"]),
        (lambda t: t["model"]["vocab"].update(xx=5), ModelFormatError, ["same id"]),
        (lambda t: t["model"]["merges"].append("a"), ModelFormatError, ["merge 2"]),
        (lambda t: t["model"]["merges"].append("th qq"), ModelFileError, ["qq"]),
        (lambda t: t["added_tokens"].append({"id": 5}), ModelFormatError, ["no text"]),
        (lambda t: t.update(pre_tokenizer=None), UnsupportedModelError, ["pre_tokenizer"]),
        (lambda t: t.update(normalizer={"type": "NFKC"}), UnsupportedModelError, ["normalizer"]),
    ],
)
def test_bad_tokenizers(
    refuse,
    make_checkpoint,
    change: Callable[[dict[str, Any]], None],
    error: type[Exception],
    words: list[str],
) -> None:
    files = make_checkpoint()
    change(files.tokenizer)
    refuse(files.write(), error, *words)


def test_no_tokenizer(refuse, make_checkpoint) -> None:
    path = make_checkpoint().write()
    (path / "tokenizer.json").unlink()
    refuse(path, ModelNotFoundError, "no tokenizer")


def test_bad_generation_config(refuse, make_checkpoint) -> None:
    files = make_checkpoint()
    files.generation["temperature"] = "hot"
    refuse(files.write(), ModelFormatError, "generation_config.json", "temperature")
