"""The tokens with a role (beginning, end, padding ...), whether they are added, and the chat template.

These are spread over tokenizer_config.json, tokenizer.json and config.json; the first that says
something counts, in the order of the ``gguf`` package's SpecialVocab.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqwen.errors import ModelFormatError
from pyqwen.quantize.checkpoint.json_file import MEGABYTE, read_bounded, read_optional_object

# Role in the files of Hugging Face, and what GGUF calls its key.
_ROLES = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "mask": "mask",
}
_ADDABLE = ("bos", "eos", "sep")


@dataclass
class SpecialTokens:
    """``ids`` and ``add`` are by role; ``templates`` by name, the main one being ``default``."""

    ids: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)
    templates: dict[str, str] = field(default_factory=dict)

    def keys(self) -> dict[str, Any]:
        """The ``tokenizer.*`` keys and their values."""
        keys: dict[str, Any] = {
            f"tokenizer.ggml.{_ROLES[role]}_token_id": i for role, i in self.ids.items()
        }
        keys.update((f"tokenizer.ggml.add_{role}_token", add) for role, add in self.add.items())
        named = sorted(self.templates.keys() - {"default"})
        keys.update((f"tokenizer.chat_template.{name}", self.templates[name]) for name in named)
        if named:
            keys["tokenizer.chat_templates"] = named
        if "default" in self.templates:
            keys["tokenizer.chat_template"] = self.templates["default"]
        return keys


def read_special_tokens(
    path: Path,
    config: dict[str, Any],
    settings: dict[str, Any],
    document: dict[str, Any],
    tokens: list[str],
) -> SpecialTokens:
    """Collect what config.json, tokenizer_config.json and tokenizer.json say.

    ``tokens`` are the texts of all ids. ``ModelFormatError`` where an id is none of them.
    """
    made = SpecialTokens(templates=_read_templates(path, settings))
    texts = {role: _text(settings.get(f"{role}_token")) for role in _ROLES}
    made.add.update(_added_by_template(document, texts))
    for role in _ROLES:
        declared = settings.get(f"add_{role}_token")
        if role in _ADDABLE and isinstance(declared, bool):
            made.add.setdefault(role, declared)  # the post-processor is what really runs
        text, i = texts[role], config.get(f"{role}_token_id")
        if text is not None and text in tokens:
            made.ids[role] = tokens.index(text)
        elif type(i) is int:  # a list of several end tokens has no place in GGUF
            if not 0 <= i < len(tokens):
                raise ModelFormatError(
                    f"{path / 'config.json'}: {role}_token_id is {i}, but there are "
                    f"{len(tokens):,} tokens",
                    field=f"{role}_token_id",
                )
            made.ids[role] = i
    return made


def _text(entry: Any) -> str | None:
    text = entry.get("content") if isinstance(entry, dict) else entry
    return text if isinstance(text, str) and text else None


def _added_by_template(
    document: dict[str, Any], texts: dict[str, str | None]
) -> Iterator[tuple[str, bool]]:
    """What the post-processor of tokenizer.json puts before and after a text."""
    post = document.get("post_processor") or {}
    for step in post.get("processors") or [post]:
        if not isinstance(step, dict) or step.get("type") != "TemplateProcessing":
            continue
        template = step.get("single") or []
        if len(template) > 1:
            for role, end in (("bos", template[0]), ("eos", template[-1])):
                token = end.get("SpecialToken", {}).get("id")
                if token is not None:
                    yield role, token == texts[role]


def _read_templates(path: Path, settings: dict[str, Any]) -> dict[str, str]:
    """The chat templates: in tokenizer_config.json, or in files of their own."""
    where = path / "tokenizer_config.json"
    found = settings.get("chat_template")
    if found is None and (path / "chat_template.jinja").is_file():
        where = path / "chat_template.jinja"
        try:
            found = read_bounded(where, limit=MEGABYTE).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelFormatError(f"{where} is not UTF-8 text: {error}") from error
    if found is None:
        where = path / "chat_template.json"
        found = read_optional_object(where).get("chat_template")
    if found is None:
        return {}
    if isinstance(found, str):
        return {"default": found}
    try:
        named = {entry["name"]: entry["template"] for entry in found}
        ok = all(isinstance(text, str) for pair in named.items() for text in pair)
    except (TypeError, KeyError):
        ok = False
    if not ok:
        raise ModelFormatError(
            f"{where}: chat_template is neither a text nor a list of named texts",
            field="chat_template",
        )
    return {_plain(name): template for name, template in named.items()}


def _plain(name: str) -> str:
    """A name that can be part of a key."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
