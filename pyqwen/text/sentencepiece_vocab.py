"""SentencePiece vocabularies (``tokenizer.ggml.model`` = "llama"): plain text to ids, ids to bytes.

Owns the few fields of SentencePiece's model message that rebuild an encoder from tokens, scores
and types; writing them by hand spares a dependency on protobuf. Knows nothing of control tokens.
Field numbers: google/sentencepiece, src/sentencepiece_model.proto.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyqwen.errors import ModelFormatError
from pyqwen.text.vocabulary import REMEDY, TokenKind, Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SPACE = "\u2581"  # stands for a space inside pieces
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_MODEL_TYPE_BPE = 2


class SentencePieceVocab:
    """Encoder and byte table of one SentencePiece vocabulary. Thread-safe."""

    def __init__(self, vocabulary: Vocabulary, source: str = "") -> None:
        import sentencepiece

        self._vocabulary = vocabulary
        try:
            self._processor = sentencepiece.SentencePieceProcessor(
                model_proto=_model_message(vocabulary)
            )
        except (RuntimeError, ValueError, TypeError) as error:
            where = f"{source}: " if source else ""
            raise ModelFormatError(
                f"{where}tokenizer.ggml.tokens cannot form a SentencePiece model ({error}); "
                f"{REMEDY}",
                field="tokenizer.ggml.tokens",
            ) from error

    def encode(self, texts: Sequence[str], control: bool) -> list[int]:
        """Ids of ``texts`` joined, whatever is in them; surrogates count as in UTF-16.

        With ``control``, control tokens are recognized inside each, but not across their ends.
        """
        ids: list[int] = []
        plain: list[str] = []

        def flush() -> None:
            if any(plain):
                ids.extend(self._processor.encode(without_surrogates("".join(plain))))
            plain.clear()

        for text in texts:
            at = 0
            data = text.encode("utf-8", "surrogatepass")
            for match in self._vocabulary.handle.control_matches(data) if control else ():
                if match.begin >= at:
                    plain.append(data[at : match.begin].decode("utf-8", "surrogatepass"))
                    flush()
                    ids.append(match.token)
                    at = match.end
            plain.append(data[at:].decode("utf-8", "surrogatepass"))
        flush()
        return ids

    def all_bytes(self) -> tuple[bytes, npt.NDArray[np.uint32]]:
        """The bytes of all tokens, one after the other, and how many each has."""
        import numpy as np

        texts = [self.token_bytes(token) for token in range(len(self._vocabulary))]
        return b"".join(texts), np.fromiter(map(len, texts), np.uint32, len(texts))

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token, which must be in range: none for padding."""
        kind = self._vocabulary.kinds[token]
        if kind == TokenKind.UNUSED:
            return b""
        piece = self._vocabulary.piece(token)
        byte = _BYTE_PIECE.fullmatch(piece)
        if byte and kind in (TokenKind.NORMAL, TokenKind.BYTE):
            return bytes([int(byte[1], 16)])
        if kind in (TokenKind.NORMAL, TokenKind.BYTE):
            piece = piece.replace(_SPACE, " ")
        return piece.encode("utf-8", "replace")

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of tokens, which must be in range.

        The encoder put a space before the text; the first token that is text gives it back.
        """
        if not self._vocabulary.add_space_prefix:
            return b"".join(map(self.token_bytes, ids))
        is_control = self._vocabulary.is_control
        first = next((i for i, token in enumerate(ids) if not is_control(token)), len(ids))
        head = b"".join(map(self.token_bytes, ids[:first]))
        return head + b"".join(map(self.token_bytes, ids[first:])).removeprefix(b" ")


def without_surrogates(text: str) -> str:
    """UTF-8 has no surrogates: a pair becomes the character it means, a lone one U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _model_message(vocabulary: Vocabulary) -> bytes:
    """Serialize ModelProto{pieces = 1, trainer_spec = 2, normalizer_spec = 3}."""
    parts = []
    pieces = map(vocabulary.piece, range(len(vocabulary)))
    for piece, score, kind in zip(pieces, vocabulary.scores, vocabulary.kinds, strict=True):
        # SentencePiece{piece = 1, score = 2, type = 3}
        fields = _bytes_field(1, piece.encode("utf-8")) + _float_field(2, score)
        parts.append(_bytes_field(1, fields + _int_field(3, kind)))
    # TrainerSpec{model_type = 3, byte_fallback = 35, unk_id = 40, bos_id = 41, eos_id = 42}
    unknown = vocabulary.kinds.find(bytes([TokenKind.UNKNOWN]))
    trainer = _int_field(3, _MODEL_TYPE_BPE)
    trainer += _int_field(35, int(TokenKind.BYTE in vocabulary.kinds))
    trainer += _int_field(40, max(unknown, 0))
    for field, token in ((41, vocabulary.bos_id), (42, vocabulary.eos_id)):
        if token is not None:
            trainer += _int_field(field, token)
    parts.append(_bytes_field(2, trainer))
    # NormalizerSpec{name = 1, add_dummy_prefix = 3, remove_extra_whitespaces = 4,
    # escape_whitespaces = 5}
    normalizer = _bytes_field(1, b"identity")
    normalizer += _int_field(3, int(vocabulary.add_space_prefix))
    normalizer += _int_field(4, int(vocabulary.remove_extra_whitespaces))
    normalizer += _int_field(5, 1)
    parts.append(_bytes_field(3, normalizer))
    return b"".join(parts)


# The three wire formats of protobuf that the message needs.


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _int_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _float_field(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + struct.pack("<f", value)
