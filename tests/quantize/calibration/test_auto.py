"""AUTO and recipes with a calibration text, from a checkpoint to a file that runs."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import CancelledError, UnsupportedModelError
from pyqwen.quantize import Quantization, quantize

Make = Any
SIZE = {"hidden": 256, "ffn": 512, "heads": 4, "kv_heads": 2}


def random_text(seed: int, words: int) -> str:
    """Words of two to eight letters, each a token of the tiny vocabulary, some letters more frequent."""
    random = np.random.default_rng(seed)
    letters = [chr(i) for i in range(33, 127)]
    odds = np.random.default_rng(1).dirichlet(np.full(len(letters), 0.5))
    return " ".join(
        "".join(random.choice(letters, random.integers(2, 9), p=odds)) for _ in range(words)
    )


@pytest.fixture(scope="module")
def text() -> str:
    """Some 2,100 tokens."""
    return random_text(5, 350)


def calm(files: Any) -> Any:
    """Lessen what random weights do, so that errors of the weights are small errors of the answers."""
    for name, values in files.tensors.items():
        if values.ndim == 2:
            values *= np.float32(0.25)
        elif name.endswith("bias"):
            values *= np.float32(0.1)
    return files


@pytest.fixture
def checkpoint(make_checkpoint: Make, request: pytest.FixtureRequest) -> Path:
    """A qwen2, or what a test asks for; the heads of qwen3 are wider than hidden / heads."""
    sizes = {**SIZE, "architecture": getattr(request, "param", "qwen2")}
    if sizes["architecture"] == "qwen3":
        sizes["head_dim"] = 128
    files = calm(make_checkpoint(max_position_embeddings=1024, **sizes))
    random = np.random.default_rng(9)
    for i in range(2):  # columns of different size, as trained models have them
        scales = np.exp2(random.integers(-2, 3, SIZE["hidden"])).astype(np.float32)
        block = f"model.layers.{i}."
        files.tensors[f"{block}post_attention_layernorm.weight"] /= scales
        for name in ("gate", "up"):
            files.tensors[f"{block}mlp.{name}_proj.weight"] *= scales
    path: Path = files.write()
    return path


def logprobs(path: Path) -> np.ndarray:
    """What a model predicts along a text of the same kind that was not used for calibration."""
    with Model(path, threads=1) as model:
        ids = model.tokenizer.encode(random_text(6, 60))
        logits = model.logits(ids).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())


@pytest.fixture
def reference(checkpoint: Path, tmp_path: Path) -> np.ndarray:
    quantize(checkpoint, tmp_path / "f32.gguf", "F32")
    return logprobs(tmp_path / "f32.gguf")


def test_auto_keeps_to_its_budget_and_predicts_its_loss(
    checkpoint: Path, tmp_path: Path, text: str, reference: np.ndarray
) -> None:
    measured = []
    for target in (800_000, 900_000, 1_100_000):
        out = tmp_path / "auto.gguf"
        done = quantize(checkpoint, out, "AUTO", calibration=text, target_size=target, threads=2)
        assert out.stat().st_size == done.file_bytes <= target
        assert done.file_bytes > 0.93 * target
        expected = sum(tensor.divergence or 0.0 for tensor in done.tensors)
        measured.append(divergence(reference, logprobs(out)))
        assert 0.25 * measured[-1] < expected < 4 * measured[-1]
    assert measured[0] > measured[1] > measured[2]


def test_auto_loses_less_than_a_recipe_of_its_size(
    checkpoint: Path, tmp_path: Path, text: str, reference: np.ndarray
) -> None:
    recipe = quantize(checkpoint, tmp_path / "recipe.gguf", "Q4_K_M", calibration=text)
    auto = quantize(
        checkpoint, tmp_path / "a.gguf", "AUTO", calibration=text, target_size=recipe.file_bytes
    )
    assert auto.file_bytes <= recipe.file_bytes
    by_recipe = divergence(reference, logprobs(tmp_path / "recipe.gguf"))
    assert divergence(reference, logprobs(tmp_path / "a.gguf")) < 0.85 * by_recipe


@pytest.mark.parametrize("checkpoint", ["qwen2", "qwen3"], indirect=True)
@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_each_method_helps_a_recipe(
    checkpoint: Path, tmp_path: Path, text: str, reference: np.ndarray, method: str
) -> None:
    without = quantize(checkpoint, tmp_path / "without.gguf", "Q4_K_S", calibration=text)
    done = quantize(
        checkpoint, tmp_path / "with.gguf", "Q4_K_S", calibration=text, **{method: True}
    )
    assert [t.type for t in done.tensors] == [t.type for t in without.tensors]
    assert done.file_bytes == without.file_bytes
    plain, better = (
        divergence(reference, logprobs(tmp_path / f"{name}.gguf")) for name in ("without", "with")
    )
    assert better < 0.95 * plain


@pytest.mark.parametrize("checkpoint", ["qwen2", "qwen3"], indirect=True)
def test_awq_alone_change_no_answer(
    checkpoint: Path, tmp_path: Path, text: str, reference: np.ndarray
) -> None:
    out = tmp_path / "scaled.gguf"
    quantize(checkpoint, out, "F32", calibration=text, awq=True)
    assert divergence(reference, logprobs(out)) < 1e-6


def test_bits_per_weight_are_those_of_all_tensors(
    checkpoint: Path, tmp_path: Path, text: str
) -> None:
    out = tmp_path / "auto.gguf"
    done = quantize(checkpoint, out, "AUTO", calibration=text, target_bpw=5.0)
    assert 4.8 < done.bits_per_weight <= 5.0


def test_types_that_are_given_are_kept(checkpoint: Path, tmp_path: Path, text: str) -> None:
    done = quantize(
        checkpoint,
        tmp_path / "auto.gguf",
        "AUTO",
        calibration=text,
        target_size=1_000_000,
        tensor_types=[("attn_v", "q8_0")],
        token_embedding_type="q4_k",
    )
    types = {tensor.name: tensor.type for tensor in done.tensors}
    assert types["token_embd.weight"] == "Q4_K"
    assert types["blk.0.attn_v.weight"] == types["blk.1.attn_v.weight"] == "Q8_0"


def test_a_dry_run_tells_the_size_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, text: str
) -> None:
    def run(**options: Any) -> Quantization:
        return quantize(
            checkpoint, tmp_path / "o.gguf", "AUTO", calibration=text, target_bpw=5, **options
        )

    dry = run(dry_run=True)
    assert dry.path is None
    assert not (tmp_path / "o.gguf").exists()
    wet = run()
    assert (dry.file_bytes, [t.type for t in dry.tensors]) == (
        wet.file_bytes,
        [t.type for t in wet.tensors],
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_rows_of_32_and_untied_outputs(
    make_checkpoint: Make, tmp_path: Path, text: str, architecture: str
) -> None:
    files = calm(
        make_checkpoint(architecture=architecture, tied=False, max_position_embeddings=1024)
    )
    source = files.write()
    quantize(source, tmp_path / "f32.gguf", "F32")
    reference = logprobs(tmp_path / "f32.gguf")
    recipe = quantize(source, tmp_path / "q5.gguf", "Q5_0", calibration=text)
    out = tmp_path / "auto.gguf"
    done = quantize(source, out, "AUTO", calibration=text, target_size=recipe.file_bytes)
    assert done.file_bytes <= recipe.file_bytes
    assert divergence(reference, logprobs(out)) < divergence(
        reference, logprobs(tmp_path / "q5.gguf")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "calibration text"),
        ({"calibration": "the"}, "target"),
        ({"calibration": "the", "target_size": 10**6}, "tokens; 512 are the least"),
        ({"calibration": "x", "target_size": 5, "target_bpw": 4}, "exclude each other"),
        ({"calibration": "x", "target_size": -1}, "above 0"),
        ({"calibration": "x", "target_bpw": float("nan")}, "above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(checkpoint, tmp_path / "out.gguf", "AUTO", **options)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_size": 10**6}, "a target is for AUTO"),
        ({"error_feedback": True}, "calibration text"),
        ({"calibration": "x", "gptq": True, "error_feedback": False}, "are the same; give one"),
        ({"calibration": "x", "awq": False, "channel_scales": True}, "are the same; give one"),
    ],
)
def test_recipes_refuse_what_is_for_auto(
    checkpoint: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(checkpoint, tmp_path / "out.gguf", "Q4_K_M", **options)


def test_a_target_that_cannot_be_met_is_refused(
    checkpoint: Path, tmp_path: Path, text: str
) -> None:
    with pytest.raises(ValueError, match=r"smallest file .* allowed"):
        quantize(checkpoint, tmp_path / "out.gguf", "AUTO", calibration=text, target_size=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_cancelling_leaves_nothing(checkpoint: Path, tmp_path: Path, text: str) -> None:
    cancel = threading.Event()
    steps = []

    def progress(done: int, total: int) -> None:
        steps.append((done, total))
        if len(steps) == 3:
            cancel.set()

    with pytest.raises(CancelledError):
        quantize(
            checkpoint,
            tmp_path / "out.gguf",
            "AUTO",
            calibration=text,
            target_bpw=5,
            progress=progress,
            cancel=cancel,
        )
    assert len(steps) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_progress_reaches_its_total(checkpoint: Path, tmp_path: Path, text: str) -> None:
    steps: list[tuple[int, int]] = []
    quantize(
        checkpoint,
        tmp_path / "out.gguf",
        "AUTO",
        calibration=text,
        target_bpw=5,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1][0] == steps[-1][1]
    assert all(a[0] < b[0] for a, b in itertools.pairwise(steps))


def test_quantized_models_are_not_quantized_again(
    checkpoint: Path, tmp_path: Path, text: str
) -> None:
    quantize(checkpoint, tmp_path / "q8.gguf", "Q8_0")
    with pytest.raises(UnsupportedModelError, match="allow-requantize"):
        quantize(tmp_path / "q8.gguf", tmp_path / "o.gguf", "AUTO", calibration=text, target_bpw=5)
    done = quantize(
        tmp_path / "q8.gguf",
        tmp_path / "o.gguf",
        "AUTO",
        calibration=text,
        target_bpw=5,
        allow_requantize=True,
    )
    assert done.bits_per_weight <= 5
