"""Adapters from strangers: what is wrong with a file, or not run here, is an error that names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft_files as pf
import pytest

from pyqwen import Model, PyQwenError, plan
from pyqwen.errors import (
    ModelFormatError,
    ModelNotFoundError,
    NumericError,
    OutOfMemoryError,
    UnsupportedModelError,
)

PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


def load(model: Path, adapter: Path) -> None:
    with Model(model, adapters={"a": adapter}, threads=1, context=64):
        pass


def refused(model: Path, adapter: Path, error: type[Exception], *words: str) -> None:
    with pytest.raises(error) as caught:
        load(model, adapter)
    for word in (adapter.name, *words):
        assert word in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("peft_type", "IA3"),
        ("peft_type", None),
        ("bias", "all"),
        ("lora_bias", True),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["experts"]),
        ("layer_replication", [[0, 2]]),
        ("alora_invocation_tokens", [1, 2]),
        ("use_qalora", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", [1]),
        ("alpha_pattern", {"(a+)+$": 1}),
        ("rank_pattern", {".*": 4}),
    ],
    ids=str,
)
def test_settings_that_are_not_run(
    tiny_model_path: Path, write_adapter: Any, key: str, value: Any
) -> None:
    path = write_adapter(pf.factors(1), pf.settings(**{key: value}))
    refused(tiny_model_path, path, UnsupportedModelError, key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 0),
        ("r", "8"),
        ("r", 10**30),
        ("r", 4),  # of another adapter than the weights
        ("r", True),
        ("lora_alpha", "x"),
        ("lora_alpha", 1e300),
        ("lora_alpha", None),
        ("use_rslora", "yes"),
        ("alpha_pattern", [1]),
        ("alpha_pattern", {"q_proj": "1"}),
        ("rank_pattern", {"q_proj": None}),
    ],
    ids=str,
)
def test_settings_that_cannot_be(
    tiny_model_path: Path, write_adapter: Any, key: str, value: Any
) -> None:
    path = write_adapter(pf.factors(1), pf.settings() | {key: value})
    refused(tiny_model_path, path, ModelFormatError)


def test_what_peft_writes_beside_is_no_problem(tiny_model_path: Path, write_adapter: Any) -> None:
    more = {
        "alora_invocation_tokens": None,
        "arrow_config": None,
        "auto_mapping": None,
        "corda_config": None,
        "ensure_weight_tying": False,
        "eva_config": None,
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "layer_replication": None,
        "layers_pattern": None,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_bias": False,
        "lora_dropout": 0.1,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "target_parameters": None,
        "trainable_token_indices": None,
        "use_bdlora": None,
        "use_qalora": False,
    }
    load(tiny_model_path, write_adapter(pf.factors(1), pf.settings(**more)))


Change = Callable[[pf.Tensors], None]


def renamed(new: str) -> Change:
    def change(tensors: pf.Tensors) -> None:
        tensors[new] = tensors.pop(f"{PREFIX}.lora_A.weight")

    return change


def added(name: str, *shape: int) -> Change:
    return lambda tensors: tensors.update({name: np.zeros(shape, np.float32)})


def reshaped(which: str, *shape: int) -> Change:
    return added(f"{PREFIX}.lora_{which}.weight", *shape)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (reshaped("A", 8, 64), ["lora_A", "8 × 64", "8 × 128", "another base model", "Test/Tiny"]),
        (reshaped("A", 128), ["lora_A", "rank"]),
        (reshaped("A", 0, 128), ["lora_A"]),
        (reshaped("A", 8, 128, 1), ["lora_A"]),
        (reshaped("B", 64, 8), ["lora_B", "128 × 8"]),
        (reshaped("B", 128, 4), ["lora_B"]),
        (added("base_model.model.model.layers.2.mlp.up_proj.lora_A.weight", 8, 128), ["2 layers"]),
        (added("base_model.model.model.layers.999999.mlp.up_proj.lora_A.weight", 8, 1), ["layers"]),
        (added("base_model.model.model.layers.0.mlp.c_fc.lora_A.weight", 8, 128), ["c_fc"]),
        (added("base_model.model.model.embed_tokens.lora_embedding_A", 8, 10), ["embedding"]),
        (added("base_model.model.lm_head.lora_A.weight", 8, 128), ["lm_head", "output matrix"]),
        (added("base_model.model.lm_head.modules_to_save.weight", 8, 8), ["modules_to_save"]),
        (added("base_model.model.model.norm.weight", 128), ["norm"]),
        (added(f"{PREFIX}.lora_magnitude_vector", 128), ["DoRA"]),
        (added(f"{PREFIX}.lora_B.bias", 128), ["bias"]),
        (added("\u202eweights\n" * 99, 1), ["no A or B"]),
        (renamed("transformer.h.0.attn.lora_A.weight"), ["no A or B"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_tensors_that_do_not_fit(
    tiny_model_path: Path, write_adapter: Any, change: Change, words: list[str]
) -> None:
    tensors = pf.factors(1)
    change(tensors)
    refused(tiny_model_path, write_adapter(tensors), UnsupportedModelError, *words)


def test_half_of_a_pair(tiny_model_path: Path, write_adapter: Any) -> None:
    for which in "AB":
        tensors = pf.factors(1)
        del tensors[f"{PREFIX}.lora_{which}.weight"]
        refused(tiny_model_path, write_adapter(tensors), ModelFormatError, f"counterpart {which}")


def test_no_tensors(tiny_model_path: Path, write_adapter: Any) -> None:
    refused(tiny_model_path, write_adapter({}), ModelFormatError, "no tensors")


def test_the_same_matrix_by_two_names(tiny_model_path: Path, write_adapter: Any) -> None:
    tensors = pf.factors(1)
    for which in "AB":
        tensors[f"{PREFIX}.lora_{which}.default.weight"] = tensors[f"{PREFIX}.lora_{which}.weight"]
    refused(tiny_model_path, write_adapter(tensors), ModelFormatError, "twice")
    short = {
        f"model.layers.0.{k.split('layers.0.')[1]}": v
        for k, v in pf.factors(1, layers=(0,)).items()
    }
    with pytest.raises(ModelFormatError, match="twice"):
        load(tiny_model_path, write_adapter(pf.factors(1) | short))


def test_huge_ranks(tiny_model_path: Path, write_adapter: Any) -> None:
    sizes = {"q_proj": (128, 128)}
    for rank, words in ((2000, "rank 2,000"), (300, "1 to 256")):
        tensors = pf.factors(1, rank=rank, modules=sizes, sizes=sizes)
        path = write_adapter(tensors, pf.settings(rank))
        refused(tiny_model_path, path, UnsupportedModelError, words)
        with pytest.raises(UnsupportedModelError, match=words):
            plan(tiny_model_path, adapters={"a": path})
    load(tiny_model_path, write_adapter(pf.factors(1, rank=256), pf.settings(256)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_values_that_are_no_numbers(
    tiny_model_path: Path, write_adapter: Any, value: float, dtype: str
) -> None:
    for which, place in (("A", (3, 5)), ("B", (77, 2))):
        tensors = pf.factors(1)
        tensors[f"{PREFIX}.lora_{which}.weight"][place] = value
        path = write_adapter(tensors, dtype=dtype)
        refused(
            tiny_model_path,
            path,
            NumericError,
            "attn_q",
            f"{which} holds",
            f"[{place[0]}, {place[1]}]",
        )


def test_types_that_are_not_read(tiny_model_path: Path, write_adapter: Any) -> None:
    path = write_adapter(pf.factors(1), dtype="I32")
    refused(tiny_model_path, path, UnsupportedModelError, "I32", "F32, F16, BF16")


def test_pickles_are_never_opened(tiny_model_path: Path, write_adapter: Any) -> None:
    path = write_adapter(pf.factors(1))
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    refused(tiny_model_path, path, UnsupportedModelError, "adapter_model.bin is a pickle")
    with pytest.raises(UnsupportedModelError, match="is a pickle"):
        load(tiny_model_path, path / "adapter_model.bin")


def test_truncated_and_damaged_files(tiny_model_path: Path, write_adapter: Any) -> None:
    path = write_adapter(pf.factors(1))
    weights = path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    for cut in (0, 4, 9, 100, 5000, len(whole) - 1):
        weights.write_bytes(whole[:cut])
        with pytest.raises((ModelFormatError, ModelNotFoundError)):
            load(tiny_model_path, path)
    weights.write_bytes(whole + b"\0")
    refused(tiny_model_path, path, ModelFormatError, "belong to no tensor")
    weights.write_bytes((2**63).to_bytes(8, "little") + whole[8:])
    refused(tiny_model_path, path, ModelFormatError, "header")
    weights.write_bytes(whole)
    config = path / "adapter_config.json"
    for text in (b"", b"[]", b"{" * 100_000, b'{"r": NaN}', b"\xff\xfe", b'{"r": 1, "r": 2}'):
        config.write_bytes(text)
        with pytest.raises((ModelFormatError, UnsupportedModelError)):
            load(tiny_model_path, path)


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights there")
def test_links(tiny_model_path: Path, write_adapter: Any, tmp_path: Path) -> None:
    """The hub's cache is made of links; a circle of them, or one to a device, is no file."""
    path = write_adapter(pf.factors(1))
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (linked / name).symlink_to(path / name)
    load(tiny_model_path, linked)
    weights = linked / "adapter_model.safetensors"
    for target in (weights, Path("/dev/zero"), tmp_path / "nowhere", tmp_path):
        weights.unlink()
        weights.symlink_to(target)
        refused(tiny_model_path, linked, ModelNotFoundError, "adapter_model.safetensors")
    os.mkfifo(tmp_path / "pipe")
    weights.unlink()
    weights.symlink_to(tmp_path / "pipe")
    refused(tiny_model_path, linked, ModelNotFoundError)


