"""Fill in the middle: the prompts for models that were trained to write what stands between two texts."""

from __future__ import annotations

import asyncio

from pyqwen.model import Model
from pyqwen.serve.errors import ApiError

_PREFIX, _SUFFIX, _MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
_MARKS = (_PREFIX, _SUFFIX, _MIDDLE)
_REPO, _FILE = "<|repo_name|>", "<|file_sep|>"


def can_fill(model: Model) -> bool:
    """Whether the vocabulary has the tokens."""
    return all(model.tokenizer.control_id(text) is not None for text in _MARKS)


async def infill_prompt(
    model: Model, prefix: str, suffix: str, files: list[tuple[str, str]] | None = None
) -> list[int]:
    """The tokens of Qwen's prompt for a file (with ``files`` of its repository before it)."""
    if not can_fill(model):
        raise ApiError(501, "this model was not trained to fill in the middle", code="unsupported")
    return await asyncio.to_thread(_tokens, model, prefix, suffix, files or [])


def _tokens(model: Model, prefix: str, suffix: str, files: list[tuple[str, str]]) -> list[int]:
    encode = model.tokenizer.encode
    control = {text: model.tokenizer.control_id(text) for text in (*_MARKS, _REPO, _FILE)}
    ids: list[int] = []

    def add(mark: str, text: str) -> None:
        token = control[mark]
        assert token is not None
        ids.extend([token, *encode(text, add_bos=False)])

    if files and control[_REPO] is not None and control[_FILE] is not None:
        add(_REPO, "repository\n")
        for name, text in files:
            add(_FILE, f"{name}\n{text}\n")
        add(_FILE, "current\n")
    add(_PREFIX, prefix)
    add(_SUFFIX, suffix)
    add(_MIDDLE, "")
    return ids
