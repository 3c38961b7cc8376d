"""Models from the wheels of a package index: joined, verified, continued, explained."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyqwen import catalog
from pyqwen.catalog import known_models, wheels
from pyqwen.catalog.download import SourceUnavailableError
from pyqwen.catalog.known_models import APACHE_2_0, Entry, WheelPart, WheelSource
from pyqwen.errors import ModelFileError, ModelNotFoundError

if TYPE_CHECKING:
    from conftest import FakeHub

CONTENT = os.urandom(90_000)
PIECES = (CONTENT[:40_000], CONTENT[40_000:80_000], CONTENT[80_000:])

# Stands in for pip where a test wants to count or break downloads; pip itself is used below.
FETCHER = """
import pathlib, shutil, sys
folder, requirement = sys.argv[1:]
house = pathlib.Path({house!r})
with (house / "log").open("a") as log:
    print(requirement, file=log)
name, version = requirement.replace("-", "_").split("==")
wheel = house / f"{{name}}-{{version}}-py3-none-any.whl"
if not wheel.exists():
    sys.exit(f"ERROR: No matching distribution found for {{requirement}}")
shutil.copy(wheel, folder)
"""


def make_wheel(house: Path, number: int, content: bytes) -> WheelPart:
    name, member = f"tiny_model_part{number}", f"tiny_model/part{number}.bin"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(house / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{member},,\n")
    return WheelPart(f"{name.replace('_', '-')}==1.0", member)


@pytest.fixture
def house(caches: Path) -> Path:
    return caches / "wheelhouse"


@pytest.fixture
def source(house: Path) -> WheelSource:
    parts = tuple(make_wheel(house, i, piece) for i, piece in enumerate(PIECES))
    return WheelSource("tiny-q4_0.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), parts)


@pytest.fixture
def log(house: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace pip by the script above, whose log this is."""
    script = house / "fetcher.py"
    script.write_text(FETCHER.format(house=str(house)))
    downloader = wheels.Downloader("fetcher", (sys.executable, "-S", str(script)))
    monkeypatch.setattr(wheels, "find_downloader", lambda: downloader)
    monkeypatch.setattr(wheels, "_POLL_SECONDS", 0.01)
    return house / "log"