def test_what_is_no_adapter(tiny_model_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no such adapter"):
        load(tiny_model_path, tmp_path / "missing")
    with pytest.raises(ModelNotFoundError, match=r"has no adapter_config.json"):
        load(tiny_model_path, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match="it holds a model"):
        load(tiny_model_path, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"general.type.*no adapter"):
        load(tiny_model_path, tiny_model_path)
    with pytest.raises(PyQwenError):
        load(tiny_model_path, Path("x" * 5000))


# ------------------------------------------------------------------------------------------ GGUF files


def write_gguf(path: Path, keys: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, keys.get("general.architecture", "qwen2"))
    for name, value in keys.items():
        if name == "general.architecture":
            continue
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_array(name, value)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


KEYS = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 8.0}


def gguf_tensors(seed: int = 1, rank: int = 8) -> dict[str, np.ndarray]:
    tensors = {}
    for name, values in pf.factors(seed, rank=rank).items():
        layer, module, which = name.split(".")[4], name.split(".")[6], name[-8]
        tensors[f"blk.{layer}.{pf.FILE_NAMES[module]}.weight.lora_{which.lower()}"] = values
    return tensors


@pytest.mark.parametrize(("alpha", "factor"), [(8.0, 1.0), (0.0, 1.0), (4.0, 0.5), (None, 1.0)])
def test_a_gguf_adapter_is_that_of_peft(
    tiny_model_path: Path,
    adapter_paths: dict[str, Path],
    tmp_path: Path,
    alpha: float | None,
    factor: float,
) -> None:
    keys = KEYS | {"adapter.lora.alpha": alpha}
    path = write_gguf(
        tmp_path / "a.gguf", {k: v for k, v in keys.items() if v is not None}, gguf_tensors()
    )
    paths = {"gguf": path, "peft": adapter_paths["all"]}
    with Model(tiny_model_path, adapters=paths, threads=1) as model:
        logits = model.logits([1, 2, 3], adapter="gguf")
        assert (logits == model.logits([1, 2, 3], adapter={"peft": factor})).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"general.type": "model"}, ["general.type"]),
        ({"adapter.type": "other"}, ["adapter.type"]),
        ({"general.architecture": "llama"}, ["general.architecture", "another base model"]),
        ({"adapter.alora.invocation_tokens": [1, 2]}, ["invocation_tokens"]),
    ],
    ids=str,
)
def test_gguf_of_another_kind(
    tiny_model_path: Path, tmp_path: Path, change: dict[str, Any], words: list[str]
) -> None:
    path = write_gguf(tmp_path / "a.gguf", KEYS | change, gguf_tensors())
    refused(tiny_model_path, path, UnsupportedModelError, *words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("token_embd.weight.lora_a", ["embedding"]),
        ("output.weight.lora_b", ["output matrix"]),
        ("blk.2.attn_q.weight.lora_a", ["2 layers"]),
        ("blk.0.attn_norm.weight", ["neither"]),
        ("blk.0.ssm_in.weight.lora_a", ["no matrix"]),
    ],
)
def test_gguf_tensors_that_do_not_fit(
    tiny_model_path: Path, tmp_path: Path, name: str, words: list[str]
) -> None:
    tensors = gguf_tensors() | {name: np.zeros((8, 128), np.float32)}
    path = write_gguf(tmp_path / "a.gguf", KEYS, tensors)
    refused(tiny_model_path, path, UnsupportedModelError, name, *words)


