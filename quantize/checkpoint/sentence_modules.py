"""What sentence-transformers writes beside a checkpoint: how texts become vectors, and prompts by name.

modules.json lists what a text goes through; the pooling has a folder of its own with a config.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.loading.json_file import (
    read_json_list,
    read_json_object,
    read_optional_object,
)
from pyqwen.text.embedding_settings import PROMPT_KEY

_MODULES = "modules.json"
_USUAL_POOLING = "1_Pooling"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_RUN = ("Transformer", "Pooling", "Normalize")
# The names of sentence-transformers, and what GGUF has for them.
_POOLINGS = {"mean": 1, "mean_tokens": 1, "cls": 2, "cls_token": 2, "lasttoken": 3}
_FLAG = "pooling_mode_"


@dataclass(frozen=True)
class SentenceModules:
    """``pooling`` is GGUF's number of it; ``prompts`` are texts to put in front, by name."""

    pooling: int
    prompts: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    def keys(self, architecture: str) -> dict[str, int | str]:
        """The keys of a GGUF file: the pooling as llama.cpp's converter writes it, and the prompts."""
        named = {f"{PROMPT_KEY}{name}": text for name, text in self.prompts.items()}
        return {f"{architecture}.pooling_type": self.pooling, **named}


def read_sentence_modules(path: Path) -> SentenceModules | None:
    """What the checkpoint in ``path`` says about embedding; None where it says nothing.

    ``UnsupportedModelError`` for models that do more to a text, or pool otherwise, than can be done with a
    GGUF file; ``ModelFormatError`` for files that contradict themselves.
    """
    folder: str | None = _USUAL_POOLING
    if (path / _MODULES).is_file():
        folder = _pooling_folder(path / _MODULES)
    elif not (path / _USUAL_POOLING / "config.json").is_file():
        return None
    notes: list[str] = []
    if folder is None:
        raise UnsupportedModelError(
            f"{path / _MODULES} names no pooling: this model does not make one vector of a text",
            field="modules.json",
        )
    where = path / folder / "config.json"
    pooling = read_json_object(where)
    if pooling.get("include_prompt") is False:
        notes.append(
            f"include_prompt is false in {folder}/config.json, which GGUF cannot say: an instruction "
            "counts as a part of the text"
        )
    lower_case = read_optional_object(path / "sentence_bert_config.json").get("do_lower_case")
    if lower_case is True:
        raise UnsupportedModelError(
            f"{path / 'sentence_bert_config.json'}: do_lower_case is true, which GGUF cannot say",
            field="do_lower_case",
        )
    return SentenceModules(_pooling(pooling, str(where)), _prompts(path), notes)


def _pooling_folder(where: Path) -> str | None:
    """The folder of the pooling that modules.json names; refuses modules that are not run."""
    folder = None
    for module in read_json_list(where):
        kind = module.get("type") if isinstance(module, dict) else None
        name = module.get("path") if isinstance(module, dict) else None
        if not isinstance(kind, str) or not isinstance(name, str):
            raise ModelFormatError(f"{where}: a module has no type or path: {module!r:.120}")
        kind = kind.rpartition(".")[2]
        if kind not in _RUN:
            raise UnsupportedModelError(
                f"{where}: the vectors go through a module {kind!r:.60}, which this version does not "
                f"run; it knows {', '.join(_RUN)}",
                field="modules.json",
            )
        if kind == "Pooling":
            if not _FOLDER.fullmatch(name):
                raise ModelFormatError(f"{where}: {name!r:.80} is no name of a folder beside it")
            folder = name
    return folder


def _pooling(settings: Mapping[str, Any], where: str) -> int:
    named = settings.get("pooling_mode")
    if isinstance(named, list) and len(named) == 1:
        named = named[0]
    if named is None:  # a flag for each, as before version 5
        on = [key for key, value in settings.items() if key.startswith(_FLAG) and value is True]
        named = on[0].removeprefix(_FLAG) if len(on) == 1 else [key[len(_FLAG) :] for key in on]
    if not isinstance(named, str) or named not in _POOLINGS:
        raise UnsupportedModelError(
            f"{where}: the pooling is {named!r:.90}; GGUF has mean, cls and lasttoken",
            field="pooling_mode",
        )
    return _POOLINGS[named]


def _prompts(path: Path) -> dict[str, str]:
    where = path / "config_sentence_transformers.json"
    prompts = read_optional_object(where).get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelFormatError(f"{where}: prompts are not texts by name", field="prompts")
    return {name: text for name, text in prompts.items() if name}
