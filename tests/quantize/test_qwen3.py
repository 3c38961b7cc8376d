"""Qwen3 from a checkpoint: the logits of transformers, and the names and keys of llama.cpp."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import UnsupportedModelError
from pyqwen.quantize import convert, imatrix, quantize

sys.path.insert(0, str(Path(__file__).parent))
from qwen3_logits import IDS, POSITIONS, RESULTS, SHAPES, checkpoint


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    out = tmp_path / "model.gguf"
    convert(checkpoint(shape, tmp_path / "model").write(), out)
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    with Model(out, threads=1) as model:
        logits = model.logits(IDS)[POSITIONS]
    expected = np.load(RESULTS)[shape]
    assert np.abs(expected).max() > 5  # otherwise the bound below would say nothing
    assert np.abs(logits - expected).max() < 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("qwen2", gguf.MODEL_ARCH.QWEN2),
        ("qwen3", gguf.MODEL_ARCH.QWEN3),
        ("llama", gguf.MODEL_ARCH.LLAMA),
    ],
)
def test_tensors_have_the_names_that_llama_cpp_gives_them(
    make_checkpoint, tmp_path: Path, architecture: str, kind: gguf.MODEL_ARCH
) -> None:
    files = make_checkpoint(architecture=architecture, tied=False)
    done = convert(files.write(), tmp_path / "model.gguf")
    names = gguf.get_tensor_name_map(kind, 2)
    expected = {name: names.get_name(name, (".weight", ".bias")) for name in files.tensors}
    assert {tensor.source: tensor.name for tensor in done.tensors} == expected


def test_keys(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(architecture="qwen3", head_dim=64, rope_theta=1e6)
    convert(files.write(), tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    keys = {name: field.contents() for name, field in reader.fields.items() if "qwen3." in name}
    assert keys == {
        "qwen3.block_count": 2,
        "qwen3.context_length": 512,
        "qwen3.embedding_length": 128,
        "qwen3.feed_forward_length": 192,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.rope.freq_base": 1e6,
        "qwen3.attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "qwen3.attention.key_length": 64,
        "qwen3.attention.value_length": 64,
    }
    assert reader.fields["tokenizer.ggml.pre"].contents() == "qwen2"


def test_heads_are_128_wide_where_the_checkpoint_does_not_say(make_checkpoint, tmp_path) -> None:
    files = make_checkpoint(architecture="qwen3", head_dim=128)
    del files.config["head_dim"]  # what transformers takes then
    convert(files.write(), tmp_path / "model.gguf")
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert model.config.head_dim == 128


@pytest.mark.parametrize("key", ["attention_bias", "use_sliding_window"])
def test_variants_that_are_not_run_are_refused(make_checkpoint, tmp_path: Path, key: str) -> None:
    files = make_checkpoint(architecture="qwen3", head_dim=32, **{key: True})
    with pytest.raises(UnsupportedModelError, match=key):
        convert(files.write(), tmp_path / "model.gguf")


def test_an_importance_matrix_has_every_matrix(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(architecture="qwen3", head_dim=64, tied=False)
    model, out = tmp_path / "model.gguf", tmp_path / "imatrix.gguf"
    done = convert(files.write(), model)
    found = imatrix(model, "The theme of these. " * 40, out, context=32, threads=1)
    matrices = {t.name: t.shape[1] for t in done.tensors if len(t.shape) > 1}
    del matrices["token_embd.weight"]  # is looked up
    assert {name: len(values) for name, values in found.values.items()} == matrices
    quantized = quantize(model, tmp_path / "q4.gguf", "Q4_0", imatrix=out, threads=1)
    assert not any("no entry" in note or "without" in note for note in quantized.notes)
    with Model(quantized.path, threads=1) as small:
        assert np.isfinite(small.logits(IDS)).all()
