"""Finding, listing and removing models on this machine; licenses of files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyqwen import catalog
from pyqwen.catalog.cache import cache_root, hub_cache_dir, models_dir
from pyqwen.errors import ModelFileError, ModelNotFoundError
from pyqwen.units import format_bytes

if TYPE_CHECKING:
    from conftest import FakeHub


def cached(repo: str, path: str, content: bytes, commit: str = "c0", main: bool = True) -> Path:
    """Put a file into the hub's cache as huggingface_hub does."""
    folder = hub_cache_dir() / f"models--{repo.replace('/', '--')}"
    blob = folder / "blobs" / f"{hash(content):x}"
    pointer = folder / "snapshots" / commit / path
    for file in (blob, pointer, folder / "refs" / "main"):
        file.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    if main:
        (folder / "refs" / "main").write_text(commit)
    return pointer


def test_a_local_file_wins(tmp_path: Path) -> None:
    cached("Qwen/Qwen2.5-3B-Instruct-GGUF", "qwen2.5-3b-instruct-q4_k_m.gguf", b"cached")
    local = tmp_path / "qwen2.5-3b"
    local.write_bytes(b"local")
    assert catalog.resolve("qwen2.5-3b") == Path("qwen2.5-3b")
    assert catalog.locate(local) == local
    local.unlink()
    assert catalog.resolve("qwen2.5-3b").read_bytes() == b"cached"


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(ModelFileError, match="is a directory"):
        catalog.resolve(tmp_path / "checkpoint")


@pytest.mark.skipif(os.name == "nt", reason="POSIX files")
def test_what_is_no_regular_file_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "t" / "fifo")
    (tmp_path / "t" / "link").symlink_to("gone.gguf")
    with pytest.raises(ModelFileError, match="t/fifo is not a regular file"):
        catalog.resolve("t/fifo")
    with pytest.raises(ModelNotFoundError, match=r"t/link is a link to gone.gguf, which does not"):
        catalog.resolve("t/link")


def test_an_empty_name() -> None:
    with pytest.raises(ModelNotFoundError, match="'' is neither a file nor a model"):
        catalog.resolve("")


def test_a_missing_path() -> None:
    with pytest.raises(ModelNotFoundError, match="no such file"):
        catalog.resolve("./missing.gguf")
    with pytest.raises(FileNotFoundError):
        catalog.resolve("missing.gguf")
    assert catalog.locate("missing.gguf") is None


def test_the_quant_chooses_the_file() -> None:
    repo = "Qwen/Qwen2.5-3B-Instruct-GGUF"
    four = cached(repo, "qwen2.5-3b-instruct-q4_k_m.gguf", b"4")
    eight = cached(repo, "qwen2.5-3b-instruct-q8_0.gguf", b"8")
    assert catalog.locate("qwen2.5-3b") == four
    assert catalog.locate("qwen2.5-3b:Q8_0") == eight
    assert catalog.locate("qwen2.5-3b:q6_k") is None


def test_the_newest_main_comes_first() -> None:
    cached("org/repo", "m-q8_0.gguf", b"old", commit="c0")
    new = cached("org/repo", "m-q8_0.gguf", b"new", commit="c1")
    cached("org/repo", "m-q8_0.gguf", b"branch", commit="c2", main=False)
    assert catalog.locate("org/repo:q8_0") == new


def test_a_split_model_with_a_missing_shard_is_not_there() -> None:
    cached("org/repo", "m-q8_0-00001-of-00002.gguf", b"1")
    assert catalog.locate("org/repo:q8_0") is None
    assert catalog.list_models() == []
    first = cached("org/repo", "m-q4_0-00001-of-00002.gguf", b"a")
    cached("org/repo", "m-q4_0-00002-of-00002.gguf", b"b")
    assert catalog.locate("org/repo:q4_0") == first


def test_list_models() -> None:
    cached("Qwen/Qwen2.5-3B-Instruct-GGUF", "qwen2.5-3b-instruct-q8_0.gguf", b"12345678")
    cached("org/repo", "deep/m-q8_0.gguf", b"123")
    cached("org/repo", "README.md", b"text")
    models_dir().mkdir(parents=True)
    (models_dir() / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"12")
    (models_dir() / "unfinished.gguf.part").write_bytes(b"1")
    listed = catalog.list_models()
    assert [(model.name, model.size) for model in listed] == [
        ("org/repo/deep/m-q8_0.gguf", 3),
        ("qwen2.5-3b:Q8_0", 8),
        ("smollm2-135m", 2),
    ]
    assert [model.license.id if model.license else None for model in listed] == [
        None,
        "qwen-research",
        "apache-2.0",
    ]
    for model in listed:  # the name shown is a name that works
        assert catalog.locate(model.name) == model.path


