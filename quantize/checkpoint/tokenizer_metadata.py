"""The tokenizer of a checkpoint as GGUF's ``tokenizer.*`` keys.

Reads tokenizer.json, or vocab.json with merges.txt, or a SentencePiece tokenizer.model. What is
written is what llama.cpp's converter writes; where the two formats differ, its rules are named here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyqwen.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from pyqwen.loading.json_file import (
    MEGABYTE,
    read_bounded,
    read_json_object,
    read_optional_object,
    read_text,
)
from pyqwen.quantize.checkpoint.added_tokens import (
    AddedToken,
    read_added_tokens,
    read_named_tokens,
)
from pyqwen.quantize.checkpoint.chat_templates import read_templates
from pyqwen.quantize.checkpoint.pre_tokenizer import recognize, recognize_class
from pyqwen.quantize.checkpoint.token_roles import TokenRoles, TokenSources, decide_roles
from pyqwen.text.vocabulary import TokenKind

_VOCABULARY_LIMIT = 256 * MEGABYTE
_ADDED_SCORE = -1000.0  # of tokens that SentencePiece itself does not have
_PADDING_SCORE = -10000.0


@dataclass
class TokenizerMetadata:
    """``tokens[i]``, ``types[i]`` and ``scores[i]`` belong together; scores only for SentencePiece.

    ``notes`` say where the files of the checkpoint disagree, and what came of it.
    """

    model: str  # "gpt2" or "llama", as GGUF calls byte-level BPE and SentencePiece
    pre: str
    tokens: list[str]
    types: list[int]
    roles: TokenRoles = field(default_factory=TokenRoles)
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    add_space_prefix: bool | None = None
    notes: list[str] = field(default_factory=list)

    def keys(self) -> dict[str, Any]:
        """The ``tokenizer.*`` keys and their values."""
        keys: dict[str, Any] = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": self.tokens,
            "tokenizer.ggml.scores": self.scores,
            "tokenizer.ggml.token_type": self.types,
            "tokenizer.ggml.merges": self.merges,
            "tokenizer.ggml.add_space_prefix": self.add_space_prefix,
            **self.roles.keys(),
        }
        return {key: value for key, value in keys.items() if value is not None and value != []}


def read_tokenizer(
    path: Path, config: dict[str, Any], rows: int, architecture: str
) -> TokenizerMetadata:
    """Read the tokenizer of the checkpoint in ``path`` for an embedding of ``rows`` rows.

    Rows without a token become ``[PAD<id>]`` of the type UNUSED. ``ModelFormatError`` where the files
    contradict themselves or each other, ``UnsupportedModelError`` for other kinds of tokenizers.
    """
    settings = read_optional_object(path / "tokenizer_config.json")
    tokenizer_json = path / "tokenizer.json"
    document: dict[str, Any] = {}
    if tokenizer_json.is_file():
        document = _read_document(tokenizer_json)
    is_byte_level = bool(document) and not document["model"].get("byte_fallback")
    added, notes = read_added_tokens(path, settings, document)
    if is_byte_level:
        made = _from_document(document, added, rows, str(tokenizer_json))
    elif (path / "tokenizer.model").is_file():
        made = _from_sentencepiece(path, added, rows)
    elif document:
        raise UnsupportedModelError(
            f"{tokenizer_json} describes a SentencePiece vocabulary, whose scores it lacks; put the "
            "model's tokenizer.model beside it"
        )
    elif (path / "vocab.json").is_file():
        made = _from_vocab_and_merges(path, settings, added, rows)
    else:
        raise ModelNotFoundError(
            f"{path} has no tokenizer: tokenizer.json, vocab.json with merges.txt, or tokenizer.model"
        )
    templates, more = read_templates(path, settings)
    named, special = read_named_tokens(path, settings)
    sources = TokenSources(
        byte_level=made.model == "gpt2",
        config=config,
        generation=read_optional_object(path / "generation_config.json"),
        settings=settings,
        document=document,
        added=added,
        named=named,
        special=frozenset(special),
        templates=templates,
    )
    made.roles = decide_roles(sources, made.tokens, made.types, str(path))
    made.notes = [*notes, *more, *made.roles.notes]
    for i, kind in made.roles.kinds.items():
        made.types[i] = int(kind)
        if kind == TokenKind.USER_DEFINED:
            made.tokens[i] = made.tokens[i].replace("\u2581", " ")
    if made.model == "gpt2":
        # What a byte-level tokenizer does unless its files say otherwise; readers differ in what they
        # take silence for.
        for role in ("bos", "eos"):
            made.roles.add.setdefault(role, False)
    if architecture == "llama" and isinstance(settings.get("add_prefix_space"), bool):
        made.add_space_prefix = settings["add_prefix_space"]
    return made


def _read_document(path: Path) -> dict[str, Any]:
    document = read_json_object(path, limit=_VOCABULARY_LIMIT)
    model = document.get("model")
    if not isinstance(model, dict):
        raise ModelFormatError(
            f"{path}: model is missing or no object; the file is damaged, fetch it again"
        )
    if model.get("type", "BPE") != "BPE":
        raise UnsupportedModelError(
            f"{path}: the tokenizer is of type {model['type']!r:.60}; this version converts BPE"
        )
    return document


def _from_document(
    document: dict[str, Any], added: list[AddedToken], rows: int, where: str
) -> TokenizerMetadata:
    pre = recognize(document, where)
    model = document["model"]
    rows_of = _Rows(rows, where)
    rows_of.fill(model.get("vocab"))
    rows_of.add(added)
    return rows_of.finish("gpt2", pre, _merges(model.get("merges"), where))


def _from_vocab_and_merges(
    path: Path, settings: dict[str, Any], added: list[AddedToken], rows: int
) -> TokenizerMetadata:
    where = str(path / "tokenizer_config.json")
    pre = recognize_class(settings.get("tokenizer_class"), where)
    rows_of = _Rows(rows, str(path / "vocab.json"))
    rows_of.fill(read_json_object(path / "vocab.json", limit=_VOCABULARY_LIMIT))
    rows_of.add(added)
    merges_path = path / "merges.txt"
    # split("\n"): merges may contain other characters that Python takes for the end of a line.
    text = read_text(merges_path, limit=_VOCABULARY_LIMIT)
    lines = [line.rstrip("\r") for line in text.split("\n")]
    start = int(lines[0].startswith("#version"))
    return rows_of.finish(
        "gpt2", pre, _merges([line for line in lines[start:] if line], str(merges_path))
    )


def _from_sentencepiece(path: Path, added: list[AddedToken], rows: int) -> TokenizerMetadata:
    import sentencepiece

    source = path / "tokenizer.model"
    data = read_bounded(source, limit=_VOCABULARY_LIMIT)
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelFormatError(f"{source} is no SentencePiece model ({error})") from error
    rows_of = _Rows(rows, str(source))
    rows_of.check_count(model.vocab_size())
    scores = [_PADDING_SCORE] * rows
    for i in range(model.vocab_size()):
        kind = TokenKind.NORMAL
        for is_kind, other in (
            (model.is_unknown, TokenKind.UNKNOWN),
            (model.is_control, TokenKind.CONTROL),
            (model.is_unused, TokenKind.UNUSED),
            (model.is_byte, TokenKind.BYTE),
        ):
            if is_kind(i):
                kind = other
                break
        rows_of.put(i, model.id_to_piece(i), kind)
        scores[i] = model.get_score(i)
    # tokenizer.json repeats what the model itself has.
    size = model.vocab_size()
    added[:] = [
        token for token in added if token.id >= size or token.flags.keys() != {"tokenizer.json"}
    ]
    rows_of.add(added)
    for token in added:
        scores[token.id] = _ADDED_SCORE
    made = rows_of.finish("llama", "default", [])
    made.scores = scores
    return made


def _merges(merges: Any, where: str) -> list[str]:
    """Merges as GGUF has them, both halves in one string; a space inside a half becomes ``Ġ``."""
    if not isinstance(merges, list):
        raise ModelFormatError(
            f"{where}: merges is missing or no list; the file is damaged, fetch it again"
        )
    made = []
    for rank, merge in enumerate(merges):
        halves = merge.split(" ") if isinstance(merge, str) else merge
        if not (
            isinstance(halves, list)
            and len(halves) == 2
            and all(isinstance(half, str) and half for half in halves)
        ):
            raise ModelFormatError(f"{where}: merge {rank} is {merge!r:.60}, not a pair of tokens")
        made.append(" ".join(half.replace(" ", "\u0120") for half in halves))
    return made


class _Rows:
    """The tokens and types of all rows of the embedding, padding until a token is put there."""

    def __init__(self, rows: int, where: str) -> None:
        self._where = where
        self._tokens = [f"[PAD{i}]" for i in range(rows)]
        self._types = [int(TokenKind.UNUSED)] * rows
        self._taken = bytearray(rows)

    def check_count(self, count: int) -> None:
        if count > len(self._tokens):
            raise ModelFormatError(
                f"{self._where} has {count:,} tokens, but the embedding has "
                f"{len(self._tokens):,} rows (vocab_size in config.json); the files are of "
                "different models"
            )

    def fill(self, vocab: Any) -> None:
        """Take the ordinary tokens, a mapping of text to id."""
        if not isinstance(vocab, dict) or not vocab:
            raise ModelFormatError(f"{self._where}: the vocabulary is missing or no object")
        self.check_count(len(vocab))
        for text, i in vocab.items():
            if self._is_id(i) and self._taken[i]:
                raise ModelFormatError(
                    f"{self._where}: {self._tokens[i]!r:.60} and {text!r:.60} have the same id, {i}"
                )
            self.put(i, text, TokenKind.NORMAL)

    def add(self, tokens: list[AddedToken]) -> None:
        """Take added tokens, as control tokens until their roles are decided."""
        for token in tokens:
            self.put(token.id, token.text, TokenKind.CONTROL)

    def put(self, i: Any, text: str, kind: TokenKind) -> None:
        if not self._is_id(i):
            raise ModelFormatError(
                f"{self._where}: token {text!r:.60} has the id {i!r:.30}; the embedding has rows 0 to "
                f"{len(self._tokens) - 1:,} (vocab_size in config.json)"
            )
        self._tokens[i], self._types[i], self._taken[i] = text, int(kind), 1

    def finish(self, model: str, pre: str, merges: list[str]) -> TokenizerMetadata:
        return TokenizerMetadata(model, pre, self._tokens, self._types, merges=merges)

    def _is_id(self, i: Any) -> bool:
        return type(i) is int and 0 <= i < len(self._tokens)
