"""Files of the Hugging Face hub by patterns, for ``Llama.from_pretrained``."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from reprlib import repr as brief

from pyqwen import catalog
from pyqwen.catalog.cache import hub_cache_dir, is_offline
from pyqwen.catalog.hub import look_up
from pyqwen.catalog.names import group_files, parse_name
from pyqwen.errors import ModelNotFoundError

Folder = str | os.PathLike[str] | None


def download(
    repo_id: str,
    filename: str | None,
    additional_files: Sequence[str] | None = None,
    local_dir: Folder = None,
    cache_dir: Folder = None,
) -> Path:
    """Make sure that the file is on this machine, with the other parts of a split one, and return it.

    Raises ``ModelNotFoundError`` where no file or several fit, or the hub cannot be reached.
    """
    ref = parse_name(repo_id) if isinstance(repo_id, str) else None
    if ref is None or ref.file is not None or ":" in repo_id:
        raise ValueError(f"repo_id must be owner/name of a repository, not {brief(repo_id)}")
    if not isinstance(filename, str) or not filename:
        raise TypeError("filename must be the name of a GGUF file, or a pattern that fits one")
    names = [filename]
    if is_pattern(filename) or additional_files:
        known = _files(ref.repo)
        names = _chosen(ref.repo, known, filename)
        for pattern in additional_files or ():
            names += [_one(ref.repo, known, pattern)]
    if local_dir is None and cache_dir is None:
        paths = [catalog.resolve(f"{ref.repo}/{name}") for name in names]
    else:
        paths = [_fetched(ref.repo, name, local_dir, cache_dir) for name in dict.fromkeys(names)]
    return paths[0]


def is_pattern(name: str) -> bool:
    """Whether a name has characters that stand for others."""
    return any(character in name for character in "*?[")


def _files(repo: str) -> list[str]:
    """The files of a repository; where the network is not to be used, those that are here."""
    if not is_offline():
        return sorted(look_up(repo).files)
    folder = hub_cache_dir() / f"models--{repo.replace('/', '--')}" / "snapshots"
    found = {
        path.relative_to(snapshot).as_posix()
        for snapshot in (folder.iterdir() if folder.is_dir() else ())
        for path in snapshot.rglob("*.gguf")
    }
    if not found:
        raise ModelNotFoundError(
            f"{repo} is not on this machine, and the network is not to be used"
        )
    return sorted(found)


def _chosen(repo: str, files: Iterable[str], pattern: str) -> list[str]:
    """The one model that a pattern fits: its file, or all parts in order."""
    files = list(files)
    groups = group_files(files)
    fitting = [group for group in groups if fnmatch.fnmatch(group.files[0], pattern)]
    if len(fitting) == 1:
        return list(fitting[0].files)
    return [_one(repo, files, pattern)]


def _one(repo: str, files: Iterable[str], pattern: str) -> str:
    files = list(files)
    fitting = [file for file in files if fnmatch.fnmatch(file, pattern)]
    if len(fitting) == 1:
        return fitting[0]
    what = "several files fit" if fitting else "no file fits"
    shown = "\n".join(f"  {file}" for file in (fitting or files)[:40])
    raise ModelNotFoundError(f"in {repo} {what} {pattern!r:.200}; there are\n{shown}")


def _fetched(repo: str, name: str, local_dir: Folder, cache_dir: Folder) -> Path:
    """A file in a folder of the caller's, brought there by huggingface_hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(
            hf_hub_download(
                repo,
                name,
                local_dir=os.fspath(local_dir) if local_dir is not None else None,
                cache_dir=os.fspath(cache_dir) if cache_dir is not None else None,
                local_files_only=is_offline(),
                library_name="pyqwen",
            )
        )
    except (OSError, HfHubHTTPError) as error:
        raise ModelNotFoundError(f"{name} of {repo} cannot be fetched: {error}") from error
