"""A model file's vocabulary: the ``tokenizer.ggml.*`` keys, checked and made into one object.

Owns the rules about tokens that do not depend on how text is cut into them: what kind a token is,
which ids end a generation, which rows of the embedding are only padding. Knows nothing of encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress, count
from typing import Any

from pyqwen.errors import ModelFormatError, UnsupportedModelError

REMEDY = "the file is damaged or was converted wrongly: download or convert it again"


class TokenKind(IntEnum):
    """Values of ``tokenizer.ggml.token_type`` (those of SentencePiece, too)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


# Tokens that end an answer, known by their text because files name only one or two of them. The
# list follows llama.cpp's (src/llama-vocab.cpp). The last three separate files in code models: what
# comes after one is another document.
END_TEXTS = frozenset(
    {
        "<|im_end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<end_of_turn>",
        "<EOT>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    }
)
# These structure a prompt, so user text must not be able to write them, whatever type a careless
# converter gave them.
ALWAYS_CONTROL = END_TEXTS | {"<|im_start|>", "<|start_header_id|>", "<|end_header_id|>"}

_MISSING_ID = 2**32 - 1  # some converters write -1 as an unsigned "no such token"


@dataclass(frozen=True)
class Vocabulary:
    """What a file says about its tokens. ``kinds[i]`` is the ``TokenKind`` of ``pieces[i]``."""

    model: str  # "gpt2" (byte-level BPE) or "llama" (SentencePiece)
    pre: str  # name of the pre-tokenizer, only used with "gpt2"
    pieces: Sequence[str]
    kinds: bytes
    merges: Sequence[str]
    scores: Sequence[float]
    bos_id: int | None
    eos_id: int | None
    end_ids: frozenset[int]
    add_bos: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool

    def __len__(self) -> int:
        return len(self.pieces)

    @property
    def real_size(self) -> int:
        """One more than the highest id that is not padding."""
        padding = bytes([TokenKind.UNUSED])
        return len(self.kinds.rstrip(padding))

    def ids_of(self, *kinds: TokenKind) -> dict[str, int]:
        """Text to id of all tokens of these kinds."""
        chosen = self.kinds.translate(bytes(kind in kinds for kind in range(256)))
        return dict(zip(compress(self.pieces, chosen), compress(count(), chosen), strict=True))


def read_vocabulary(metadata: Mapping[str, Any], source: str = "") -> Vocabulary:
    """Check the tokenizer keys of a GGUF file and collect them.

    ``source`` names the file in messages. Raises ``ModelFormatError`` for keys that contradict
    each other, ``UnsupportedModelError`` for a kind of vocabulary that is not run here.
    """
    keys = _Keys(metadata, source)
    model = keys.string("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise UnsupportedModelError(
            f"{keys.where}tokenizer.ggml.model is {model!r}; this version reads 'gpt2' "
            "(byte-level BPE, as all Qwen2.5 files have) and 'llama' (SentencePiece)",
            field="tokenizer.ggml.model",
        )
    pieces = keys.strings("tokenizer.ggml.tokens")
    if not pieces:
        raise keys.error("tokenizer.ggml.tokens", "holds no tokens")
    kinds = _read_kinds(keys, pieces)
    eos_id = keys.token_id("tokenizer.ggml.eos_token_id", len(pieces))
    bos_id = keys.token_id("tokenizer.ggml.bos_token_id", len(pieces))
    named_ends = [
        eos_id,
        keys.token_id("tokenizer.ggml.eot_token_id", len(pieces)),
        keys.token_id("tokenizer.ggml.eom_token_id", len(pieces)),
    ]
    ends = {i for i in named_ends if i is not None}
    ends.update(
        i for i, kind in enumerate(kinds) if kind == TokenKind.CONTROL and pieces[i] in END_TEXTS
    )
    pre = _pre_tokenizer_name(keys)
    vocabulary = Vocabulary(
        model=model,
        pre=pre,
        pieces=pieces,
        kinds=kinds,
        merges=keys.strings("tokenizer.ggml.merges") if model == "gpt2" else (),
        scores=keys.numbers("tokenizer.ggml.scores", len(pieces)) if model == "llama" else (),
        bos_id=bos_id,
        eos_id=eos_id,
        end_ids=frozenset(ends),
        # A file that is silent means no, except in the two families that were never trained without
        # a beginning-of-text token; Qwen2.5 never has one.
        add_bos=bos_id is not None
        and keys.boolean("tokenizer.ggml.add_bos_token", model == "llama" or pre == "llama-bpe"),
        add_space_prefix=model == "llama" and keys.boolean("tokenizer.ggml.add_space_prefix", True),
        remove_extra_whitespaces=keys.boolean("tokenizer.ggml.remove_extra_whitespaces", False),
    )
    _refuse_empty_and_duplicate_pieces(keys, vocabulary)
    return vocabulary


def _pre_tokenizer_name(keys: _Keys) -> str:
    name = keys.string("tokenizer.ggml.pre", "")
    if name:
        return name
    # Files older than the key: the architecture is the better guess than the format's default.
    return "qwen2" if keys.metadata.get("general.architecture") == "qwen2" else "default"


def _read_kinds(keys: _Keys, pieces: Sequence[str]) -> bytes:
    key = "tokenizer.ggml.token_type"
    if key in keys.metadata:
        values = keys.numbers(key, len(pieces))
        known = set(TokenKind)
        if not known.issuperset(values):
            i = next(i for i, value in enumerate(values) if value not in known)
            raise keys.error(key, f"gives token {i} the unknown type {values[i]!r}")
        kinds = bytearray(int(value) for value in values)
    else:
        kinds = bytearray([TokenKind.NORMAL]) * len(pieces)
    for i, piece in enumerate(pieces):
        # Converters fill the vocabulary up to the rows of the embedding with "[PAD<id>]".
        if piece[:4] == "[PAD" and piece == f"[PAD{i}]":
            kinds[i] = TokenKind.UNUSED
        elif piece in ALWAYS_CONTROL and kinds[i] != TokenKind.UNUSED:
            kinds[i] = TokenKind.CONTROL
    return bytes(kinds)


def _refuse_empty_and_duplicate_pieces(keys: _Keys, vocabulary: Vocabulary) -> None:
    real = [i for i, kind in enumerate(vocabulary.kinds) if kind != TokenKind.UNUSED]
    seen = dict(zip(map(vocabulary.pieces.__getitem__, real), real, strict=True))
    if "" in seen:
        raise keys.error("tokenizer.ggml.tokens", f"has an empty token at {seen['']}")
    if len(seen) < len(real):  # the dict kept the last of each
        i = next(i for i in real if seen[vocabulary.pieces[i]] != i)
        piece = vocabulary.pieces[i]
        raise keys.error(
            "tokenizer.ggml.tokens", f"has {piece[:60]!r} twice, at {i} and at {seen[piece]}"
        )


class _Keys:
    """Typed access to metadata; every complaint names the file and the key."""

    def __init__(self, metadata: Mapping[str, Any], source: str) -> None:
        self.metadata = metadata
        self.where = f"{source}: " if source else ""

    def error(self, key: str, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{self.where}{key} {problem}; {REMEDY}", field=key)

    def _get(self, key: str) -> Any:
        if key not in self.metadata:
            raise self.error(key, "is missing, so the file has no usable tokenizer")
        return self.metadata[key]

    def string(self, key: str, default: str | None = None) -> str:
        value = self._get(key) if default is None else self.metadata.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, f"is {type(value).__name__}, not a string")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self.metadata.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"is {type(value).__name__}, not a boolean")
        return value

    def strings(self, key: str) -> Sequence[str]:
        value = self._array(key)
        if not set(map(type, value)) <= {str}:
            raise self.error(key, "is not an array of strings")
        return value

    def numbers(self, key: str, length: int) -> Sequence[float]:
        value = self._array(key)
        if not set(map(type, value)) <= {int, float}:
            raise self.error(key, "is not an array of numbers")
        if len(value) != length:
            raise self.error(key, f"has {len(value):,} elements for {length:,} tokens")
        return value

    def _array(self, key: str) -> Sequence[Any]:
        value = self._get(key)
        if not isinstance(value, list | tuple):
            raise self.error(key, f"is {type(value).__name__}, not an array")
        return value

    def token_id(self, key: str, size: int) -> int | None:
        value = self.metadata.get(key)
        if value is None or value in (-1, _MISSING_ID):
            return None
        if type(value) is not int or not 0 <= value < size:
            raise self.error(key, f"is {value!r}, not an id of one of the {size:,} tokens")
        return value
