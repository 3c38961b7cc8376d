"""Byte-level BPE (``tokenizer.ggml.model`` = "gpt2"): plain text to ids and ids to bytes.

Owns the pre-tokenizers by name, the byte alphabet, and the care that the ``tokenizers`` library
needs. Knows nothing of control tokens: whatever text arrives here is ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.text.vocabulary import REMEDY, TokenKind, Vocabulary

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class PreTokenizer:
    """How a model family cuts text into words before merging.

    ``pattern`` None means GPT-2's own regular expression. ``whole_words`` takes a word that is a
    token as it is, without looking at merges (Llama 3).
    """

    pattern: str | None
    single_digits: bool = False
    nfc: bool = False
    whole_words: bool = False


# The patterns are the published ones of each family's tokenizer.json.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")

PRE_TOKENIZERS = {
    # Qwen normalizes to NFC first. llama.cpp does not; the checkpoint's own tokenizer is our rule.
    "qwen2": PreTokenizer(_QWEN2, nfc=True),
    # DeepSeek's distillations into Qwen2.5 have its words without the normalizer.
    "deepseek-r1-qwen": PreTokenizer(_QWEN2),
    "llama-bpe": PreTokenizer(_LLAMA3, whole_words=True),
    "llama3": PreTokenizer(_LLAMA3, whole_words=True),
    "smollm": PreTokenizer(None, single_digits=True),
    "gpt-2": PreTokenizer(None),
    "default": PreTokenizer(None),
}

# Long texts are encoded piecewise, which bounds memory and the time the library keeps the GIL. No
# word of any pattern above spans a letter or digit and one of these characters after it, so cutting
# there changes nothing.
_CUT = re.compile(r"(?<=[^\W_])(?=[ \n.,;:!?。，、])")
_CHUNK = 16_384
# A run this long without such a place is cut regardless: the library's regex engine gives up (and
# panics) at ten million steps.
_LONGEST_CHUNK = 262_144


class ByteLevelBPE:
    """Encoder and byte table of one byte-level BPE vocabulary. Thread-safe."""

    def __init__(self, vocabulary: Vocabulary, source: str = "") -> None:
        self._where = f"{source}: " if source else ""
        rules = PRE_TOKENIZERS.get(vocabulary.pre)
        if rules is None:
            raise UnsupportedModelError(
                f"{self._where}tokenizer.ggml.pre is {vocabulary.pre!r}, which this version does "
                f"not know; it knows {', '.join(sorted(PRE_TOKENIZERS))}",
                field="tokenizer.ggml.pre",
            )
        self._encoder = self._build(vocabulary, rules)

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, which must be free of surrogates."""
        ids: list[int] = []
        for chunk in _chunks(text):
            ids += self._encoder.encode(chunk, add_special_tokens=False).ids
        return ids

    @staticmethod
    def piece_bytes(piece: str) -> bytes:
        """The bytes that a normal token stands for."""
        if _BYTE_ALPHABET.issuperset(piece):
            return piece.translate(_CHAR_TO_LATIN1).encode("latin-1")
        return piece.encode("utf-8", "replace")  # not in the alphabet: taken literally, as HF does

    def _build(self, vocabulary: Vocabulary, rules: PreTokenizer) -> tokenizers.Tokenizer:
        import tokenizers
        from tokenizers import models, normalizers, pre_tokenizers

        ids = vocabulary.ids_of(TokenKind.NORMAL, TokenKind.USER_DEFINED, TokenKind.BYTE)
        merges = self._split_merges(vocabulary, ids)
        try:
            model = models.BPE(vocab=ids, merges=merges, ignore_merges=rules.whole_words)
        except Exception as error:  # the library raises nothing more specific
            raise self._bad_merges(str(error)) from error
        byte_level = pre_tokenizers.ByteLevel(
            add_prefix_space=False, trim_offsets=False, use_regex=rules.pattern is None
        )
        steps: list[pre_tokenizers.PreTokenizer] = [byte_level]
        if rules.pattern is not None:
            steps.insert(0, pre_tokenizers.Split(tokenizers.Regex(rules.pattern), "isolated"))
        if rules.single_digits:
            steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
        encoder = tokenizers.Tokenizer(model)
        encoder.pre_tokenizer = pre_tokenizers.Sequence(steps)
        if rules.nfc:
            encoder.normalizer = normalizers.NFC()
        return encoder

    def _split_merges(self, vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
        # The halves are looked up so that all merges share the strings of the vocabulary: it
        # halves the peak memory of opening a model, and finds unknown names.
        shared = {piece: piece for piece in ids}
        halves = (merge.partition(" ") for merge in vocabulary.merges)
        try:
            return [(shared[left], shared[right]) for left, _, right in halves]
        except KeyError as error:
            (unknown,) = error.args
        rank, merge = next(
            (i, merge)
            for i, merge in enumerate(vocabulary.merges)
            if unknown in merge.partition(" ")[::2]
        )
        raise self._bad_merges(
            f"entry {rank}, {merge[:60]!r}, names {unknown[:60]!r}, which is not a token"
        )

    def _bad_merges(self, problem: str) -> ModelFormatError:
        return ModelFormatError(
            f"{self._where}tokenizer.ggml.merges: {problem}; {REMEDY}",
            field="tokenizer.ggml.merges",
        )


def _chunks(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _CHUNK:
        cut = _CUT.search(text, start + _CHUNK, start + _LONGEST_CHUNK)
        end = cut.start() if cut else start + _LONGEST_CHUNK
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _byte_alphabet() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte (openai/gpt-2, encoder.py, bytes_to_unicode)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    alphabet.update((byte, chr(256 + n)) for n, byte in enumerate(others))
    return alphabet


_CHAR_TO_LATIN1 = {ord(char): chr(byte) for byte, char in _byte_alphabet().items()}
_BYTE_ALPHABET = frozenset(map(chr, _CHAR_TO_LATIN1))
