"""What a ``Llama`` knows of its file: sizes, tokens and texts. The calls that write stand on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pyqwen.compat.llama_tokenizer import BaseLlamaTokenizer, FileTokenizer, LlamaTokenizer
from pyqwen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pyqwen.model import Model


class TokensOfFile:
    """A part of :class:`pyqwen.compat.Llama`, which opens the file."""

    model_path: str
    tokenizer_: BaseLlamaTokenizer
    _model: Model | None
    """None where only the vocabulary was loaded."""
    _file: FileTokenizer | None
    """The vocabulary, where only that was loaded."""
    _n_ctx: int
    _adapter: dict[str, Any]
    """The option of every call that names the adapter of ``lora_path``; empty if there is none."""

    @property
    def pyqwen_model(self) -> Model:
        """The open ``pyqwen.Model``; ``ValueError`` if there is none (``vocab_only=True``)."""
        if self._model is None:
            raise ValueError(
                "vocab_only=True: this Llama has a vocabulary and no weights; open the model without it"
            )
        return self._model

    @property
    def pyqwen_tokenizer(self) -> Tokenizer:
        """The tokenizer of the file."""
        if self._file is not None:
            return self._file.pyqwen_tokenizer
        return self.pyqwen_model.tokenizer

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The keys of the file with their values as text, but for lists."""
        file = self._file or FileTokenizer(self.model_path)
        return {key: _metadata_text(value) for key, value in file.metadata.items()}

    # Sizes

    def n_ctx(self) -> int:
        """The most tokens of prompt and answer."""
        if self._file is not None:
            return self._file.size("context_length")
        return self._n_ctx

    def n_embd(self) -> int:
        """The width of the hidden states."""
        if self._file is not None:
            return self._file.size("embedding_length")
        return self.pyqwen_model.config.hidden

    def n_vocab(self) -> int:
        """The rows of the output matrix: tokens, and padding that is never drawn."""
        if self._file is not None:
            return len(self._file.pyqwen_tokenizer.kinds)
        return self.pyqwen_model.config.vocab_rows

    # Tokens; -1 for what the file does not have

    def token_bos(self) -> int:
        """The beginning-of-text token."""
        return _or_none(self.pyqwen_tokenizer.bos_id)

    def token_eos(self) -> int:
        """The end token."""
        return _or_none(self.pyqwen_tokenizer.eos_id)

    def token_nl(self) -> int:
        """The line break."""
        ids = self.pyqwen_tokenizer.encode("\n", add_bos=False)
        return ids[-1] if ids else -1

    def tokenizer(self) -> LlamaTokenizer:
        """The tokenizer of the file."""
        return LlamaTokenizer(self)

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Ids of a text in UTF-8; see ``LlamaTokenizer.tokenize``."""
        return self.tokenizer_.tokenize(text, add_bos, special)

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """The bytes of ids; see ``LlamaTokenizer.detokenize``."""
        return self.tokenizer_.detokenize(tokens, prev_tokens=prev_tokens, special=special)


def _or_none(token: int | None) -> int:
    return -1 if token is None else token


def _metadata_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6f}" if isinstance(value, float) else str(value)
