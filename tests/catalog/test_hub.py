"""Pulling from a hub: listing, split files, tokens, broken downloads, hubs that do not answer."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import huggingface_hub
import pytest

from pyqwen import catalog
from pyqwen.catalog import hub as hub_module
from pyqwen.catalog.cache import hub_cache_dir
from pyqwen.errors import ModelFileError, ModelNotFoundError

if TYPE_CHECKING:
    from conftest import FakeHub

CONTENT = os.urandom(200_000)


def test_pull_by_quant(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q4_k_m.gguf", b"four")
    hub.add("org/repo", "m-q5_k_m.gguf", CONTENT)
    hub.cards["org/repo"] = {"license": "mit"}
    said: list[str] = []
    steps: list[tuple[int, int, str]] = []
    model = catalog.pull("org/repo:Q5_K_M", say=said.append, progress=lambda *s: steps.append(s))
    assert model.path.read_bytes() == CONTENT
    assert model.sha256 == (hashlib.sha256(CONTENT).hexdigest(),)
    assert model.source == "Hugging Face hub, org/repo"
    assert model.license is not None
    assert model.license.id == "mit"
    assert catalog.license_of(model.path) == model.license
    assert "from the Hugging Face hub, org/repo" in said[0]
    assert "200 kB" in said[0]
    assert (200_000, 200_000, "m-q5_k_m.gguf") in steps
    assert len(hub.downloads()) == 1


def test_the_file_is_where_huggingface_hub_finds_it(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    path = catalog.resolve("org/repo")
    found = huggingface_hub.try_to_load_from_cache(
        "org/repo", "m-q8_0.gguf", cache_dir=hub_cache_dir()
    )
    assert found == str(path)


def test_a_cached_model_needs_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    path = catalog.resolve("org/repo:q8_0")
    hub.requests.clear()
    assert catalog.locate("org/repo:q8_0") == path
    assert catalog.resolve("org/repo/m-q8_0.gguf") == path
    assert catalog.resolve("M-q8_0") == path  # by the name of the file
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert catalog.resolve("org/repo:Q8_0") == path
    assert hub.requests == []


def test_a_split_model_is_fetched_whole(hub: FakeHub) -> None:
    repo, stem = "Qwen/Qwen2.5-7B-Instruct-GGUF", "qwen2.5-7b-instruct-q4_k_m"
    first = hub.add(repo, f"{stem}-00001-of-00002.gguf", CONTENT)
    second = hub.add(repo, f"{stem}-00002-of-00002.gguf", CONTENT[::-1])
    totals: set[int] = set()
    model = catalog.pull("qwen2.5-7b", progress=lambda done, total, what: totals.add(total))
    assert [path.read_bytes() for path in model.paths] == [first, second]
    assert model.path.name == f"{stem}-00001-of-00002.gguf"
    assert model.paths[1].parent == model.path.parent
    assert model.size == 400_000
    assert totals == {400_000}
    assert model.name == "qwen2.5-7b"


def test_a_path_in_the_repository(hub: FakeHub) -> None:
    hub.add("org/repo", "deep/er/m.gguf", CONTENT)
    hub.add("org/repo", "other.gguf", b"other")
    assert catalog.resolve("org/repo/deep/er/m.gguf").read_bytes() == CONTENT


def test_missing_quant_and_missing_repository(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    hub.add("org/repo", "m-q6_k.gguf", CONTENT)
    with pytest.raises(ModelNotFoundError, match=r"(?s)no quantization q2_k.*Q6_K.*Q8_0"):
        catalog.pull("org/repo:q2_k")
    with pytest.raises(ModelNotFoundError, match="HTTP 404"):
        catalog.pull("org/missing:q2_k")
    assert hub.downloads() == []


def test_names_from_the_network_stay_in_the_cache(hub: FakeHub, caches: Path) -> None:
    hub.add("org/repo", "../../../../escape-q8_0.gguf", CONTENT)
    hub.add("org/repo", "script-q8_0.py", CONTENT)
    with pytest.raises(ModelNotFoundError, match=r"no .*GGUF file"):
        catalog.pull("org/repo:q8_0")
    assert list(caches.rglob("escape*")) == []
    assert hub.downloads() == []


def test_a_private_repository_needs_the_token(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/private", "m-q8_0.gguf", CONTENT)
    hub.token = "hf_secret"
    with pytest.raises(ModelNotFoundError, match=r"HTTP 401.*HF_TOKEN"):
        catalog.pull("org/private")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert catalog.pull("org/private").path.read_bytes() == CONTENT
    # The storage is another host: the token is none of its business.
    assert [request.token for request in hub.downloads()] == [None]
    assert hub.downloads()[0].host == "localhost"


def test_messages_name_the_hub_without_a_password(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://bob:hunter2@127.0.0.1:{hub.port}")
    with pytest.raises(ModelNotFoundError, match=r"127\.0\.0\.1") as caught:
        catalog.pull("org/missing:q2_k")
    assert "hunter2" not in str(caught.value)


def test_a_cut_connection_is_continued_at_once(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    hub.cut_after, hub.cuts_left = 150_000, 1
    assert catalog.pull("org/repo").path.read_bytes() == CONTENT
    assert [request.range for request in hub.downloads()] == [None, "bytes=150000-"]


def test_without_symbolic_links_the_disk_holds_one_copy(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.file_download.are_symlinks_supported", lambda folder: False
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS_WARNING", True)
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    path = catalog.resolve("org/repo")
    assert not path.is_symlink()
    copies = [file for file in hub_cache_dir().rglob("*") if file.is_file()]
    assert sum(file.stat().st_size >= len(CONTENT) for file in copies) == 1
    assert catalog.locate("org/repo") == path
    assert catalog.remove("org/repo").path == path
    assert not path.exists()


def test_a_broken_download_is_continued_by_the_next_call(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    hub.cut_after, hub.cuts_left, hub.down_after_cut = 120_000, 1, True
    with pytest.raises(ModelFileError, match="broke off after 120,000 of 200,000 bytes") as caught:
        catalog.pull("org/repo")
    assert "run the same command again" in str(caught.value)
    assert catalog.locate("org/repo") is None
    assert catalog.list_models() == []

    hub.requests.clear()
    hub.down_after_cut = False
    counts: list[int] = []
    model = catalog.pull("org/repo", progress=lambda done, total, what: counts.append(done))
    assert model.path.read_bytes() == CONTENT
    assert [request.range for request in hub.downloads()] == ["bytes=120000-"]
    assert min(counts) > 120_000


def test_the_callers_progress_can_stop_a_download(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.pull("org/repo", progress=stop)
    assert catalog.locate("org/repo") is None
    assert catalog.pull("org/repo").path.read_bytes() == CONTENT


def test_wrong_bytes_are_not_kept(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    hub.corrupt = True
    with pytest.raises(ModelFileError, match="does not match the checksum"):
        catalog.pull("org/repo")
    kept = [path for path in hub_cache_dir().rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 for path in kept)  # locks
    hub.corrupt = False
    assert catalog.pull("org/repo").path.read_bytes() == CONTENT


def test_a_full_disk_is_noticed_before_the_download(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    usage = type("usage", (), {"free": 150_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ModelFileError, match=r"needs 200 kB .* only 150 kB is free"):
        catalog.pull("org/repo")
    assert hub.downloads() == []


def test_two_threads_pull_one_model_once(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(catalog.resolve("org/repo"))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(hub.downloads()) == 1


def test_the_license_notice_is_given_once(hub: FakeHub) -> None:
    repo = "Qwen/Qwen2.5-3B-Instruct-GGUF"
    hub.add(repo, "qwen2.5-3b-instruct-q4_k_m.gguf", CONTENT)
    hub.add(repo, "qwen2.5-3b-instruct-q8_0.gguf", CONTENT[:1000])
    notices: list[str] = []
    catalog.pull("qwen2.5-3b", notice=notices.append)
    catalog.pull("qwen2.5-3b", notice=notices.append)
    catalog.pull("qwen2.5-3b:q8_0", notice=notices.append)
    assert len(notices) == 1
    assert "Qwen Research License" in notices[0]
    assert "no commercial use" in notices[0]


def test_a_license_of_the_hub_cannot_write_to_the_terminal(hub: FakeHub) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    hub.cards["org/repo"] = {"license": "\x1b[2Jmit"}
    assert catalog.pull("org/repo").license is None


def test_a_free_model_has_no_notice(hub: FakeHub) -> None:
    hub.add("Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q4_k_m.gguf", CONTENT)
    notices: list[str] = []
    catalog.pull("qwen2.5-0.5b", notice=notices.append)
    assert notices == []


def test_offline_names_the_command(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/repo", "m-q8_0.gguf", CONTENT)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match=r"(?s)offline.*\n    pyqwen pull org/repo:q8_0\n"):
        catalog.resolve("org/repo:q8_0")
    assert hub.requests == []
    assert catalog.pull("org/repo:q8_0", offline=False).size == 200_000


def test_refused_connection_fails_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(ModelNotFoundError, match=r"(?s)127.0.0.1 cannot be reached.*pyqwen pull"):
        catalog.pull("qwen2.5-7b")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"[]", b'{"id": "org/repo"}'])
def test_a_portal_is_not_taken_for_a_hub(hub: FakeHub, page: bytes) -> None:
    hub.page = page
    with pytest.raises(ModelNotFoundError, match="does not answer"):
        catalog.pull("org/repo:q8_0")


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield


@pytest.mark.usefixtures("black_hole")
def test_a_silent_hub_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "READ_TIMEOUT", 0.3)
    started = time.monotonic()
    with pytest.raises(ModelNotFoundError, match="does not answer"):
        catalog.pull("qwen2.5-7b")
    assert time.monotonic() - started < 2


def test_connecting_has_one_limit_for_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def connect_slowly(address: tuple[str, int], timeout: float) -> socket.socket:
        released.wait(10)
        raise TimeoutError("timed out")

    monkeypatch.setattr(hub_module, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(socket, "create_connection", connect_slowly)
    started = time.monotonic()
    with pytest.raises(ModelNotFoundError, match="cannot be reached"):
        catalog.pull("qwen2.5-7b")
    assert time.monotonic() - started < 2
    released.set()
