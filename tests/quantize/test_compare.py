"""compare: divergences by their definition, statistics as llama-perplexity has them, bad pairs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import CancelledError, NumericError
from pyqwen.quantize import Comparison, compare, convert, quantize

TEXT = "She sells sea shells by the sea shore; the shells she sells are sea shells, I am sure. " * 9
LONG_TEXT = TEXT * 4
CONTEXT = 48


@pytest.fixture
def pair(make_tiny_model: Callable[..., Path]) -> tuple[Path, Path]:
    """The same weights, stored exactly and quantized to 4 bits."""
    return make_tiny_model(tensor_type="F32"), make_tiny_model(tensor_type="Q4_0")


def log_softmax(path: Path, chunk: list[int]) -> np.ndarray:
    with Model(path) as model:
        logits = model.logits(chunk)[:, : model.config.real_tokens].astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_a_model_does_not_differ_from_itself(tiny_model_path: Path) -> None:
    result = compare(tiny_model_path, tiny_model_path, TEXT, context=CONTEXT)
    assert result.mean_kld == result.kld_max == result.mean_kld_error == 0
    assert result.same_top_p == 1
    assert result.rms_delta_p == 0
    assert result.ppl_ratio == 1
    assert result.ppl == result.ppl_reference


# A chunk of 300 tokens is evaluated in two batches, of which the first has some that count.
@pytest.mark.parametrize(("context", "chunks"), [(48, 3), (300, 1)])
def test_the_divergence_is_that_of_the_logits(
    pair: tuple[Path, Path], context: int, chunks: int
) -> None:
    result = compare(*pair, LONG_TEXT, context=context, chunks=chunks)
    with Model(pair[0]) as model:
        ids = model.tokenizer.encode(LONG_TEXT)
    kld, same, nll, nll_reference = [], [], [], []
    for i in range(chunks):
        chunk = ids[i * context : (i + 1) * context]
        p, q = (log_softmax(path, chunk) for path in pair)
        for at in range(context // 2, context - 1):
            kld.append(np.sum(np.exp(p[at]) * (p[at] - q[at])))
            same.append(p[at].argmax() == q[at].argmax())
            nll.append(-q[at][chunk[at + 1]])
            nll_reference.append(-p[at][chunk[at + 1]])
    n = chunks * (context - context // 2 - 1)
    assert (result.tokens, result.chunks, result.context) == (n, chunks, context)
    assert result.mean_kld > 0.01  # otherwise the bounds below would say nothing
    close = lambda value: pytest.approx(value, rel=1e-4)  # noqa: E731
    assert result.mean_kld == close(np.mean(kld))
    assert result.mean_kld_error == close(np.std(kld) / math.sqrt(n - 1))
    assert result.kld_median == close(np.median(kld))
    assert result.kld_max == close(np.max(kld))
    assert result.kld_99 == close(np.quantile(kld, 0.99))
    assert result.same_top_p == np.mean(same)
    assert result.ppl == close(math.exp(np.mean(nll)))
    assert result.ppl_reference == close(math.exp(np.mean(nll_reference)))
    assert result.ppl_ratio == close(math.exp(np.mean(nll) - np.mean(nll_reference)))
    # llama-perplexity's form of the error, from the variances of both and their covariance
    variances = (
        np.var(nll) + np.var(nll_reference) - 2 * np.cov(nll, nll_reference, bias=True)[0, 1]
    )
    assert result.ppl_ratio_error == close(result.ppl_ratio * math.sqrt(variances / (n - 1)))
    change = np.exp(-np.array(nll)) - np.exp(-np.array(nll_reference))
    assert result.rms_delta_p == close(math.sqrt(np.mean(change**2)))


def test_the_result_does_not_depend_on_threads_or_instruction_set(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [compare(*pair, TEXT, context=CONTEXT, threads=threads) for threads in (1, 2, 3)]
    monkeypatch.setenv("PYQWEN_ISA", "scalar")
    results.append(compare(*pair, TEXT, context=CONTEXT))
    assert all(result == results[0] for result in results)


def test_progress_tells_what_is_known_so_far(pair: tuple[Path, Path]) -> None:
    seen: list[tuple[Comparison, int]] = []
    result = compare(*pair, TEXT, context=CONTEXT, chunks=3, progress=lambda *now: seen.append(now))
    assert [(now.chunks, total) for now, total in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1][0] == result
    assert seen[0][0] == compare(*pair, TEXT, context=CONTEXT, chunks=1)


def test_statistics_of_one_position(pair: tuple[Path, Path]) -> None:
    result = compare(*pair, TEXT, context=4, chunks=1)
    assert result.tokens == 1
    assert result.mean_kld == result.kld_median == result.kld_max
    assert asdict(result)["mean_kld_error"] == math.inf


def test_other_words(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(pair[1].read_bytes().replace(b"<tool_call>", b"<tool_cell>"))
    with pytest.raises(ValueError, match=r"'<tool_cell>' in .*other\.gguf.*one vocabulary"):
        compare(pair[0], other, TEXT, context=CONTEXT)


def test_another_number_of_words(tiny_model_path: Path, make_checkpoint, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    convert(make_checkpoint().write(), other)
    with pytest.raises(ValueError, match=r"has 262 tokens and .*one vocabulary"):
        compare(tiny_model_path, other, TEXT, context=CONTEXT)


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_model(make_tiny_model: Callable[..., Path], damaged: int) -> None:
    paths = [make_tiny_model(damaged=i == damaged) for i in range(2)]
    with pytest.raises(NumericError):
        compare(*paths, TEXT, context=CONTEXT)


def test_k_types_are_measured_as_llama_cpp_runs_them_unless_told(
    make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    reference, k_model = make_tiny_model(tensor_type="F32", hidden=256), tmp_path / "q4_k_m.gguf"
    quantize(reference, k_model, "Q4_K_M")
    by_default = compare(reference, k_model, TEXT, context=CONTEXT)
    coarse, fine = (
        compare(reference, k_model, TEXT, context=CONTEXT, activations=activations)
        for activations in ("coarse", "fine")
    )
    assert by_default == coarse
    assert coarse.mean_kld != fine.mean_kld
    with pytest.raises(ValueError, match="'coarse' or 'fine', not 'q8_K'"):
        compare(reference, k_model, TEXT, context=CONTEXT, activations="q8_K")


def test_a_text_that_is_too_short(tiny_model_path: Path) -> None:
    with pytest.raises(ValueError, match="needs 1,024 or more"):
        compare(tiny_model_path, tiny_model_path, TEXT, loading=lambda *_: pytest.fail("loads"))


def test_cancel(tiny_model_path: Path) -> None:
    cancel = threading.Event()
    with pytest.raises(CancelledError):
        compare(
            tiny_model_path,
            tiny_model_path,
            TEXT,
            context=CONTEXT,
            progress=lambda *_: cancel.set(),
            cancel=cancel,
        )
    with pytest.raises(CancelledError):  # before anything is loaded
        compare(tiny_model_path, tiny_model_path, TEXT, context=CONTEXT, cancel=cancel)
