"""From what users type to one file of a repository."""

from __future__ import annotations

import pytest

from pyqwen.catalog.known_models import (
    DEFAULT_MODEL,
    QWEN,
    QWEN_RESEARCH,
    QWEN_RESEARCH_CODER,
    entries,
    entry_named,
)
from pyqwen.catalog.names import (
    ModelRef,
    choose,
    group_files,
    is_safe_path,
    parse_name,
    unknown_name,
)
from pyqwen.errors import ModelNotFoundError

OFFICIAL_7B = [
    ".gitattributes",
    "README.md",
    "qwen2.5-7b-instruct-fp16-00001-of-00002.gguf",
    "qwen2.5-7b-instruct-fp16-00002-of-00002.gguf",
    "qwen2.5-7b-instruct-q2_k.gguf",
    "qwen2.5-7b-instruct-q4_0-00001-of-00002.gguf",
    "qwen2.5-7b-instruct-q4_0-00002-of-00002.gguf",
    "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf",
    "qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf",
]


def ref(quant: str | None = None, file: str | None = None) -> ModelRef:
    return ModelRef("org/repo", quant, file)


@pytest.mark.parametrize("size", ["0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b"])
def test_catalog_names_lead_to_the_official_repositories(size: str) -> None:
    found = parse_name(f"qwen2.5-{size}")
    assert found is not None
    assert found.repo == f"Qwen/Qwen2.5-{size.upper()}-Instruct-GGUF"
    assert found.quant == "Q4_K_M"


@pytest.mark.parametrize(
    ("name", "repo", "quant"),
    [
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B-GGUF", "Q8_0"),
        ("qwen3-embedding-0.6b", "Qwen/Qwen3-Embedding-0.6B-GGUF", "Q8_0"),
        ("qwen3-embedding-4b", "Qwen/Qwen3-Embedding-4B-GGUF", "Q4_K_M"),
        ("qwen3-1.7b", "Qwen/Qwen3-1.7B-GGUF", "Q8_0"),
        ("qwen3-4b", "Qwen/Qwen3-4B-GGUF", "Q4_K_M"),
        ("qwen3-8b", "Qwen/Qwen3-8B-GGUF", "Q4_K_M"),
        ("Qwen3-14B", "Qwen/Qwen3-14B-GGUF", "Q4_K_M"),
        ("qwen3-32b", "Qwen/Qwen3-32B-GGUF", "Q4_K_M"),
        ("qwen3-4b-instruct-2507", "unsloth/Qwen3-4B-Instruct-2507-GGUF", "Q4_K_M"),
        ("qwen3-4b-thinking-2507", "unsloth/Qwen3-4B-Thinking-2507-GGUF", "Q4_K_M"),
    ],
)
def test_qwen3_has_names(name: str, repo: str, quant: str) -> None:
    found = parse_name(name)
    assert found is not None
    assert (found.repo, found.quant) == (repo, quant)
    assert found.name == name.lower()


def test_licenses_of_the_catalog() -> None:
    restricted = {e.name: e.license for e in entries() if e.license.id != "apache-2.0"}
    assert restricted == {
        "qwen2.5-3b": QWEN_RESEARCH,
        "qwen2.5-coder-3b": QWEN_RESEARCH_CODER,
        "qwen2.5-72b": QWEN,
    }
    assert all(license.restriction for license in restricted.values())


def test_the_default_model_is_free_and_has_wheels() -> None:
    entry = entry_named(DEFAULT_MODEL)
    assert entry is not None
    assert entry.license.id == "apache-2.0"
    assert entry.wheels is not None


