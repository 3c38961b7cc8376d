"""A model file's vocabulary: the ``tokenizer.ggml.*`` keys, checked and made into one object.

Owns the rules about tokens that do not depend on how text is cut into them: what kind a token is,
which ids end a generation, which rows of the embedding are only padding. Knows nothing of encoding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress, count
from typing import Any, Protocol, cast, runtime_checkable

from pyqwen._native import PackedStrings, TokenizerHandle
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

_MAX_FLOAT32 = 3.4028234e38
_MISSING_ID = 2**32 - 1  # some converters write -1 as an unsigned "no such token"


@dataclass(frozen=True)
class Vocabulary:
    """What a file says about its tokens. ``kinds[i]`` is the ``TokenKind`` of token i.

    The tokens themselves stay in the core: there are too many to make each an object.
    """

    model: str  # "gpt2" (byte-level BPE) or "llama" (SentencePiece)
    pre: str  # name of the pre-tokenizer, only used with "gpt2"
    handle: TokenizerHandle
    kinds: bytes
    scores: Sequence[float]
    bos_id: int | None
    eos_id: int | None
    end_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def real_size(self) -> int:
        """One more than the highest id that is not padding."""
        padding = bytes([TokenKind.UNUSED])
        return len(self.kinds.rstrip(padding))

    def piece(self, token: int) -> str:
        """A token, which must be in range, as the file spells it."""
        return self.handle.piece(token).decode("utf-8", "replace")

    def find(self, piece: str) -> int | None:
        """The token of exactly this spelling, unless it is padding."""
        return self.handle.find(piece.encode("utf-8", "surrogatepass"))

    def is_control(self, token: int) -> bool:
        """Whether the token structures prompts: text turns into it only where that is asked for."""
        return self.kinds[token] in (TokenKind.CONTROL, TokenKind.UNKNOWN)

    def control_texts(self) -> frozenset[str]:
        """Text of all control tokens.

        Text of one character cannot be told from what a user types, so it is no control text.
        """
        chosen = self.kinds.translate(
            bytes(kind in (TokenKind.CONTROL, TokenKind.UNKNOWN) for kind in range(256))
        )
        texts = map(self.piece, compress(count(), chosen))
        return frozenset(text for text in texts if len(text) > 1)


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
    tokens = keys.strings("tokenizer.ggml.tokens")
    size = len(tokens)
    if size == 0:
        raise keys.error("tokenizer.ggml.tokens", "holds no tokens")
    kinds = _read_kinds(keys, size)
    eos_id = keys.token_id("tokenizer.ggml.eos_token_id", size)
    bos_id = keys.token_id("tokenizer.ggml.bos_token_id", size)
    named_ends = [
        eos_id,
        keys.token_id("tokenizer.ggml.eot_token_id", size),
        keys.token_id("tokenizer.ggml.eom_token_id", size),
    ]
    pre = _pre_tokenizer_name(keys)
    # A file that is silent means no, except in the two families that were never trained without
    # a beginning-of-text token; Qwen2.5 never has one.
    add_bos = bos_id is not None and keys.boolean(
        "tokenizer.ggml.add_bos_token", model == "llama" or pre == "llama-bpe"
    )
    add_eos = eos_id is not None and keys.boolean("tokenizer.ggml.add_eos_token", False)
    add_space_prefix = model == "llama" and keys.boolean("tokenizer.ggml.add_space_prefix", True)
    remove_spaces = keys.boolean("tokenizer.ggml.remove_extra_whitespaces", False)
    scores = keys.floats("tokenizer.ggml.scores", size) if model == "llama" else ()
    handle = TokenizerHandle(
        tokens,
        source=keys.where,
        pre=pre if model == "gpt2" else None,
        kinds=kinds,
        merges=keys.strings("tokenizer.ggml.merges") if model == "gpt2" else None,
        control=ALWAYS_CONTROL,
    )
    known_ends = (handle.find(text.encode()) for text in END_TEXTS)
    return Vocabulary(
        model=model,
        pre=pre,
        handle=handle,
        kinds=handle.kinds,
        scores=scores,
        bos_id=bos_id,
        eos_id=eos_id,
        end_ids=frozenset(i for i in (*named_ends, *known_ends) if i is not None),
        add_bos=add_bos,
        add_eos=add_eos,
        add_space_prefix=add_space_prefix,
        remove_extra_whitespaces=remove_spaces,
    )


def _pre_tokenizer_name(keys: _Keys) -> str:
    name = keys.string("tokenizer.ggml.pre", "")
    if name:
        return name
    # Files older than the key: the architecture is the better guess than the format's default.
    return "qwen2" if keys.metadata.get("general.architecture") == "qwen2" else "default"


def _read_kinds(keys: _Keys, size: int) -> bytes | None:
    """The types that the file gives its tokens; None if it gives none, and all are normal."""
    key = "tokenizer.ggml.token_type"
    if key not in keys.metadata:
        return None
    values = keys.numbers(key, size)
    known = set(map(int, TokenKind))
    distinct = set(values)  # few: looking for each value would take ten times as long
    if not distinct <= known:
        i = next(i for i, value in enumerate(values) if value not in known)
        raise keys.error(key, f"gives token {i} the unknown type {values[i]!r}")
    try:
        return bytes(cast(Sequence[int], values))
    except TypeError:  # whole numbers, as floats
        return bytes(map(int, values))


@runtime_checkable
class PacksStrings(Protocol):
    """Metadata of an open file, which has lists of strings without an object for each."""

    def strings(self, key: str) -> PackedStrings | None: ...


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

    def strings(self, key: str) -> PackedStrings:
        if isinstance(self.metadata, PacksStrings) and key in self.metadata:
            packed = self.metadata.strings(key)
            if packed is not None:
                return packed
        value = self._array(key)
        if not set(map(type, value)) <= {str}:
            raise self.error(key, "is not an array of strings")
        return PackedStrings.of(value)

    def numbers(self, key: str, length: int) -> Sequence[float]:
        value = self._array(key)
        if not set(map(type, value)) <= {int, float}:
            raise self.error(key, "is not an array of numbers")
        if len(value) != length:
            raise self.error(key, f"has {len(value):,} elements for {length:,} tokens")
        return value

    def floats(self, key: str, length: int) -> Sequence[float]:
        """Numbers that a float32 can hold."""
        value = self.numbers(key, length)
        for place, number in enumerate(value):
            if not abs(number) <= _MAX_FLOAT32:
                raise self.error(key, f"has {number:g} in place {place:,}, beyond float32")
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