@pytest.fixture
def tiny(source: WheelSource, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A catalog that holds one model, on the hub and in wheels."""
    entry = Entry("tiny", "org/tiny-GGUF", APACHE_2_0, "Q4_0", source)
    monkeypatch.setattr(known_models, "ENTRIES", (entry,))
    return entry


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_pieces_are_joined_in_order(source: WheelSource, tmp_path: Path, log: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    target = tmp_path / "out" / source.file_name
    wheels.fetch(source, target, lambda *step: steps.append(step))
    assert target.read_bytes() == CONTENT
    assert leftovers(target.parent) == [source.file_name]
    assert {total for _, total, _ in steps} == {len(CONTENT)}
    downloads = [(what, done) for done, _, what in steps if "wheel" in what]
    assert downloads == sorted(downloads)
    assert downloads[-1] == ("tiny-q4_0.gguf, wheel 3 of 3", 90_000)
    assert steps[-1] == (90_000, 90_000, "checking tiny-q4_0.gguf")


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="there is no pip here")
def test_real_pip(tiny: Entry) -> None:
    said: list[str] = []
    model = catalog.pull("tiny", say=said.append)
    assert model.path.read_bytes() == CONTENT
    assert (model.name, model.source) == ("tiny", "package index")
    assert model.sha256 == (hashlib.sha256(CONTENT).hexdigest(),)
    assert "cannot be reached" in said[0]
    assert "from the package index with pip: 3 wheels, tiny-model-part0==1.0" in said[1]
    assert said[2].startswith("tiny: 90 kB from the package index")
    assert catalog.locate("tiny") == model.path
    assert [found.name for found in catalog.list_models()] == ["tiny"]


def test_the_hub_comes_first(tiny: Entry, log: Path, hub: FakeHub) -> None:
    hub.add(tiny.repo, "tiny-q4_0.gguf", CONTENT)
    assert catalog.pull("tiny").source == "Hugging Face hub, org/tiny-GGUF"
    assert not log.exists()


def test_another_file_on_the_hub_is_not_taken(tiny: Entry, log: Path, hub: FakeHub) -> None:
    hub.add(tiny.repo, "tiny-q4_0.gguf", b"not the file the catalog knows")
    said: list[str] = []
    assert catalog.pull("tiny", say=said.append).path.read_bytes() == CONTENT
    assert "not the file that pyqwen knows" in said[0]
    assert hub.downloads() == []


def test_only_the_default_quant_comes_from_wheels(tiny: Entry, log: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="pyqwen pull tiny:q8_0"):
        catalog.pull("tiny:q8_0")
    assert not log.exists()


def test_offline_uses_no_package_index(
    tiny: Entry, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="    pyqwen pull tiny\n"):
        catalog.resolve("tiny")
    assert not log.exists()


def test_an_interrupted_download_continues(
    source: WheelSource, house: Path, tmp_path: Path, log: Path
) -> None:
    third = house / "tiny_model_part2-1.0-py3-none-any.whl"
    hidden = third.rename(house / "hidden")
    target = tmp_path / "out" / source.file_name
    with pytest.raises(SourceUnavailableError, match=r"No matching .* tiny-model-part2"):
        wheels.fetch(source, target)
    assert not target.exists()
    with target.with_name(f"{target.name}.part").open("ab") as part:
        part.write(b"bytes of a piece that was being appended")

    hidden.rename(third)
    log.unlink()
    wheels.fetch(source, target)
    assert target.read_bytes() == CONTENT
    assert log.read_text().split() == ["tiny-model-part2==1.0"]
    assert leftovers(target.parent) == [source.file_name]


def test_a_part_of_another_version_is_not_continued(
    source: WheelSource, tmp_path: Path, log: Path
) -> None:
    target = tmp_path / source.file_name
    target.with_name(f"{target.name}.part").write_bytes(b"x" * 50_000)
    note = {"sha256": "0" * 64, "parts": 2, "size": 50_000}
    target.with_name(f"{target.name}.part.json").write_text(json.dumps(note))
    wheels.fetch(source, target)
    assert target.read_bytes() == CONTENT


def test_wrong_content_is_not_kept(
    source: WheelSource, house: Path, tmp_path: Path, log: Path
) -> None:
    make_wheel(house, 1, PIECES[1][::-1])
    target = tmp_path / "out" / source.file_name
    with pytest.raises(ModelFileError, match="do not give the file with SHA-256"):
        wheels.fetch(source, target)
    assert leftovers(target.parent) == []


def test_a_wheel_that_unpacks_too_large_is_stopped(
    source: WheelSource, house: Path, tmp_path: Path, log: Path
) -> None:
    make_wheel(house, 0, bytes(10_000_000))
    target = tmp_path / "out" / source.file_name
    with pytest.raises(ModelFileError, match="do not give the file"):
        wheels.fetch(source, target)
    assert leftovers(target.parent) == []
    assert log.read_text().split() == ["tiny-model-part0==1.0"]


def test_a_wheel_without_the_piece(source: WheelSource, house: Path, log: Path) -> None:
    wheel = house / "tiny_model_part0-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.bin", b"")
    with pytest.raises(SourceUnavailableError, match=r"does not contain tiny_model/part0\.bin"):
        wheels.fetch(source, house / "out.gguf")
    wheel.write_bytes(b"no zip file")
    with pytest.raises(SourceUnavailableError, match="damaged"):
        wheels.fetch(source, house / "out.gguf")


def test_interrupting_ends_the_downloader(
    source: WheelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ended-by-itself"
    script = f"import time, pathlib; time.sleep(3); pathlib.Path({str(marker)!r}).touch()"
    slow = wheels.Downloader("slow", (sys.executable, "-S", "-c", script))
    monkeypatch.setattr(wheels, "find_downloader", lambda: slow)

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    target = tmp_path / "out" / source.file_name
    with pytest.raises(KeyboardInterrupt):
        wheels.fetch(source, target, stop)
    assert not marker.exists()
    assert leftovers(target.parent) == []


def test_a_full_disk_is_noticed_before_the_download(
    source: WheelSource, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": len(CONTENT)})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ModelFileError, match="only 90 kB is free"):
        wheels.fetch(source, tmp_path / source.file_name)
    assert not log.exists()


def without_pip(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(path))


def test_no_pip_at_all(tiny: Entry, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pip(monkeypatch, caches / "empty")
    with pytest.raises(ModelNotFoundError, match=r"(?s)127.0.0.1 cannot be reached.*-m ensurepip"):
        catalog.pull("tiny")


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts")
def test_pip_and_uv_on_the_path(
    source: WheelSource, house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = shutil.which("sh")
    programs = tmp_path / "bin"
    programs.mkdir()
    uv = programs / "uv"
    unzip = "import sys, zipfile as z; z.ZipFile(sys.argv[1]).extractall(sys.argv[2])"
    uv.write_text(
        f"#!{shell}\n"
        "for last; do :; done\n"  # the last two arguments: folder and requirement
        'while [ "$1" != --target ]; do shift; done\n'
        f'name=${{last%%==*}}; name="{house}/tiny_model_part${{name##*part}}"\n'
        f'exec {sys.executable} -S -c "{unzip}" "$name-1.0-py3-none-any.whl" "$2"\n'
    )
    uv.chmod(0o755)
    without_pip(monkeypatch, programs)
    assert wheels.find_downloader().name == "uv"
    target = tmp_path / "out" / source.file_name
    assert wheels.fetch(source, target).read_bytes() == CONTENT
    assert leftovers(target.parent) == [source.file_name]

    shutil.copy(uv, programs / "pip3")
    assert wheels.find_downloader().command[:2] == (str(programs / "pip3"), "download")


def test_building_from_source_is_forbidden() -> None:
    assert "--only-binary=:all:" in wheels.find_downloader().command
    assert "--no-deps" in wheels.find_downloader().command
