"""The grammars of one model: its vocabulary for llguidance, made once it is needed, and what was compiled.

Everything here may be called from any thread; what takes long is done by the thread that asks, and nothing
of it in the engine's.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyqwen._native import Mask
from pyqwen.constraints.compiling import Compiled, compile_constraint
from pyqwen.constraints.constraint import Constraint
from pyqwen.constraints.guide import Guide, MaskThread
from pyqwen.constraints.llguidance import GrammarMatcher, GrammarTokenizer
from pyqwen.text.vocabulary import TokenKind

if TYPE_CHECKING:
    from pyqwen.text.tokenizer import Tokenizer

# Tokens that hold nothing but such texts are masked together: blanks, and what strings of JSON are made of.
_SLICES = (
    r"[\x20\x0A\x0D\x09]+",
    r'[^"\\\x00-\x1F\x7F]{1,10}',
    r'[^"\\\x00-\x1F\x7F]{1,30}',
    r'[^"\\\x00-\x1F\x7F]+',
)
_LIMITS = {"max_lexer_states": 50_000}  # of 1 to 2 kB each
_MOST_GRAMMARS = 64
_MOST_TEXT = 4 * 2**20  # characters of the grammars that are kept


class Grammars:
    """Compiles grammars for one model and keeps the latest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._source = tokenizer
        self._tokenizer: GrammarTokenizer | None = None
        self._setup = threading.Lock()
        self._lock = threading.Lock()
        self._compiled: OrderedDict[Constraint, Compiled] = OrderedDict()
        self._text = 0
        self._turns: dict[Constraint, threading.Lock] = {}
        self._masks = MaskThread()
        self._structure: Mask | None = None

    def compiled(self, constraint: Constraint) -> Compiled:
        """Return a constraint as compiled, now or before; ``ConstraintError`` says what is wrong."""
        with self._lock:
            turn = self._turns.setdefault(constraint, threading.Lock())
        try:
            with turn:  # of several who want the same, one compiles it
                found = self.find(constraint)
                if found is None:
                    found = compile_constraint(constraint, self._build)
                    self._keep(constraint, found)
                return found
        finally:
            with self._lock:
                self._turns.pop(constraint, None)

    def find(self, constraint: Constraint) -> Compiled | None:
        """Return a constraint that was compiled before; takes no time."""
        with self._lock:
            found = self._compiled.get(constraint)
            if found is not None:
                self._compiled.move_to_end(constraint)
            return found

    def guide(self, compiled: Compiled) -> Guide:
        """Return what guides a new answer."""
        return Guide(compiled.matcher.copy(), self._words, self._masks.submit)

    def structural_tokens(self) -> Mask:
        """A bit for each token that JSON is structured with, or that ends an answer: see ``structure_of``."""
        if self._structure is None:
            self._structure = structure_of(self._source)
        return self._structure

    def close(self) -> None:
        """Let the thread beside the engine end."""
        self._masks.close()

    @property
    def _words(self) -> int:
        assert self._tokenizer is not None, "nothing was compiled"
        return self._tokenizer.words

    def _build(self, kind: str, grammar: str) -> GrammarMatcher:
        with self._setup:
            if self._tokenizer is None:
                self._tokenizer = grammar_tokenizer(self._source)
        matcher = self._tokenizer.matcher(kind, grammar, _LIMITS)
        # Some grammars that nothing can follow are only found so here.
        matcher.copy().write_mask(np.empty(self._words, np.uint32))
        return matcher

    def _keep(self, constraint: Constraint, compiled: Compiled) -> None:
        dropped = []
        with self._lock:
            if constraint in self._compiled:
                return
            self._compiled[constraint] = compiled
            self._text += len(constraint.text)
            while len(self._compiled) > _MOST_GRAMMARS or (
                self._text > _MOST_TEXT and len(self._compiled) > 1
            ):
                oldest, unused = self._compiled.popitem(last=False)
                self._text -= len(oldest.text)
                dropped.append(unused)  # freed when the lock is


def grammar_tokenizer(tokenizer: Tokenizer) -> GrammarTokenizer:
    """Make a model's vocabulary what llguidance needs: half a second for 150,000 tokens.

    It is made of the tokens' own bytes. What stands for no text of an answer, control tokens, tags such as
    ``<tool_call>`` and padding, can then only come where a grammar names it.
    """
    text, lengths = tokenizer.all_bytes()
    ends = np.cumsum(lengths, dtype=np.int64)
    parts, tags, at = [], [], 0
    for token in _without_text(tokenizer):
        end = int(ends[token])
        start = end - int(lengths[token])
        name = b"\xff" + (text[start:end] or b"<[padding %d]>" % token)
        if start < end and not tokenizer.is_control(token):
            tags.append(text[start:end].decode("utf-8", "replace"))
        parts += [text[at:start], name]
        lengths[token] = len(name)
        at = end
    parts.append(text[at:])
    return GrammarTokenizer(
        b"".join(parts),
        lengths,
        end_ids=sorted(tokenizer.eog_ids),
        encode=_encoder(tokenizer, tags),
        slices=_SLICES,
    )


def structure_of(tokenizer: Tokenizer) -> Mask:
    """A bit for each token that has a quote, bracket, colon or comma, is blank, or ends an answer.

    A penalty of these would make strings and lists go on that should end.
    """
    text, lengths = tokenizer.all_bytes()
    chars = np.frombuffer(text, np.uint8)
    ends = np.cumsum(lengths, dtype=np.int64)

    def count(kinds: bytes) -> npt.NDArray[np.int64]:
        """How many bytes of these kinds each token has."""
        so_far = np.zeros(len(chars) + 1, np.int64)
        np.cumsum(np.isin(chars, np.frombuffer(kinds, np.uint8)), out=so_far[1:])
        counts: npt.NDArray[np.int64] = so_far[ends] - so_far[ends - lengths]
        return counts

    chosen = (count(b'"{}[]:,') > 0) | ((count(b" \t\r\n") == lengths) & (lengths > 0))
    chosen[list(tokenizer.eog_ids)] = True
    bits = np.packbits(chosen, bitorder="little")
    return np.pad(bits, (0, -len(bits) % 4)).view(np.uint32)


def _without_text(tokenizer: Tokenizer) -> list[int]:
    kinds = np.frombuffer(tokenizer.kinds, np.uint8)
    normal = (kinds == TokenKind.NORMAL) | (kinds == TokenKind.BYTE)
    return [i for i in map(int, np.flatnonzero(~normal)) if not _is_text(tokenizer, i)]


def _is_text(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a token that is not a normal one is a word of texts, such as a row of blanks."""
    if tokenizer.is_control(token) or tokenizer.is_padding(token):
        return False
    text = tokenizer.token_bytes(token)
    return not (text.startswith(b"<") and text.endswith(b">"))


def _encoder(tokenizer: Tokenizer, tags: list[str]) -> Callable[[bytes], list[int]] | None:
    """What cuts the text of an answer into tokens, none of which is one of the ``tags``.

    SentencePiece's tokens depend on where a text stands: for these nothing can be forced.
    """
    if not tokenizer.is_byte_level:
        return None
    tag = re.compile("|".join(map(re.escape, tags)) or "(?!)")

    def encode(text: bytes) -> list[int]:
        ids: list[int] = []
        rest = text.decode("utf-8", "replace")
        while found := tag.search(rest):
            cut = found.start() + 1  # the two halves of a tag make none
            ids += tokenizer.encode(rest[:cut], add_bos=False)
            rest = rest[cut:]
        return ids + tokenizer.encode(rest, add_bos=False)

    return encode
