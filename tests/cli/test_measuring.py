"""The verbs that measure: perplexity, bench, doctor."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from pyqwen import Model

TEXT = "The quick brown fox jumps over the lazy dog, she sells sea shells by the sea shore. " * 12


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT + "\n")
    return path


def reference_perplexity(path: Path, context: int, chunks: int) -> tuple[float, float, int]:
    """By the definition: mean and standard error over the second halves of chunks."""
    with Model(path) as model:
        ids = model.tokenizer.encode(TEXT)
        nll: list[float] = []
        for i in range(chunks):
            chunk = ids[i * context : (i + 1) * context]
            scores = model.logprobs(chunk)  # number k is that of chunk[k + 1]
            nll += [-float(x) for x in scores[context // 2 :]]
    ppl = math.exp(np.mean(nll))
    return ppl, ppl * float(np.std(nll)) / math.sqrt(len(nll) - 1), len(nll)


@pytest.mark.parametrize(("context", "chunks"), [(64, 4), (33, 2), (300, 1)])
def test_perplexity_is_that_of_the_second_halves(
    call, tiny_model_path: Path, text_file: Path, context: int, chunks: int
) -> None:
    argv = ("-f", text_file, "-c", context, "--chunks", chunks, "--json")
    result = call("perplexity", tiny_model_path, *argv)
    if context == 300:  # the text has fewer than two chunks of that size
        assert result.code == 1
        assert "needs 600 or more" in result.err
        return
    ppl, error, tokens = reference_perplexity(tiny_model_path, context, chunks)
    assert result.json["n_tokens"] == tokens == chunks * (context - context // 2 - 1)
    assert result.json["n_chunks"] == chunks
    assert result.json["ppl"] == pytest.approx(ppl, rel=1e-6)
    assert result.json["ppl_error"] == pytest.approx(error, rel=1e-5)


def test_perplexity_reads_all_whole_chunks(call, tiny_model_path: Path, text_file: Path) -> None:
    result = call("perplexity", tiny_model_path, "-f", text_file, "-c", 64, "--json").json
    with Model(tiny_model_path) as model:
        assert result["n_chunks"] == len(model.tokenizer.encode(TEXT)) // 64


def test_perplexity_in_words(call, tiny_model_path: Path) -> None:
    result = call("perplexity", tiny_model_path, "-f", "-", "-c", 64, stdin=TEXT)
    assert result.code == 0
    assert result.out.startswith("PPL = ")
    assert " +/- " in result.out


def test_bos_takes_the_place_of_the_first_token(tiny_model_path: Path) -> None:
    from pyqwen.loading.weights import open_weights
    from pyqwen.measuring.perplexity import perplexity

    ids = [5 + i % 200 for i in range(128)]
    with open_weights(tiny_model_path) as weights:
        replaced = perplexity(weights, ids, context=64, bos=3)
        by_hand = perplexity(weights, [3, *ids[1:64], 3, *ids[65:]], context=64)
        plain = perplexity(weights, ids, context=64)
    assert replaced == by_hand
    assert replaced != plain


BENCH = ("-p", "16,8", "-n", "3", "-r", "2")
KEYS = [  # llama-bench's, in its order
    "build_commit",
    "build_number",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "model_type",
    "model_size",
    "model_n_params",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "cpu_mask",
    "cpu_strict",
    "poll",
    "type_k",
    "type_v",
    "n_gpu_layers",
    "n_cpu_moe",
    "split_mode",
    "main_gpu",
    "no_kv_offload",
    "flash_attn",
    "devices",
    "tensor_split",
    "tensor_buft_overrides",
    "load_mode",
    "lazy_mode",
    "embeddings",
    "no_op_offload",
    "no_host",
    "repack",
    "fit_target",
    "fit_min_ctx",
    "n_prompt",
    "n_gen",
    "n_depth",
    "test_time",
    "avg_ns",
    "stddev_ns",
    "avg_ts",
    "stddev_ts",
    "samples_ns",
    "samples_ts",
]


def test_bench_json_is_one_array_of_all_tests(call, tiny_model_path: Path) -> None:
    result = call("bench", "-m", tiny_model_path, *BENCH, "-d", "0,32", "-t", "1,2", "-o", "json")
    rows = result.json
    tests = [(row["n_depth"], row["n_threads"], row["n_prompt"], row["n_gen"]) for row in rows]
    lengths = [(16, 0), (8, 0), (0, 3)]
    assert tests == [(d, t, p, n) for d in (0, 32) for t in (1, 2) for p, n in lengths]
    for row in rows:
        assert list(row) == [*KEYS, "isa"]
        assert len(row["samples_ns"]) == len(row["samples_ts"]) == 2
        tokens = row["n_prompt"] + row["n_gen"]
        assert row["samples_ts"] == [tokens * 1e9 / ns for ns in row["samples_ns"]]
        assert row["avg_ts"] == pytest.approx(np.mean(row["samples_ts"]))
        assert row["stddev_ts"] == pytest.approx(np.std(row["samples_ts"], ddof=1))
        assert row["model_filename"] == str(tiny_model_path)


def test_bench_jsonl_and_csv(call, tiny_model_path: Path) -> None:
    lines = call("bench", "-m", tiny_model_path, *BENCH, "-o", "jsonl").out.splitlines()
    assert [json.loads(line)["n_prompt"] for line in lines] == [16, 8, 0]
    table = call("bench", "-m", tiny_model_path, *BENCH, "-o", "csv").out
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["n_gen"] for row in rows] == ["0", "0", "3"]
    assert float(rows[0]["avg_ts"]) > 0
    assert list(rows[0]) == [*KEYS[:-2], "isa"]


def test_bench_says_what_was_packed(
    call, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("bench", "-m", tiny_model_path, "-p", 4, "-n", 0, "-r", 1, "-o", "json")
    assert call(*argv).json[0]["repack"] is True
    monkeypatch.setenv("PYQWEN_EXACT", "1")
    (row,) = call(*argv).json
    assert row["repack"] is False
    assert row["type_k"] == "f32"


def test_bench_markdown(call, tiny_model_path: Path) -> None:
    out = call("bench", "-m", tiny_model_path, "-p", 0, "-n", 2, "-d", 8, "-r", 1).out
    lines = out.splitlines()
    assert len(lines) == 3
    assert "tg2 @ d8" in lines[2]
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")


def test_bench_with_nothing_to_measure_is_wrong_usage(call, tiny_model_path: Path) -> None:
    assert call("bench", "-m", tiny_model_path, "-p", 0, "-n", 0).code == 2


def test_bench_beyond_the_context_fails(call, tiny_model_path: Path) -> None:
    result = call("bench", "-m", tiny_model_path, "-p", 100_000, "-n", 0)
    assert result.code == 1
    assert "Traceback" not in result.err


def test_doctor_json(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    report = call("doctor", "--json").json
    assert report["isas"]["scalar"] is True
    assert report["isas"][report["isa"]] is True
    assert report["kernels"]
    assert report["bandwidth"] > 1e8
    assert report["isa"] == "scalar" or report["int8_products"] > 1e8
    assert report["threads"] >= 1
    assert report["versions"]["pyqwen"]
    assert report["environment"]["HF_TOKEN"] == "(set)"
    assert "hf_secret" not in json.dumps(report)


@pytest.fixture
def _memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading half a gigabyte several times is nothing that these tests are about."""
    monkeypatch.setattr("pyqwen._native.measure_bandwidth", lambda threads, size: 1e10)


