"""The chat templates of a checkpoint, by name: which file wins, and that each can be run.

As in transformers, templates in files of their own (chat_template.jinja, additional_chat_templates/)
come before those in tokenizer_config.json, and those before chat_template.json.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyqwen.errors import ModelFormatError, TemplateError
from pyqwen.loading.json_file import MEGABYTE, read_optional_object, read_text
from pyqwen.text.chat_template import ChatTemplate

DEFAULT = "default"
_FILE, _FOLDER, _SETTINGS, _OLD = (
    "chat_template.jinja",
    "additional_chat_templates",
    "tokenizer_config.json",
    "chat_template.json",
)
_MOST_TEMPLATES = 64
# Texts that look like tokens: nothing that Jinja would put together stands inside.
_TOKEN_LIKE = re.compile(r"<\|[^\s<>|{}'\"+]{1,80}\|>|<\uff5c[^\s<>\uff5c{}'\"+]{1,80}\uff5c>")


def read_templates(path: Path, settings: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The templates of the checkpoint in ``path`` by name, the main one being ``default``, and notes.

    ``settings`` is the object of tokenizer_config.json. ``ModelFormatError`` for what is neither a
    text nor a list of named texts, and for a template that cannot be run.
    """
    found: dict[str, tuple[str, Path]] = {}
    notes = []
    for where, templates in (
        (path / _FILE, _in_files(path)),
        (path / _SETTINGS, _named(settings.get("chat_template"), path / _SETTINGS)),
        (
            path / _OLD,
            _named(read_optional_object(path / _OLD).get("chat_template"), path / _OLD),
        ),
    ):
        for name, text in templates.items():
            if name not in found:
                found[name] = text, where
            elif found[name][0] != text:
                which = "the chat template" if name == DEFAULT else f"the chat template '{name}'"
                notes.append(
                    f"{which} is that of {found[name][1].name}; {where.name} has another one"
                )
    for name, (text, where) in found.items():
        _compile(name, text, where)
    return {name: text for name, (text, _) in found.items()}, notes


def tokens_written(template: str) -> list[str]:
    """The texts in a template that look like control tokens, each once."""
    return list(dict.fromkeys(_TOKEN_LIKE.findall(template)))


def _in_files(path: Path) -> dict[str, str]:
    found = {}
    if (path / _FILE).is_file():
        found[DEFAULT] = read_text(path / _FILE, limit=MEGABYTE)
    files = sorted((path / _FOLDER).glob("*.jinja"))
    if len(files) > _MOST_TEMPLATES:
        raise ModelFormatError(f"{path / _FOLDER} has more than {_MOST_TEMPLATES} templates")
    for file in files:
        found.setdefault(plain_name(file.stem), read_text(file, limit=MEGABYTE))
    return found


def _named(value: Any, where: Path) -> dict[str, str]:
    """One text, a list of named texts, or nothing."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {DEFAULT: value}
    try:
        named = {entry["name"]: entry["template"] for entry in value}
        ok = all(isinstance(text, str) for pair in named.items() for text in pair)
    except (TypeError, KeyError):
        ok = False
    if not ok or len(named) > _MOST_TEMPLATES:
        raise ModelFormatError(
            f"{where}: chat_template is neither a text nor a list of named texts",
            field="chat_template",
        )
    return {plain_name(name): template for name, template in named.items()}


def _compile(name: str, text: str, where: Path) -> None:
    try:
        ChatTemplate(text)
    except TemplateError as error:
        which = "chat_template" if name == DEFAULT else f"chat template '{name}'"
        raise ModelFormatError(
            f"{where}: the {which} cannot be run: {error}; correct it, or take it out (the model then "
            "completes text, and does not chat)",
            field="chat_template",
        ) from error


def plain_name(name: str) -> str:
    """A name that can be part of a key, as the ``gguf`` package makes it."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