def test_pull_refuses_a_damaged_file_and_says_how_to_mend_it(hub: FakeHub) -> None:
    models_dir().mkdir(parents=True)
    (models_dir() / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"12")
    with pytest.raises(ModelFileError, match=r"(?s)has 2 bytes instead.*pyqwen rm smollm2-135m\n"):
        catalog.pull("smollm2-135m")
    hub.add("org/repo", "m-q8_0.gguf", b"content")
    path = catalog.pull("org/repo").path
    assert catalog.pull("org/repo").path == path
    path.resolve().write_bytes(b"CONTENT")
    with pytest.raises(ModelFileError, match=r"(?s)SHA-256.*pyqwen rm org/repo/m-q8_0.gguf\n"):
        catalog.pull("org/repo")
    catalog.remove("org/repo/m-q8_0.gguf")
    assert catalog.pull("org/repo").path.read_bytes() == b"content"


def test_remove_keeps_what_others_use() -> None:
    shared_old = cached("org/repo", "m-q8_0.gguf", b"shared", commit="c0")
    shared_new = cached("org/repo", "m-q8_0.gguf", b"shared", commit="c1")
    other = cached("org/repo", "m-q4_0.gguf", b"other", commit="c1")
    assert catalog.remove("org/repo:q8_0").paths == (shared_new,)
    assert not shared_new.exists()
    assert shared_old.read_bytes() == b"shared"
    assert other.read_bytes() == b"other"
    catalog.remove("org/repo:q8_0")
    blobs = hub_cache_dir() / "models--org--repo" / "blobs"
    assert [blob.read_bytes() for blob in blobs.iterdir()] == [b"other"]
    catalog.remove("org/repo/m-q4_0.gguf")
    assert not blobs.parent.exists()
    with pytest.raises(ModelNotFoundError, match="not in the cache"):
        catalog.remove("org/repo/m-q4_0.gguf")


def test_remove_a_model_from_wheels() -> None:
    models_dir().mkdir(parents=True)
    file = models_dir() / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.write_bytes(b"12")
    removed = catalog.remove("smollm2-135m")
    assert (removed.path, removed.size) == (file, 2)
    assert not file.exists()


def test_remove_never_touches_a_local_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"mine")
    with pytest.raises(ModelNotFoundError, match="not in the cache"):
        catalog.remove(str(file))
    assert file.exists()


@pytest.mark.parametrize(
    ("name", "license"),
    [
        ("qwen2.5-3b-instruct-q5_k_m.gguf", "qwen-research"),
        ("Qwen2.5-Coder-3B-Instruct-Q4_K_M.gguf", "qwen-research"),
        ("Qwen2.5-72B-Instruct-Q4_K_M-00001-of-00002.gguf", "qwen"),
        ("qwen2.5-32b-instruct-q8_0.gguf", "apache-2.0"),
        ("qwen2.5-0.5b.gguf", "apache-2.0"),
        ("mymodel.gguf", None),
    ],
)
def test_license_of_a_file_by_its_name(name: str, license: str | None) -> None:
    found = catalog.license_of(Path("/anywhere") / name)
    assert (found.id if found else None) == license


def test_a_damaged_note_is_ignored(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("org/repo", "m-q8_0.gguf", b"content")
    hub.cards["org/repo"] = {"license": "mit"}
    model = catalog.pull("org/repo")
    assert model.license is not None
    [note] = (tmp_path / "pyqwen" / "licenses").iterdir()
    for text in ("{", "[]", '{"id": "mit"}'):
        note.write_text(text)
        assert catalog.license_of(model.path) is None


def test_a_read_only_cache_says_what_to_do(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "file"))
    hub.add("org/repo", "m-q8_0.gguf", b"content")
    with pytest.raises(ModelFileError, match="set PYQWEN_CACHE"):
        catalog.pull("org/repo")


def test_cache_directories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root() == tmp_path / "pyqwen"
    monkeypatch.delenv("HF_HUB_CACHE")
    assert hub_cache_dir() == tmp_path / "hf" / "hub"
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub_cache_dir() == tmp_path / "xdg" / "huggingface" / "hub"
    monkeypatch.delenv("PYQWEN_CACHE")
    assert cache_root().name == "pyqwen"


def test_importing_the_catalog_is_cheap() -> None:
    code = (
        "import sys, pyqwen.catalog as c; c.locate('qwen2.5-3b'); c.list_models();"
        "print([m for m in ('huggingface_hub', 'subprocess', 'http.client') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (98_362_432, "98 MB"), (1_117_320_768, "1.12 GB")]
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text
