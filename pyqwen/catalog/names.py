"""What users call a model → which file of which repository; pure string work, no disk, no network.

A name is a catalog name, ``org/repo`` or ``org/repo/path/file.gguf``, the first two optionally with
``:quant``. The files of a repository are grouped into models (the shards of a split file belong
together) and one is chosen by its quantization.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pyqwen.catalog.known_models import (
    DEFAULT_QUANT,
    Entry,
    WheelSource,
    entries,
    entry_named,
    entry_of_repo,
)
from pyqwen.errors import ModelNotFoundError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_HUB_PREFIX = re.compile(r"(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)", re.I)
_LONGEST_SHOWN = 300  # characters of a name in a message
_SHARD = re.compile(r"(?P<stem>.*)-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.I)
_QUANT = re.compile(
    r"(?:^|[-._/])((?:ud-)?(?:iq|tq|q)\d(?:_[a-z0-9]+)*|bf16|fp?16|fp?32)(?=$|[-./])", re.I
)
# Projectors of vision models and importance matrices share the extension, but are not models.
_NOT_A_MODEL = ("mmproj", "imatrix")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model on the hub: its repository, and the file or the quantization wanted."""

    repo: str
    quant: str | None = None
    file: str | None = None
    entry: Entry | None = None

    @property
    def name(self) -> str:
        """The shortest name that leads here again."""
        if self.file is not None:
            return f"{self.repo}/{self.file}"
        base = self.entry.name if self.entry else self.repo
        is_default = self.quant is None or (
            self.entry is not None and same_quant(self.quant, self.entry.default_quant)
        )
        return base if is_default else f"{base}:{self.quant}"

    @property
    def wheels(self) -> WheelSource | None:
        """The wheels that carry exactly this file."""
        if self.entry is None or self.quant is None:
            return None
        is_default = same_quant(self.quant, self.entry.default_quant)
        return self.entry.wheels if is_default else None


@dataclass(frozen=True, slots=True)
class FileGroup:
    """The file of one model in a repository, or all shards of a split one, in order."""

    stem: str
    files: tuple[str, ...]

    @property
    def quant(self) -> str | None:
        """The quantization that the name states, in upper case."""
        found = _QUANT.findall(self.stem)
        return str(found[-1]).upper() if found else None


def parse_name(name: str) -> ModelRef | None:
    """Read a catalog or hub name; None if it has neither form (a path, or an unknown word)."""
    is_link = _HUB_PREFIX.match(name)
    text = name[is_link.end() :] if is_link else name
    base, _, quant = text.partition(":")
    if (entry := entry_named(base)) is not None:
        return ModelRef(entry.repo, quant or entry.default_quant, entry=entry)
    repo, file = _split_repo(base)
    if not _REPO.fullmatch(repo) or ".." in repo:
        return None
    if file is not None:
        file = re.sub(r"^(?:blob|resolve|raw)/[^/]+/", "", file) if is_link else file
        return ModelRef(repo, file=file) if is_safe_path(file) and not quant else None
    if repo.lower().endswith(".gguf"):  # folder/file.gguf is a path
        return None
    if (entry := entry_of_repo(repo)) is not None:
        return ModelRef(entry.repo, quant or entry.default_quant, entry=entry)
    return ModelRef(repo, quant or None)


def _split_repo(text: str) -> tuple[str, str | None]:
    org, _, rest = text.partition("/")
    repo, _, file = rest.partition("/")
    return f"{org}/{repo}", file or None


def is_safe_path(path: str) -> bool:
    """Whether a path from a user or the network names a GGUF file inside its repository."""
    parts = path.split("/")
    return (
        path.lower().endswith(".gguf")
        and path.isprintable()
        and not any(part in ("", ".", "..") for part in parts)
        and not any(character in path for character in '\\:*?"<>|')
    )


def same_quant(left: str, right: str) -> bool:
    """Compare quantization names: case does not matter, and fp16 is f16."""
    return _fold(left) == _fold(right)


def _fold(text: str) -> str:
    return re.sub(r"fp(16|32)", r"f\1", text.casefold())


def group_files(paths: Iterable[str]) -> list[FileGroup]:
    """Group the GGUF files of a repository into models; an incomplete split file is left out."""
    single: list[FileGroup] = []
    shards: dict[tuple[str, int], dict[int, str]] = {}
    for path in sorted(paths):
        if not is_safe_path(path) or any(word in path.lower() for word in _NOT_A_MODEL):
            continue
        if match := _SHARD.fullmatch(path):
            key = (match["stem"], int(match["count"]))
            shards.setdefault(key, {})[int(match["index"])] = path
        else:
            single.append(FileGroup(path[: -len(".gguf")], (path,)))
    whole = {_fold(group.stem) for group in single}
    for (stem, count), found in sorted(shards.items()):
        # Some repositories offer the same file both whole and split: the whole one is simpler.
        if sorted(found) == list(range(1, count + 1)) and _fold(stem) not in whole:
            single.append(FileGroup(stem, tuple(found[i] for i in sorted(found))))
    return sorted(single, key=lambda group: group.stem)


def matching(ref: ModelRef, groups: list[FileGroup]) -> list[FileGroup]:
    """Those that ``ref`` can mean; if it names no quantization, the only one or else Q4_K_M."""
    if ref.file is not None:
        return [group for group in groups if ref.file in group.files]
    quant = ref.quant or (DEFAULT_QUANT if len(groups) != 1 else None)
    if quant is None:
        return groups
    token = re.compile(rf"(?:^|[-._/]){re.escape(_fold(quant))}(?:$|[-./])")
    return [group for group in groups if token.search(_fold(group.stem))]


def choose(ref: ModelRef, paths: Iterable[str]) -> FileGroup:
    """The one model among the files ``paths`` that ``ref`` asks for.

    Raises ModelNotFoundError, listing what there is, if none or several match.
    """
    groups = group_files(paths)
    matches = matching(ref, groups)
    if len(matches) == 1:
        return matches[0]
    if not groups:
        raise ModelNotFoundError(f"{ref.repo} has no (complete) GGUF file")
    wanted = ref.file or f"quantization {ref.quant or DEFAULT_QUANT}"
    found = f"has {len(matches)} files of" if matches else "has no"
    raise ModelNotFoundError(
        f"{ref.repo} {found} {wanted}; ask for {ref.repo}:QUANT or {ref.repo}/FILE with one of\n"
        f"{_listing(matches or groups)}"
    )


def _listing(groups: list[FileGroup], limit: int = 40) -> str:
    lines = [f"  {group.quant or '-':<10} {group.files[0]}" for group in groups[:limit]]
    if len(groups) > limit:
        lines.append(f"  and {len(groups) - limit} more")
    return "\n".join(lines)


def unknown_name(name: str) -> ModelNotFoundError:
    """The error for a name that is no file and that no rule of ``parse_name`` accepts."""
    if _looks_like_path(name):
        return ModelNotFoundError(f"{name}: no such file")
    name = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…"
    known = [entry.name for entry in entries()]
    close = difflib.get_close_matches(name.lower(), known, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return ModelNotFoundError(
        f"{name!r} is neither a file nor a model that pyqwen knows.{hint} Give the path of a GGUF "
        f"file, a name of the catalog ({', '.join(known)}), or a repository of the Hugging Face "
        "hub such as Qwen/Qwen2.5-0.5B-Instruct-GGUF:q8_0"
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~", "\\")) or "\\" in name or name.lower().endswith(".gguf")
