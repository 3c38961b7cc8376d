"""The tokens that a checkpoint adds to its vocabulary, and the names it gives to some, from all files.

tokenizer.json, tokenizer_config.json, added_tokens.json and special_tokens_map.json repeat each other,
and do not always agree. Here is what each says; ``token_roles`` decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqwen.errors import ModelFormatError
from pyqwen.loading.json_file import read_optional_object

ROLES = ("bos", "eos", "unk", "sep", "pad", "mask")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(slots=True)
class AddedToken:
    """One added token; ``flags`` has ``special`` by the name of each file that says it."""

    id: int
    text: str
    flags: dict[str, bool] = field(default_factory=dict)


def read_added_tokens(
    path: Path, settings: dict[str, Any], document: dict[str, Any]
) -> tuple[list[AddedToken], list[str]]:
    """All added tokens, and notes about where files disagree: the first one is believed.

    ``settings`` is the object of tokenizer_config.json, ``document`` that of tokenizer.json, or empty.
    """
    listed = document.get("added_tokens") or []
    if not isinstance(listed, list):
        raise ModelFormatError(f"{path / 'tokenizer.json'}: added_tokens is no list")
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise ModelFormatError(
            f"{path / 'tokenizer_config.json'}: added_tokens_decoder is no object"
        )
    decoded = [
        {**entry, "id": int(key) if key.isdecimal() else key}
        for key, entry in decoder.items()
        if isinstance(entry, dict)
    ]
    # Only ids and texts: whether these are special is said elsewhere, or nowhere.
    bare = read_optional_object(path / "added_tokens.json")
    found: dict[int, AddedToken] = {}
    texts: dict[str, int] = {}
    notes = []
    for name, entries in (
        ("tokenizer.json", listed),
        ("tokenizer_config.json", decoded),
        ("added_tokens.json", [{"id": i, "content": text} for text, i in bare.items()]),
    ):
        for entry in entries:
            token = _token(entry, path / name)
            known = found.get(token.id)
            if known is None and token.text in texts:
                notes.append(
                    f"{name} gives {token.text!r:.60} the id {token.id}, but it is {texts[token.text]}"
                )
                continue
            if known is not None and known.text != token.text:
                notes.append(
                    f"{name} calls token {token.id} {token.text!r:.60}, but it is {known.text!r:.60}"
                )
                continue
            known = found.setdefault(token.id, token)
            texts.setdefault(known.text, known.id)
            if "special" in entry:
                known.flags[name] = bool(entry["special"])
    return list(found.values()), notes


def _token(entry: Any, where: Path) -> AddedToken:
    text = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text:
        raise ModelFormatError(f"{where}: an added token has no text: {entry!r:.120}")
    i = entry.get("id")
    if type(i) is not int:
        raise ModelFormatError(f"{where}: token {text!r:.60} has the id {i!r:.30}, not a number")
    return AddedToken(i, text)


def read_named_tokens(path: Path, settings: dict[str, Any]) -> tuple[dict[str, str], set[str]]:
    """The texts of tokens with a role (``bos``, ``eos`` ...), and of all that are named as special.

    tokenizer_config.json comes before special_tokens_map.json.
    """
    roles: dict[str, str] = {}
    special: set[str] = set()
    for source in (settings, read_optional_object(path / "special_tokens_map.json")):
        for role in ROLES:
            if (text := _text(source.get(f"{role}_token"))) is not None:
                roles.setdefault(role, text)
        for name in _LISTS:
            special |= set(_texts(source.get(name)))
    return roles, special | set(roles.values())


def _texts(value: Any) -> Iterable[str]:
    """Of a list of tokens, or an object of them by name."""
    entries = list(value.values()) if isinstance(value, dict) else value
    if isinstance(entries, list):
        yield from (text for entry in entries if (text := _text(entry)) is not None)


def _text(entry: Any) -> str | None:
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) and text else None