def test_gguf_that_is_damaged(tiny_model_path: Path, tmp_path: Path) -> None:
    tensors = gguf_tensors()
    del tensors["blk.1.ffn_up.weight.lora_b"]
    path = write_gguf(tmp_path / "a.gguf", KEYS, tensors)
    refused(tiny_model_path, path, ModelFormatError, "counterpart B")
    tensors = gguf_tensors()
    tensors["blk.1.ffn_up.weight.lora_b"][9, 1] = np.nan
    path = write_gguf(tmp_path / "b.gguf", KEYS, tensors)
    refused(tiny_model_path, path, NumericError, "blk.1.ffn_up", "B holds NaN at [9, 1]")
    path = write_gguf(
        tmp_path / "c.gguf", KEYS | {"adapter.lora.alpha": float("nan")}, gguf_tensors()
    )
    refused(tiny_model_path, path, ModelFormatError, "alpha")
    whole = path.read_bytes()
    for cut in (3, 100, len(whole) - 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelFormatError):
            load(tiny_model_path, path)


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", KEYS, gguf_tensors())
    with pytest.raises(UnsupportedModelError, match="adapter"):
        Model(path)


def test_what_fails_leaves_nothing_behind(
    tiny_model_path: Path, adapter_paths: dict[str, Path], tmp_path: Path
) -> None:
    bad = pf.write_adapter(tmp_path / "bad", pf.factors(1), pf.settings(use_dora=True))
    with pytest.raises(UnsupportedModelError, match="use_dora"):
        Model(tiny_model_path, adapters={**adapter_paths, "bad": bad})
    with pytest.raises((PyQwenError, OutOfMemoryError)):
        Model(tiny_model_path, adapters=adapter_paths, progress=lambda done, total: done < total)


def test_names_and_paths(tiny_model_path: Path, adapter_paths: dict[str, Path]) -> None:
    path = adapter_paths["all"]
    for adapters, error in (
        ([path], TypeError),
        ({1: path}, TypeError),
        ({"": path}, ValueError),
        ({"a\n": path}, ValueError),
        ({"a": 1}, TypeError),
        ({"a": b"x"}, TypeError),
        ({"a": "a\0b"}, ValueError),
    ):
        with pytest.raises(error):
            Model(tiny_model_path, adapters=adapters)  # type: ignore[arg-type]
