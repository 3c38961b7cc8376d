"""Embedding models from checkpoints: the vectors of sentence-transformers, and what a file keeps of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pyqwen import Model
from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.quantize import convert, quantize

sys.path.insert(0, str(Path(__file__).parent))
from conversion import converted, said
from embedding_vectors import (
    DIMENSIONS,
    MODULES,
    QUERY,
    RESULTS,
    SHAPES,
    TEXTS,
    checkpoint,
    end_texts,
    vectors,
    write_modules,
)

POOLINGS = list(SHAPES)
ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "query": {"instruction": "query"},
    "short": {"dimensions": DIMENSIONS},
}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product = np.sum(a.astype(np.float64) * b, axis=1)
    return np.asarray(product / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(
    ("outtype", "exact", "least"), [("f32", True, 0.99999), ("q8_0", False, 0.999)]
)
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, pooling: str, outtype: str, exact: bool, least: float
) -> None:
    out = tmp_path / "model.gguf"
    convert(checkpoint(pooling, tmp_path / "model"), out, outtype)
    expected = np.load(RESULTS)
    with Model(out, threads=1, exact=exact) as model:
        for what, asked in ASKED.items():
            found = model.embed(TEXTS, **asked)
            assert cosines(found, expected[f"{pooling} {what}"]).min() >= least
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_recorded_vectors_are_still_what_is_computed(tmp_path: Path, pooling: str) -> None:
    pytest.importorskip("sentence_transformers")
    for what, rows in vectors(checkpoint(pooling, tmp_path / "model")).items():
        np.testing.assert_allclose(rows, np.load(RESULTS)[f"{pooling} {what}"], atol=1e-5)


def test_keys_are_those_that_llama_cpp_writes(tmp_path: Path) -> None:
    keys, done = converted(checkpoint("last", tmp_path / "model"))
    assert keys["general.architecture"] == "qwen3"
    assert keys["qwen3.pooling_type"] == gguf.PoolingType.LAST
    assert keys["tokenizer.ggml.eos_token_id"] == 258  # <|endoftext|>, as in Qwen's own files
    assert keys["tokenizer.ggml.eot_token_id"] == 260  # <|im_end|>
    assert keys["tokenizer.ggml.add_eos_token"] is True
    assert keys["tokenizer.ggml.add_bos_token"] is False
    assert keys["sentence_transformers.prompts.query"] == QUERY
    assert said(done, "<|endoftext|>", "<|im_end|>", "still ends answers")
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert model.embedding_settings.prompts == {"query": QUERY, "document": ""}
        assert model.embed_prompt(["the", ""]) == [[257, 258], [258]]
        np.testing.assert_array_equal(
            model.embed("the", instruction="document"), model.embed("the")
        )


def test_a_quantized_file_keeps_them(tmp_path: Path) -> None:
    convert(checkpoint("last", tmp_path / "model"), tmp_path / "model.gguf")
    quantize(tmp_path / "model.gguf", tmp_path / "small.gguf", "Q8_0", threads=1)
    with Model(tmp_path / "small.gguf", threads=1) as model:
        assert model.embedding_settings.embeds
        assert model.embed_prompt("the", instruction="query")[0][-1] == 258


def test_chats_end_as_before(tmp_path: Path) -> None:
    convert(checkpoint("last", tmp_path / "model"), tmp_path / "model.gguf")
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert {258, 260} <= model.tokenizer.eog_ids
        assert model.tokenizer.encode("the") == [257]
        assert model.chat_prompt("the")[-1] != 258
        assert model.chat("the", max_tokens=3).usage.completion_tokens


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama"])
def test_a_model_without_output_matrix(make_checkpoint, tmp_path: Path, architecture: str) -> None:
    files = make_checkpoint(architecture=architecture, tied=False)
    del files.tensors["lm_head.weight"]
    kind = files.config["architectures"][0].removesuffix("ForCausalLM")
    files.config["architectures"] = [f"{kind}Model"]
    _, done = converted(files.write())
    assert said(done, "lm_head.weight", "for embeddings")
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert np.isfinite(model.embed("the")).all()
        assert not model.embedding_settings.embeds


def test_an_output_matrix_may_lack_only_where_texts_are_embedded(
    make_checkpoint, tmp_path: Path
) -> None:
    files = make_checkpoint(tied=False)
    del files.tensors["lm_head.weight"]
    path = files.write()
    with pytest.raises(ModelFormatError, match="lm_head"):
        convert(path, tmp_path / "model.gguf")
    write_modules(path, "mean")
    assert said(convert(path, tmp_path / "model.gguf"), "lm_head.weight")


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"pooling_mode": "lasttoken", "embedding_dimension": 128}, 3),
        ({"pooling_mode": ["mean"]}, 1),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, 2),
        ({"pooling_mode": "max"}, None),
        ({"pooling_mode": ["mean", "cls"]}, None),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_weightedmean_tokens": True}, None),
        ({"pooling_mode": 3}, None),
        ({}, None),
    ],
)
def test_poolings_of_old_and_new_files(
    make_checkpoint, tmp_path: Path, settings: dict[str, Any], number: int | None
) -> None:
    path = make_checkpoint().write()
    (path / "1_Pooling").mkdir()  # without modules.json, too
    (path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    if number is None:
        with pytest.raises(UnsupportedModelError, match="the pooling is"):
            convert(path, tmp_path / "model.gguf")
    else:
        keys, _ = converted(path)
        assert keys["qwen2.pooling_type"] == number


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ("modules.json: {}", ModelFormatError, "not a JSON list"),
        ('modules.json: [{"type": 1, "path": ""}]', ModelFormatError, "no type or path"),
        (
            'modules.json: [{"type": "a.Transformer", "path": ""}]',
            UnsupportedModelError,
            "no pooling",
        ),
        ('modules.json: [{"type": "a.Dense", "path": "2"}]', UnsupportedModelError, "'Dense'"),
        ('modules.json: [{"type": "a.Pooling", "path": "../x"}]', ModelFormatError, "no name of a"),
        ('config_sentence_transformers.json: {"prompts": [1]}', ModelFormatError, "prompts"),
        ('config_sentence_transformers.json: {"prompts": {"a": 1}}', ModelFormatError, "prompts"),
        ('sentence_bert_config.json: {"do_lower_case": true}', UnsupportedModelError, "lower_case"),
    ],
)
def test_what_a_file_could_not_keep_is_refused(
    make_checkpoint, tmp_path: Path, change: str, kind: type[Exception], words: str
) -> None:
    path = make_checkpoint().write()
    write_modules(path, "mean")
    name, _, text = change.partition(": ")
    (path / name).write_text(text)
    with pytest.raises(kind, match=words):
        convert(path, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_notes(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    write_modules(path, "mean", MODULES[:2])
    flags = json.loads((path / "1_Pooling" / "config.json").read_text())
    (path / "1_Pooling" / "config.json").write_text(json.dumps({**flags, "include_prompt": False}))
    assert said(converted(path)[1], "include_prompt", "counts as a part")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"is_causal": False}, "is_causal is false"),
        (
            {
                "architectures": ["Qwen2Model"],
                "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model"},
            },
            "code of its own",
        ),
        (
            {
                "auto_map": {
                    "AutoModel": "Alibaba-NLP/gte-Qwen2-1.5B-instruct--modeling_qwen.Qwen2Model"
                }
            },
            "gte-Qwen2",
        ),
        ({"architectures": ["BertModel"]}, "BertModel is an encoder"),
        ({"architectures": ["NomicBertModel"]}, "is an encoder"),
        ({"architectures": ["XLMRobertaForMaskedLM"]}, "is an encoder"),
    ],
)
def test_what_is_not_causal_is_refused(
    make_checkpoint, tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    files = make_checkpoint()
    files.config.update(config)
    with pytest.raises(UnsupportedModelError, match=words):
        convert(files.write(), tmp_path / "model.gguf")


def test_causal_models_may_have_code_of_their_own(make_checkpoint) -> None:
    files = make_checkpoint(auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    converted(files.write())
    files = make_checkpoint(auto_map={"AutoModel": "modeling.Mine"}, is_causal=True)
    files.config["architectures"] = ["Qwen2Model"]
    converted(files.write())


def test_a_final_token_that_is_the_end_already(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["eos_token"] = "<|endoftext|>"
    end_texts(files)
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.eos_token_id"] == 258
    assert keys["tokenizer.ggml.add_eos_token"] is True
    assert not said(done, "ends each text")
