"""SentencePiece vocabularies (``tokenizer.ggml.model`` = "llama"): plain text to ids, ids to bytes.

Owns the few fields of SentencePiece's model message that rebuild an encoder from tokens, scores
and types; writing them by hand spares a dependency on protobuf. Knows nothing of control tokens.
Field numbers: google/sentencepiece, src/sentencepiece_model.proto.
"""

from __future__ import annotations

import re
import struct

from pyqwen.errors import ModelFormatError
from pyqwen.text.vocabulary import REMEDY, TokenKind, Vocabulary

_SPACE = "\u2581"  # stands for a space inside pieces
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
_MODEL_TYPE_BPE = 2


class SentencePieceVocab:
    """Encoder and byte table of one SentencePiece vocabulary. Thread-safe."""

    def __init__(self, vocabulary: Vocabulary, source: str = "") -> None:
        import sentencepiece

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

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, which must be free of surrogates."""
        ids: list[int] = self._processor.encode(text)
        return ids

    @staticmethod
    def piece_bytes(piece: str) -> bytes:
        """The bytes that a normal or byte token stands for."""
        byte = _BYTE_PIECE.fullmatch(piece)
        if byte:
            return bytes([int(byte[1], 16)])
        return piece.replace(_SPACE, " ").encode("utf-8", "replace")


def _model_message(vocabulary: Vocabulary) -> bytes:
    """Serialize ModelProto{pieces = 1, trainer_spec = 2, normalizer_spec = 3}."""
    parts = []
    for piece, score, kind in zip(
        vocabulary.pieces, vocabulary.scores, vocabulary.kinds, strict=True
    ):
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
