"""Text to token ids and back, exactly as the model's own tokenizer does it.

Owns the treatment of control tokens: they are recognized in text only where the caller asks for it.
The work of cutting ordinary text belongs to ``byte_level_bpe`` and ``sentencepiece_vocab``, the
rules about single tokens to ``vocabulary``. Knows nothing of models or templates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import groupby
from operator import index
from typing import TYPE_CHECKING, Any, cast

from pyqwen.errors import OutOfMemoryError
from pyqwen.text.byte_level_bpe import ByteLevelBPE
from pyqwen.text.sentencepiece_vocab import SentencePieceVocab
from pyqwen.text.vocabulary import TokenKind, Vocabulary, read_vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Tokenizer:
    """The tokenizer of one model file. Immutable, may be used by any number of threads.

    Three kinds of tokens matter here. *Control* tokens (``<|im_end|>``) structure a prompt; text
    turns into them only with ``special=True``. *User-defined* tokens (``<tool_call>``) are words
    the model may read and write anywhere: they are always recognized, as in Hugging Face's
    tokenizers and llama.cpp, and never skipped when decoding. *Padding* rows stand for no text.
    """

    def __init__(self, vocabulary: Vocabulary, source: str = "") -> None:
        self._vocabulary = vocabulary
        self._words: ByteLevelBPE | SentencePieceVocab
        if vocabulary.model == "gpt2":
            self._words = ByteLevelBPE(vocabulary)
        else:
            self._words = SentencePieceVocab(vocabulary, source)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], *, source: str = "") -> Tokenizer:
        """Build from the ``tokenizer.ggml.*`` keys of a GGUF file.

        ``metadata`` maps keys to Python values (str, int, float, bool, lists of them); ``source``
        names the file in messages. Raises ``ModelFormatError`` where keys contradict each other and
        ``UnsupportedModelError`` for an unknown kind of vocabulary or pre-tokenizer.
        """
        with _memory_errors("a tokenizer"):
            return cls(read_vocabulary(metadata, source), source)

    # Facts about the vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of real tokens: every id at or above it is padding and must not be sampled."""
        return self._vocabulary.real_size

    @property
    def eog_ids(self) -> frozenset[int]:
        """Ids that end a generation: the file's own end tokens, and the other known ones in it."""
        return self._vocabulary.end_ids

    @property
    def bos_id(self) -> int | None:
        """The beginning-of-text token, if the file names one."""
        return self._vocabulary.bos_id

    @property
    def eos_id(self) -> int | None:
        """The end-of-text (or end-of-turn) token, if the file names one."""
        return self._vocabulary.eos_id

    @property
    def add_bos(self) -> bool:
        """Whether ``encode`` puts ``bos_id`` first; never for Qwen2.5."""
        return self._vocabulary.add_bos

    @property
    def add_eos(self) -> bool:
        """Whether ``eos_id`` ends each text that is embedded; ``encode`` never adds it."""
        return self._vocabulary.add_eos

    @property
    def kinds(self) -> bytes:
        """The ``TokenKind`` of every id, padding too."""
        return self._vocabulary.kinds

    @property
    def is_byte_level(self) -> bool:
        """Whether a text's tokens are the same wherever it stands, as byte-level BPE cuts it."""
        return isinstance(self._words, ByteLevelBPE)

    @cached_property
    def control_texts(self) -> frozenset[str]:
        """Text of all control tokens: what user text must not be able to write into a prompt."""
        return self._vocabulary.control_texts()

    def is_control(self, token: int) -> bool:
        """Whether this id structures prompts and stands for no text of its own."""
        return self._vocabulary.is_control(self._checked(token))

    def is_padding(self, token: int) -> bool:
        """Whether this id only fills a row of the embedding: it must never be sampled."""
        return self._vocabulary.kinds[self._checked(token)] == TokenKind.UNUSED

    def id_to_piece(self, token: int) -> str:
        """The token as the file spells it (``Ġhello``), for display."""
        return self._vocabulary.piece(self._checked(token))

    def control_id(self, text: str) -> int | None:
        """The id of the control token of exactly this text, if there is one."""
        token = self._vocabulary.find(text) if len(text) > 1 else None
        return token if token is not None and self._vocabulary.is_control(token) else None

    def marker_id(self, text: str) -> int | None:
        """The id of the control or user-defined token of exactly this text, if there is one."""
        token = self._vocabulary.find(text)
        if token is None or self.is_control(token):
            return token
        return token if self._vocabulary.kinds[token] == TokenKind.USER_DEFINED else None

    def is_marker(self, text: str) -> bool:
        """Whether this text is a control or user-defined token, such as ``<tool_call>``."""
        return self.marker_id(text) is not None

    # Text to ids

    def encode(self, text: str, special: bool = False, *, add_bos: bool | None = None) -> list[int]:
        """Ids of ``text``.

        ``special=False``: the text ``<|im_end|>`` becomes ordinary tokens. ``special=True``: it
        becomes the control token. ``add_bos`` None does what the file says (``self.add_bos``).
        Every ``str`` can be encoded; lone surrogates count as U+FFFD. It takes some 0.05 s per
        megabyte, in which other threads run, and Ctrl-C stops it.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be str, not {type(text).__name__}")
        with _memory_errors("the tokens of a text"):
            ids = self._words.encode([text], special)
        if self.add_bos if add_bos is None else add_bos:
            if self.bos_id is None:
                raise ValueError("add_bos: this model has no beginning-of-text token")
            ids.insert(0, self.bos_id)
        return ids

    def encode_segments(self, segments: Iterable[str | Sequence[int]]) -> list[int]:
        """Ids of a rendered chat template (``Rendered.segments``).

        Control tokens are recognized inside a segment but never across its ends, which is how user
        text is kept from forming them; ordinary text is joined across the ends. A segment of ids is
        taken as it is, and must be checked already. No token is added.
        """
        ids: list[int] = []
        with _memory_errors("the tokens of a prompt"):
            for is_text, run in groupby(segments, lambda segment: isinstance(segment, str)):
                if is_text:
                    ids += self._words.encode(cast(list[str], list(run)), True)
                else:
                    ids.extend(token for given in run for token in cast(Sequence[int], given))
        return ids

    # Ids to text

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        Control tokens give their text unless ``skip_special``. ``ValueError`` for an id that the
        vocabulary does not have.
        """
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The exact bytes of ``ids``, which may end inside a character."""
        with _memory_errors("the text of tokens"):
            checked = list(map(self._checked, ids))
            if skip_special:
                checked = [token for token in checked if not self._vocabulary.is_control(token)]
            return self._words.decode(checked)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token: its text for control and user-defined ones, none for padding."""
        return self._words.token_bytes(self._checked(token))

    def all_bytes(self) -> tuple[bytes, npt.NDArray[np.uint32]]:
        """The ``token_bytes`` of all tokens, one after the other, and how many each has."""
        return self._words.all_bytes()

    def _checked(self, token: int) -> int:
        i = index(token)
        if not 0 <= i < len(self._vocabulary):
            raise ValueError(
                f"token id {i} is outside this vocabulary of {len(self._vocabulary):,} tokens"
            )
        return i


@contextmanager
def _memory_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"out of memory: {what} does not fit") from error
