"""Filling in the middle: the prompt for what stands between two texts, beside other files of a repository.

The forms are those of Qwen2.5-Coder (arXiv 2409.12186): ``<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>``, and
for a repository ``<|repo_name|>R``, then ``<|file_sep|>NAME``, a line break and the text for each file, the
last of them the one to fill in. Which tokens play these roles is said by keys of the model file or known by
their names (both as llama.cpp has them). Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqwen.errors import ContextOverflowError, UnsupportedModelError

if TYPE_CHECKING:
    from pyqwen.text.tokenizer import Tokenizer

# Role: keys in a file, names in a vocabulary.
_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "prefix": (
        ("fim_pre_token_id", "prefix_token_id"),
        ("<|fim_prefix|>", "<fim_prefix>", "<fim-prefix>", "<｜fim▁begin｜>", "▁<PRE>", "<PRE>"),
    ),
    "suffix": (
        ("fim_suf_token_id", "suffix_token_id"),
        ("<|fim_suffix|>", "<fim_suffix>", "<fim-suffix>", "<｜fim▁hole｜>", "▁<SUF>", "<SUF>"),
    ),
    "middle": (
        ("fim_mid_token_id", "middle_token_id"),
        ("<|fim_middle|>", "<fim_middle>", "<fim-middle>", "<｜fim▁end｜>", "▁<MID>", "<MID>"),
    ),
    "padding": (("fim_pad_token_id",), ("<|fim_pad|>", "<fim_pad>", "<fim-pad>")),
    "repository": (
        ("fim_rep_token_id",),
        ("<|repo_name|>", "<|fim_repo|>", "<repo_name>", "<reponame>"),
    ),
    "file": (("fim_sep_token_id",), ("<|file_sep|>", "<file_sep>")),
}
_MOST_CHARACTERS = 32  # of a token, on the average: more text cannot be of use
_STEP = 4096  # characters; where a long text is cut does not move with every key that is pressed
REPOSITORY, FILE = "repository", "filename"
"""Names where none are given."""


@dataclass(frozen=True)
class Infill:
    """The tokens of one model that infill prompts are made of."""

    tokenizer: Tokenizer
    roles: Mapping[str, int]

    @property
    def end_ids(self) -> frozenset[int]:
        """What ends a text that was filled in, besides the model's own ends."""
        return frozenset(self.roles.values())

    def prompt(
        self,
        prefix: str,
        suffix: str,
        *,
        files: Mapping[str, str],
        filename: str | None,
        repository: str | None,
        room: int,
    ) -> list[int]:
        """The prompt, at most ``room`` tokens.

        What does not fit is left out: first the first of the files, then the beginning of the prefix and
        the end of the suffix, which gets a quarter of the room, or what the prefix leaves of it.
        """
        names = [] if not files and filename is None else [filename or FILE]
        heads = [self._head("file", f"{name}\n") for name in names]
        if heads and "repository" in self.roles:
            heads.insert(0, self._head("repository", f"{repository or REPOSITORY}\n"))
        bos = self.tokenizer.bos_id if self.tokenizer.add_bos else None
        begin = [] if bos is None else [bos]
        room -= 3 + len(begin) + sum(map(len, heads))
        if room < 0:
            raise ContextOverflowError(
                "the context has no room to fill in; open the model with a longer one, or ask for a "
                "shorter answer (max_tokens)"
            )
        before, after = self._cut(prefix, suffix, room)
        others = self._files(files, room - len(before) - len(after))
        roles = self.roles
        texts = [[roles["prefix"]], before, [roles["suffix"]], after, [roles["middle"]]]
        parts = [begin, *heads[:-1], *others, *heads[-1:], *texts]
        return [token for part in parts for token in part]

    def _cut(self, prefix: str, suffix: str, room: int) -> tuple[list[int], list[int]]:
        """The end of the prefix and the beginning of the suffix."""
        most = room * _MOST_CHARACTERS
        if len(prefix) > most:
            prefix = prefix[-(-(len(prefix) - most) // _STEP) * _STEP :]
        before, after = self._encode(prefix), self._encode(suffix[:most])
        if len(before) + len(after) <= room:
            return before, after
        after = after[: max(room // 4, room - len(before))]
        surplus = len(before) + len(after) - room
        if surplus > 0:  # some more, so that the same goes after the next key
            step = max(room // 8, 1)
            surplus = min(-(-surplus // step) * step, len(before))
        return before[surplus:] if surplus > 0 else before, after

    def _files(self, files: Mapping[str, str], room: int) -> list[list[int]]:
        """The last files that fit, whole."""
        kept: list[list[int]] = []
        for name, text in reversed(list(files.items())):
            if len(text) > room * _MOST_CHARACTERS:
                break
            tokens = self._head("file", f"{name}\n{text}" + "\n" * (not text.endswith("\n")))
            room -= len(tokens)
            if room < 0:
                break
            kept.insert(0, tokens)
        return kept

    def _head(self, role: str, text: str) -> list[int]:
        return [self.roles[role], *self._encode(text)]

    def _encode(self, text: str) -> list[int]:
        """The tokens of a text, in which the names of the tokens used here are but text.

        A file may have them as tokens that are recognized wherever they stand: then they are torn apart.
        """
        names = [re.escape(self.tokenizer.id_to_piece(token)) for token in self.roles.values()]
        bounds = [match.start() + 1 for match in re.finditer("|".join(names), text)]
        ids: list[int] = []
        for start, end in zip([0, *bounds], [*bounds, len(text)], strict=True):
            ids += self.tokenizer.encode(text[start:end], add_bos=False)
        return ids


def find_infill(metadata: Mapping[str, Any], tokenizer: Tokenizer) -> Infill | None:
    """What a model file says of infill; None if it has no tokens for that."""
    roles: dict[str, int] = {}
    for role, (keys, names) in _ROLES.items():
        tokens = [_token(metadata.get(f"tokenizer.ggml.{key}"), tokenizer) for key in keys]
        tokens += [tokenizer.marker_id(name) for name in names]
        known = [token for token in tokens if token is not None]
        if known:
            roles[role] = known[0]
    return Infill(tokenizer, roles) if {"prefix", "suffix", "middle"} <= roles.keys() else None


def checked_infill(infill: Infill | None, source: str, *, with_files: bool) -> Infill:
    """What was found; ``UnsupportedModelError`` where the model cannot do what is asked for."""
    if infill is None:
        raise UnsupportedModelError(
            f"{source}: this model cannot fill in: its vocabulary has no fill-in-the-middle tokens; "
            "use a Coder model, such as qwen2.5-coder-1.5b"
        )
    if with_files and "file" not in infill.roles:
        raise UnsupportedModelError(
            f"{source}: this model has no token that begins a file; leave files and filename out"
        )
    return infill


def checked_files(files: Any) -> dict[str, str]:
    """Other files of a repository, by name; ``TypeError`` for what is none."""
    if files is None:
        return {}
    if not isinstance(files, Mapping):
        raise TypeError(f"files must be a dict of names and texts, not {type(files).__name__}")
    for name, text in files.items():
        if not isinstance(name, str) or not isinstance(text, str):
            kinds = f"{type(name).__name__} and {type(text).__name__}"
            raise TypeError(f"files must map names to texts, not {kinds}")
    return dict(files)


def checked_text(name: str, text: Any) -> str:
    """``text``, which must be one; ``TypeError`` by its name."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, not {type(text).__name__}")
    return text


def _token(value: Any, tokenizer: Tokenizer) -> int | None:
    """What a file says is a token, if it can be one."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < tokenizer.vocab_size and not tokenizer.is_padding(value) else None