@pytest.mark.usefixtures("_memory_is_not_measured")
def test_doctor_with_portable_kernels_knows_no_products(
    call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQWEN_ISA", "scalar")
    assert call("doctor", "--json").json["int8_products"] is None
    assert "scalar has no instruction for them" in call("doctor").out


@pytest.mark.usefixtures("_memory_is_not_measured")
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PYQWEN_ISA", "mmx", "names an instruction set that is unknown"),
        ("PYQWEN_THREADS", "0", "must be a number"),
        ("PYQWEN_THREADS", "9999", "is more than the"),
        ("PYQWEN_EXACT", "1", "reference path"),
        ("PYQWEN_EXACT", "yes", "must be 1 or 0"),
        ("PYQWEN_CACHE", "/dev/null", "is not a directory that can be written"),
        ("PYQWEN_CACHE", "/dev/null/below", "is not a directory that can be written"),
    ],
)
def test_doctor_finds_bad_settings(
    call, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    result = call("doctor")
    assert result.code == 0
    (problem,) = [line for line in result.out.splitlines() if line.startswith("problem: ")]
    assert name in problem
    assert words in problem


@pytest.mark.usefixtures("_memory_is_not_measured")
@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (
            "PIP_INDEX_URL",
            "https://bob:hunter2@index.example/simple",
            "https://index.example/simple",
        ),
        ("https_proxy", "bob:hunter2@proxy.example:8080", "proxy.example:8080"),
        ("HF_ENDPOINT", "https://bob:hun/ter2@hub.example", "https://hub.example"),
        (
            "PIP_EXTRA_INDEX_URL",
            "https://a.example https://bob:hunter2@b.example",
            "https://a.example https://b.example",
        ),
    ],
)
def test_doctor_shows_no_passwords(
    call, monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    result = call("doctor")
    assert f"{name}={shown}" in result.out
    for secret in ("bob", "hun", "ter2"):
        assert secret not in result.out.partition("environment")[2]
    assert call("doctor", "--json").json["environment"][name] == shown


@pytest.mark.usefixtures("_memory_is_not_measured")
def test_doctor_finds_slow_kernels(call, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyqwen import _native

    monkeypatch.setenv("PYQWEN_ISA", "scalar")
    has_better = _native.default_isa() != "scalar"
    out = call("doctor").out
    assert ("forces slower kernels" in out) == has_better
    assert "problem: " in out