@pytest.mark.parametrize(
    ("name", "repo", "quant", "file"),
    [
        ("qwen2.5-3b:q8_0", "Qwen/Qwen2.5-3B-Instruct-GGUF", "q8_0", None),
        ("Qwen2.5-3B-Instruct", "Qwen/Qwen2.5-3B-Instruct-GGUF", "Q4_K_M", None),
        ("qwen/qwen2.5-3b-instruct-gguf:q5_k_m", "Qwen/Qwen2.5-3B-Instruct-GGUF", "q5_k_m", None),
        ("org/repo", "org/repo", None, None),
        ("org/repo:Q6_K", "org/repo", "Q6_K", None),
        ("org/repo/deep/file.gguf", "org/repo", None, "deep/file.gguf"),
        ("hf.co/org/repo:Q6_K", "org/repo", "Q6_K", None),
        ("https://huggingface.co/org/repo/blob/main/a/b.gguf", "org/repo", None, "a/b.gguf"),
    ],
)
def test_parse_name(name: str, repo: str, quant: str | None, file: str | None) -> None:
    found = parse_name(name)
    assert found is not None
    assert (found.repo, found.quant, found.file) == (repo, quant, file)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nosuchmodel",
        "model.gguf",
        "folder/model.gguf",
        "./org/repo",
        "/org/repo",
        "../org/repo:q4_0",
        "org/..:q4_0",
        "org/repo/../../../etc/passwd.gguf",
        "org/repo/a/../b.gguf",
        "org/repo/notes.txt",
        "org/repo/a.gguf:q4_0",
        "org\\repo\\a.gguf",
        "C:\\models\\a.gguf",
    ],
)
def test_what_is_not_a_name_of_the_hub(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize("path", ["a.gguf", "a/b.GGUF", "Q4_K_M/m-00001-of-00003.gguf"])
def test_safe_paths(path: str) -> None:
    assert is_safe_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "../a.gguf",
        "/a.gguf",
        "a//b.gguf",
        "a/./b.gguf",
        "a\\b.gguf",
        "C:a.gguf",
        "a\n.gguf",
        "a.bin",
    ],
)
def test_unsafe_paths(path: str) -> None:
    assert not is_safe_path(path)


def test_shards_are_one_model() -> None:
    group = choose(ref("q4_k_m"), OFFICIAL_7B)
    assert group.files == (
        "qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf",
        "qwen2.5-7b-instruct-q4_k_m-00002-of-00002.gguf",
    )
    assert group.quant == "Q4_K_M"


def test_an_incomplete_split_file_is_no_model() -> None:
    assert group_files(["m-q8_0-00001-of-00003.gguf", "m-q8_0-00003-of-00003.gguf"]) == []


def test_a_whole_file_is_preferred_to_its_shards() -> None:
    files = ["m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf", "m-q8_0.gguf"]
    assert choose(ref("Q8_0"), files).files == ("m-q8_0.gguf",)


@pytest.mark.parametrize(
    ("quant", "file"),
    [
        ("Q4_0", "M-Q4_0.gguf"),
        ("q4_k_m", "M-Q4_K_M.gguf"),
        ("iq4_xs", "M-IQ4_XS.gguf"),
        ("f16", "M-fp16.gguf"),
        ("FP16", "M-fp16.gguf"),
        ("Q8_0", "Q8_0/model.gguf"),
        (None, "M-Q4_K_M.gguf"),
    ],
)
def test_choose_by_quant(quant: str | None, file: str) -> None:
    files = [
        "M-Q4_0.gguf",
        "M-Q4_0_4_4.gguf",
        "M-Q4_K_M.gguf",
        "M-Q4_K_S.gguf",
        "M-IQ4_XS.gguf",
        "M-fp16.gguf",
        "Q8_0/model.gguf",
        "mmproj-Q8_0.gguf",
    ]
    assert choose(ref(quant), files).files == (file,)


def test_the_only_model_needs_no_quant() -> None:
    assert choose(ref(), ["README.md", "only-q6_k.gguf"]).files == ("only-q6_k.gguf",)


def test_a_missing_quant_is_answered_with_what_there_is() -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no quantization q3_k_m") as caught:
        choose(ref("q3_k_m"), OFFICIAL_7B)
    assert "Q2_K       qwen2.5-7b-instruct-q2_k.gguf" in str(caught.value)
    assert "README" not in str(caught.value)


def test_an_ambiguous_quant_is_answered_with_the_candidates() -> None:
    with pytest.raises(ModelNotFoundError, match=r"has 2 files of quantization q4_0") as caught:
        choose(ref("q4_0"), ["a-q4_0.gguf", "b-q4_0.gguf", "c-q8_0.gguf"])
    assert "a-q4_0.gguf" in str(caught.value)
    assert "c-q8_0.gguf" not in str(caught.value)


def test_an_unknown_name_suggests_a_near_one() -> None:
    assert "qwen2.5-coder-7b" in str(unknown_name("qwen2.5-codr-7b"))
    assert str(unknown_name("./missing.gguf")) == "./missing.gguf: no such file"


@pytest.mark.parametrize(
    "name", ["qwen2.5-3b", "qwen2.5-3b:Q8_0", "org/repo:Q6_K", "org/repo/f.gguf"]
)
def test_the_name_of_a_reference_leads_back_to_it(name: str) -> None:
    found = parse_name(name)
    assert found is not None
    assert found.name == name
