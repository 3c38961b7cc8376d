"""Adapters to GGUF, and into the weights: what comes of both is what the adapter computes at run time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import ModelFileError, ModelNotFoundError, NumericError, UnsupportedModelError
from pyqwen.quantize import convert, quantize

sys.path.insert(0, str(Path(__file__).parent))
from peft_logits import CASES, IDS, adapter, checkpoint


def logits(model: Path, **adapters: Path) -> np.ndarray:
    with Model(model, adapters=adapters, threads=1, exact=True) as opened:
        return opened.logits(IDS, adapter=dict.fromkeys(adapters, 1.0))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The root mean square of what differs, relative to that of what is expected."""
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


@pytest.fixture(scope="module", params=CASES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A checkpoint, its file, and an adapter of it."""
    folder = tmp_path_factory.mktemp("made")
    model = checkpoint(request.param, folder / "model").write()
    convert(model, folder / "model.gguf")
    return model, folder / "model.gguf", adapter(request.param, folder / "adapter")


def test_a_converted_adapter_computes_the_same(made: Any, tmp_path: Path) -> None:
    model, file, own = made
    expected = logits(file, own=own)
    for base, outtype, bound in ((model, "f32", 1e-5), (file, "auto", 2e-3), (file, "q8_0", 0.05)):
        out = tmp_path / f"{outtype}.gguf"
        done = convert(own, out, outtype, base=base)
        assert done.file_bytes == out.stat().st_size
        assert {tensor.name.rpartition(".")[2] for tensor in done.tensors} == {"lora_a", "lora_b"}
        assert distance(logits(file, own=out), expected) < bound, outtype
    keys = gguf.GGUFReader(tmp_path / "f32.gguf").fields
    assert keys["general.type"].contents() == "adapter"
    assert keys["adapter.type"].contents() == "lora"
    assert keys["general.base_model.0.name"].contents() == "Test/Tiny"


def test_a_merged_model_is_that_with_the_adapter_beside_it(made: Any, tmp_path: Path) -> None:
    model, file, own = made
    expected = logits(file, own=own)
    sources = (model, file)
    outs = [tmp_path / "of-checkpoint.gguf", tmp_path / "of-file.gguf"]
    for source, out in zip(sources, outs, strict=True):
        done = quantize(source, out, "F32", merge_adapter=own, threads=1)
        assert any("is merged into" in note for note in done.notes)
        assert distance(logits(out), expected) < 1e-5
    quantize(file, tmp_path / "half.gguf", "F16", merge_adapter={own: 0.5}, threads=1)
    quantize(file, tmp_path / "none.gguf", "Q8_0", merge_adapter={own: 0.0}, threads=1)
    quantize(file, tmp_path / "plain.gguf", "Q8_0", threads=1)
    with Model(file, adapters={"own": own}, exact=True) as opened:
        half = opened.logits(IDS, adapter={"own": 0.5})
    assert distance(logits(tmp_path / "half.gguf"), half) < 0.01
    assert (logits(tmp_path / "none.gguf") == logits(tmp_path / "plain.gguf")).all()


@pytest.fixture
def one(tmp_path: Path) -> tuple[Path, Path]:
    model = checkpoint("qwen2", tmp_path / "model").write()
    return model, adapter("qwen2", tmp_path / "adapter")


def test_the_base_model_is_found_or_asked_for(one: tuple[Path, Path], tmp_path: Path) -> None:
    model, own = one
    out = tmp_path / "out.gguf"
    with pytest.raises(ModelNotFoundError, match=r"Test/Tiny.*--base"):
        convert(own, out)
    settings = own / "adapter_config.json"
    known = json.loads(settings.read_text()) | {"base_model_name_or_path": str(model)}
    settings.write_text(json.dumps(known))
    assert convert(own, out).architecture == "qwen2"
    with pytest.raises(ModelNotFoundError, match="no such base model"):
        convert(own, out, base=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="base is for adapters"):
        convert(model, out, base=model)
    with pytest.raises(UnsupportedModelError, match="--merge-adapter"):
        quantize(own, out, "Q8_0")
    with pytest.raises(ValueError, match="input"):
        convert(own, own / "adapter_model.safetensors")


def test_what_does_not_fit_leaves_the_old_file(one: tuple[Path, Path], tmp_path: Path) -> None:
    import peft_files as pf

    model, own = one
    out = tmp_path / "out.gguf"
    out.write_bytes(b"old")
    other = checkpoint("qwen3, patterns", tmp_path / "other").write()
    with pytest.raises(UnsupportedModelError, match="another base model"):
        convert(own, out, base=other)
    with pytest.raises(UnsupportedModelError, match="another base model"):
        quantize(other, out, "Q8_0", merge_adapter=own)
    tensors = pf.factors(1, sizes=pf.shapes(ffn=192))
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    tensors[name][3, 4] = np.nan
    damaged = pf.write_adapter(tmp_path / "damaged", tensors)
    for attempt in (
        lambda: convert(damaged, out, base=model),
        lambda: quantize(model, out, "Q8_0", merge_adapter=damaged),
    ):
        with pytest.raises(NumericError, match=r"up_proj.*\[3, 4\]"):
            attempt()
    tensors[name][3, 4] = 1e6
    large = pf.write_adapter(tmp_path / "large", tensors)
    with pytest.raises(ModelFileError, match="--outtype f32"):
        convert(large, out, "f16", base=model)
    small = tmp_path / "small.gguf"
    quantize(model, small, "Q8_0", threads=1)
    with pytest.raises(UnsupportedModelError, match="unquantized"):
        quantize(small, out, "Q4_0", merge_adapter=own, allow_requantize=True)
    assert out.read_bytes() == b"old"


def test_the_bytes_do_not_depend_on_threads(one: tuple[Path, Path], tmp_path: Path) -> None:
    model, own = one
    outs = [tmp_path / f"{threads}.gguf" for threads in (1, 2)]
    for threads, out in enumerate(outs, 1):
        quantize(model, out, "Q4_0", merge_adapter=own, threads=threads)
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_commands(
    one: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pyqwen.__main__ import main

    model, own = map(str, one)
    converted, merged = str(tmp_path / "a.gguf"), str(tmp_path / "m.gguf")
    assert main(["convert", own, converted, "--base", model]) == 0
    assert main(["quantize", model, merged, "F16", "--merge-adapter", f"{converted}=0.5"]) == 0
    assert capsys.readouterr().out.split() == [converted, merged]
    assert main(["quantize", model, merged, "F16", "--merge-adapter", f"{own}=x"]) == 2
