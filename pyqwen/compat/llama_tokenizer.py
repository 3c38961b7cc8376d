"""Tokenizers in llama-cpp-python's shape: bytes to ids, and back."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from pyqwen.text.tokenizer import Tokenizer


class BaseLlamaTokenizer(abc.ABC):
    """What ``Llama(tokenizer=...)`` takes."""

    @abc.abstractmethod
    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Ids of a text in UTF-8."""

    @abc.abstractmethod
    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """The text of ids; ``prev_tokens`` stand before them."""


class _HasTokenizer(Protocol):
    """A ``Llama``, as far as it is needed here."""

    @property
    def pyqwen_tokenizer(self) -> Tokenizer:
        """The tokenizer of the file."""


class LlamaTokenizer(BaseLlamaTokenizer):
    """The tokenizer of a ``Llama``'s file."""

    def __init__(self, llama: _HasTokenizer) -> None:
        self._tokenizer = llama.pyqwen_tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Ids of a text in UTF-8 (what is not UTF-8 counts as U+FFFD).

        ``add_bos``: with the beginning-of-text token first, if the file asks for it. ``special``: names of
        control tokens in the text mean these tokens.
        """
        if isinstance(text, bytes | bytearray):
            text_str = text.decode("utf-8", "replace")
        elif isinstance(text, str):
            text_str = text
        else:
            raise TypeError(f"text must be bytes, not {type(text).__name__}")
        return self._tokenizer.encode(
            text_str, bool(special), add_bos=bool(add_bos) and self._tokenizer.add_bos
        )

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """The bytes of ids, which may end inside a character; of control tokens only if ``special``.

        The space that some tokenizers put before a text is left out behind a beginning-of-text token.
        """
        ids = _checked_list(tokens)
        text = b"".join(map(self._shown if not special else self._tokenizer.token_bytes, ids))
        if ids and ids[0] == self._tokenizer.bos_id:
            text = text.removeprefix(b" ")
        return text

    def _shown(self, token: int) -> bytes:
        if self._tokenizer.is_control(token):
            return b""
        return self._tokenizer.token_bytes(token)

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        """Ids of a text."""
        return self.tokenize(text.encode("utf-8", "ignore"), add_bos=add_bos, special=special)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of ids; bytes that are no characters are left out."""
        return self.detokenize(tokens).decode("utf-8", "ignore")

    @classmethod
    def from_ggml_file(cls, path: str) -> Self:
        """The tokenizer of a GGUF file, whose weights are not loaded."""
        return cls(FileTokenizer(path))


class FileTokenizer:
    """The tokenizer and the metadata of a file, without its weights."""

    def __init__(self, path: str) -> None:
        """Raises ``ModelFileError`` where the file cannot be read."""
        from pyqwen.loading.gguf_file import GGUFFile

        with GGUFFile(path) as file:
            self.metadata = {
                key: value
                for key in file.metadata
                if not isinstance(value := file.metadata[key], list)
            }
            self.pyqwen_tokenizer = Tokenizer.from_metadata(file.metadata, source=str(path))

    def size(self, key: str) -> int:
        """A hyperparameter of the file's architecture, such as ``context_length``; 0 if it has none."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture', '')}.{key}", 0)
        return value if isinstance(value, int) else 0


def trained_context(path: Path) -> int:
    """The length that a file's model was trained for; 0 if the file does not say."""
    from pyqwen.loading.gguf_file import GGUFFile

    with GGUFFile(path) as file:
        architecture = file.metadata.get("general.architecture", "")
        trained = file.metadata.get(f"{architecture}.context_length", 0)
    return trained if isinstance(trained, int) else 0


class LlamaHFTokenizer(BaseLlamaTokenizer):
    """A tokenizer of transformers, for ``Llama(tokenizer=...)``."""

    def __init__(self, hf_tokenizer: Any) -> None:
        self.hf_tokenizer = hf_tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        ids = self.hf_tokenizer.encode(text.decode("utf-8", "ignore"), add_special_tokens=special)
        return list(ids)

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        before = list(prev_tokens or ())
        whole, begun = (
            self.hf_tokenizer.decode(ids, skip_special_tokens=not special) if ids else ""
            for ids in ([*before, *tokens], before)
        )
        return str(whole).encode("utf-8", "ignore")[len(str(begun).encode("utf-8", "ignore")) :]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str) -> Self:
        """Load it with transformers, which must be installed."""
        from transformers import AutoTokenizer  # type: ignore[import-not-found,unused-ignore]

        return cls(AutoTokenizer.from_pretrained(pretrained_model_name_or_path))


def _checked_list(tokens: Iterable[int]) -> list[int]:
    if isinstance(tokens, str | bytes):
        raise TypeError(f"tokens must be a list of ids, not {type(tokens).__name__}")
    return list(tokens)
