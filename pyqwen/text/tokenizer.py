"""Text to token ids and back, exactly as the model's own tokenizer does it.

Owns the treatment of control tokens: they are recognized in text only where the caller asks for it.
The work of cutting ordinary text belongs to ``byte_level_bpe`` and ``sentencepiece_vocab``, the
rules about single tokens to ``vocabulary``. Knows nothing of models or templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import Any

from pyqwen.errors import PyQwenError
from pyqwen.text.byte_level_bpe import ByteLevelBPE
from pyqwen.text.sentencepiece_vocab import SentencePieceVocab
from pyqwen.text.vocabulary import TokenKind, Vocabulary, read_vocabulary


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
            self._words = ByteLevelBPE(vocabulary, source)
            self._user_defined = _Matcher(vocabulary.ids_of(TokenKind.USER_DEFINED))
        else:
            self._words = SentencePieceVocab(vocabulary, source)
            self._user_defined = _Matcher({})  # SentencePiece looks for them itself
        # Text of one character cannot be told from what a user types, so it is no control text.
        self._control = _Matcher(
            {
                piece: i
                for piece, i in vocabulary.ids_of(TokenKind.CONTROL, TokenKind.UNKNOWN).items()
                if len(piece) > 1
            }
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], *, source: str = "") -> Tokenizer:
        """Build from the ``tokenizer.ggml.*`` keys of a GGUF file.

        ``metadata`` maps keys to Python values (str, int, float, bool, lists of them); ``source``
        names the file in messages. Raises ``ModelFormatError`` where keys contradict each other and
        ``UnsupportedModelError`` for an unknown kind of vocabulary or pre-tokenizer.
        """
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
    def control_texts(self) -> frozenset[str]:
        """Text of all control tokens: what user text must not be able to write into a prompt."""
        return frozenset(self._control.ids)

    def is_control(self, token: int) -> bool:
        """Whether this id structures prompts and stands for no text of its own."""
        return self._kind(token) in (TokenKind.CONTROL, TokenKind.UNKNOWN)

    def is_padding(self, token: int) -> bool:
        """Whether this id only fills a row of the embedding: it must never be sampled."""
        return self._kind(token) == TokenKind.UNUSED

    def id_to_piece(self, token: int) -> str:
        """The token as the file spells it (``Ġhello``), for display."""
        return self._vocabulary.pieces[self._checked(token)]

    def control_id(self, text: str) -> int | None:
        """The id of the control token of exactly this text, if there is one."""
        return self._control.ids.get(text)

    # Text to ids

    def encode(self, text: str, special: bool = False, *, add_bos: bool | None = None) -> list[int]:
        """Ids of ``text``.

        ``special=False``: the text ``<|im_end|>`` becomes ordinary tokens. ``special=True``: it
        becomes the control token. ``add_bos`` None does what the file says (``self.add_bos``).
        Every ``str`` can be encoded; lone surrogates count as U+FFFD.
        """
        if not isinstance(text, str):
            raise TypeError(f"text must be str, not {type(text).__name__}")
        ids = self._encode_pieces(self._control.split(text) if special else iter([text]))
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
        return self._encode_pieces(
            part
            for segment in segments
            for part in (self._control.split(segment) if isinstance(segment, str) else segment)
        )

    def _encode_pieces(self, parts: Iterator[str | int]) -> list[int]:
        """Encode a mix of ordinary text and ids, adjacent texts as one."""
        ids: list[int] = []
        pending: list[str] = []
        for part in parts:
            if isinstance(part, str):
                pending.append(part)
            else:
                self._encode_text("".join(pending), ids)
                pending.clear()
                ids.append(part)
        self._encode_text("".join(pending), ids)
        return ids

    def _encode_text(self, text: str, ids: list[int]) -> None:
        for part in self._user_defined.split(_without_surrogates(text)):
            if isinstance(part, str):
                ids += self._encode_words(part)
            else:
                ids.append(part)

    def _encode_words(self, text: str) -> list[int]:
        try:
            return self._words.encode(text)
        except Exception:
            raise
        except BaseException as panic:
            # A panic in the Rust library is a BaseException of a type that cannot be imported.
            if type(panic).__name__ != "PanicException":
                raise
            raise PyQwenError(f"the tokenizers library failed on this text: {panic}") from panic

    # Ids to text

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD.

        Control tokens give their text unless ``skip_special``. ``ValueError`` for an id that the
        vocabulary does not have.
        """
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        """The exact bytes of ``ids``, which may end inside a character."""
        if skip_special:
            ids = [token for token in ids if not self.is_control(token)]
        if not self._vocabulary.add_space_prefix:
            return b"".join(map(self.token_bytes, ids))
        # The encoder put a space before the text; the first token that is text gives it back.
        ids = list(ids)
        first = next((i for i, token in enumerate(ids) if not self.is_control(token)), len(ids))
        head = b"".join(map(self.token_bytes, ids[:first]))
        return head + b"".join(map(self.token_bytes, ids[first:])).removeprefix(b" ")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token: its text for control and user-defined ones, none for padding."""
        kind = self._kind(token)
        if kind == TokenKind.UNUSED:
            return b""
        piece = self._vocabulary.pieces[token]
        if kind in (TokenKind.NORMAL, TokenKind.BYTE):
            return self._words.piece_bytes(piece)
        return piece.encode("utf-8", "replace")

    def _kind(self, token: int) -> int:
        return self._vocabulary.kinds[self._checked(token)]

    def _checked(self, token: int) -> int:
        i = index(token)
        if not 0 <= i < len(self._vocabulary):
            raise ValueError(
                f"token id {i} is outside this vocabulary of {len(self._vocabulary):,} tokens"
            )
        return i


class _Matcher:
    """Finds the texts of certain tokens: the leftmost first, then the longest."""

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids
        longest_first = sorted(ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if ids else None

    def split(self, text: str) -> Iterator[str | int]:
        """The text cut into ordinary parts and ids, in order; empty parts are left out."""
        start = 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            if match.start() > start:
                yield text[start : match.start()]
            yield self.ids[match[0]]
            start = match.end()
        if start < len(text):
            yield text[start:]


def _without_surrogates(text: str) -> str:
    """UTF-8 has no surrogates: a pair becomes the character it means, a lone one U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
