"""llguidance, the library that says which tokens may follow by a grammar: https://github.com/guidance-ai/llguidance.

Alone touches it, by its C interface (parser/llguidance.h in its repository). Its Python interface holds the
interpreter's lock for half a second while it makes a tokenizer; here that lock is free wherever work is
done, and kept where a call takes a microsecond: getting it back from a busy thread would take milliseconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from pyqwen.errors import ConstraintError, OutOfMemoryError, PyQwenError

Words = npt.NDArray[np.uint32]

_MESSAGE_BYTES = 4096
_INIT_BYTES = (
    1024  # more than LlgConstraintInit has: a newer library may know more fields, which are 0
)
_MOST_FORCED = 512  # tokens that one call may force

_TokenizeFn = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint32),
    ctypes.c_size_t,
)


class _Limits(ctypes.Structure):
    _fields_ = [
        ("max_items_in_row", ctypes.c_size_t),
        ("initial_lexer_fuel", ctypes.c_uint64),
        ("step_lexer_fuel", ctypes.c_uint64),
        ("step_max_items", ctypes.c_size_t),
        ("max_lexer_states", ctypes.c_size_t),
        ("max_grammar_size", ctypes.c_size_t),
        ("precompute_large_lexemes", ctypes.c_bool),
        ("verbose_errors", ctypes.c_bool),
    ]


class _Init(ctypes.Structure):
    _fields_ = [
        ("tokenizer", ctypes.c_void_p),
        ("log_buffer_level", ctypes.c_uint32),
        ("log_stderr_level", ctypes.c_uint32),
        ("ff_tokens_ok", ctypes.c_bool),
        ("backtrack_ok", ctypes.c_bool),
        ("limits", _Limits),
    ]


class _TokenizerInit(ctypes.Structure):
    """LlgTokenizerInitV2: its size tells the library which fields there are."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("vocab_size", ctypes.c_uint32),
        ("tok_eos", ctypes.c_uint32),
        ("token_lens", ctypes.c_void_p),
        ("token_bytes", ctypes.c_char_p),
        ("tokenizer_json", ctypes.c_char_p),
        ("tokenize_assumes_string", ctypes.c_bool),
        ("tokenize_fn", _TokenizeFn),
        ("use_approximate_greedy_tokenize_fn", ctypes.c_bool),
        ("tokenize_user_data", ctypes.c_void_p),
        ("slices", ctypes.POINTER(ctypes.c_char_p)),
        ("tok_eos_extra", ctypes.POINTER(ctypes.c_uint32)),
        ("tok_eos_extra_count", ctypes.c_uint32),
    ]


# Result and arguments; whether the interpreter's lock is released meanwhile.
_FUNCTIONS: dict[str, tuple[Any, list[Any], bool]] = {
    "new_tokenizer_v2": (
        ctypes.c_void_p,
        [ctypes.POINTER(_TokenizerInit), ctypes.c_char_p, ctypes.c_size_t],
        True,
    ),
    "free_tokenizer": (None, [ctypes.c_void_p], True),
    "constraint_init_set_defaults": (None, [ctypes.c_void_p, ctypes.c_void_p], False),
    "new_matcher": (
        ctypes.c_void_p,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p],
        True,
    ),
    "clone_matcher": (ctypes.c_void_p, [ctypes.c_void_p], True),
    "free_matcher": (None, [ctypes.c_void_p], True),
    "matcher_get_error": (ctypes.c_char_p, [ctypes.c_void_p], False),
    "matcher_is_error": (ctypes.c_bool, [ctypes.c_void_p], False),
    "matcher_is_stopped": (ctypes.c_bool, [ctypes.c_void_p], False),
    "matcher_is_accepting": (ctypes.c_bool, [ctypes.c_void_p], False),
    "matcher_rollback": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_size_t], False),
    "matcher_consume_tokens": (
        ctypes.c_int32,
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],
        False,
    ),
    "matcher_validate_tokens": (
        ctypes.c_int32,
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],
        False,
    ),
    "matcher_compute_ff_tokens": (
        ctypes.c_int32,
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],
        False,
    ),
    "matcher_compute_mask_into": (
        ctypes.c_int32,
        [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t],
        True,
    ),
}


class _Library:
    """The functions of the library, without their prefix."""

    def __init__(self, path: str) -> None:
        free, locked = ctypes.CDLL(path), ctypes.PyDLL(path)
        for name, (result, arguments, releases) in _FUNCTIONS.items():
            function = getattr(free if releases else locked, f"llg_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)


@cache
def library() -> _Library:
    """Open the library; ``PyQwenError`` says how to get it where it is not installed."""
    package = find_spec("llguidance")
    places = package.submodule_search_locations if package is not None else None
    found = PathFinder.find_spec("llguidance._lib", list(places)) if places else None
    if found is None or found.origin is None:
        raise PyQwenError(
            "constraints need the package llguidance, which is not installed: pip install llguidance"
        )
    try:
        return _Library(found.origin)
    except (OSError, AttributeError) as error:
        raise PyQwenError(
            f"this llguidance cannot be used ({error}): pip install 'llguidance>=1.9,<2'"
        ) from error


class GrammarTokenizer:
    """A vocabulary as the library wants it, for any number of threads."""

    def __init__(
        self,
        text: bytes,
        lengths: npt.NDArray[np.uint32],
        *,
        end_ids: Sequence[int],
        encode: Callable[[bytes], Sequence[int]] | None,
        slices: Sequence[str],
    ) -> None:
        """``text`` is the bytes of all tokens, of which each has as many as ``lengths`` says; those
        that stand for no text begin with 0xFF. ``encode`` cuts a text into tokens, in any thread;
        without it no tokens are forced.
        ``slices`` are patterns of texts whose tokens are looked at together."""
        self._library = library()
        self._callback = _callback(encode) if encode is not None else _TokenizeFn()  # kept
        self.words = (len(lengths) + 31) // 32
        lengths = np.ascontiguousarray(lengths)
        extra = (ctypes.c_uint32 * max(1, len(end_ids) - 1))(*end_ids[1:])
        patterns = (ctypes.c_char_p * (len(slices) + 1))(*(s.encode() for s in slices), None)
        init = _TokenizerInit(
            struct_size=ctypes.sizeof(_TokenizerInit),
            vocab_size=len(lengths),
            tok_eos=end_ids[0],
            token_lens=lengths.ctypes.data,
            token_bytes=text,
            tokenize_assumes_string=True,
            tokenize_fn=self._callback,
            use_approximate_greedy_tokenize_fn=encode is None,
            slices=patterns,
            tok_eos_extra=extra,
            tok_eos_extra_count=len(end_ids) - 1,
        )
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._pointer = self._library.new_tokenizer_v2(init, message, _MESSAGE_BYTES)
        if not self._pointer:
            reason = message.value.decode("utf-8", "replace")
            raise ConstraintError(f"this model's vocabulary cannot be constrained: {reason}")

    def matcher(self, kind: str, grammar: str, limits: dict[str, int]) -> GrammarMatcher:
        """Compile a grammar (``json``, ``regex`` or ``lark``); ``GrammarRefused`` says what is wrong."""
        if "\0" in grammar:
            raise GrammarRefused("a grammar must not hold the character U+0000; write it escaped")
        memory = ctypes.create_string_buffer(_INIT_BYTES)
        self._library.constraint_init_set_defaults(memory, self._pointer)
        init = _Init.from_buffer(memory)
        init.log_buffer_level = init.log_stderr_level = 0
        init.limits.verbose_errors = False
        for name, value in limits.items():
            setattr(init.limits, name, value)
        pointer = self._library.new_matcher(
            memory, kind.encode(), grammar.encode("utf-8", "surrogatepass")
        )
        return GrammarMatcher(self, pointer)

    def __del__(self) -> None:
        pointer = self.__dict__.pop("_pointer", None)
        if pointer:
            self._library.free_tokenizer(pointer)


def _callback(encode: Callable[[bytes], Sequence[int]]) -> Any:
    def tokenize(_: Any, data: Any, size: int, out: Any, room: int) -> int:
        try:
            ids = encode(ctypes.string_at(data, size))
        except Exception:  # there is nobody to raise it to; without tokens nothing is forced
            return 0
        for i in range(min(len(ids), room)):
            out[i] = ids[i]
        return len(ids)

    return _TokenizeFn(tokenize)


class GrammarRefused(Exception):
    """The library does not take a grammar, or cannot go on with it; the text says why."""


class GrammarMatcher:
    """A place in a text that follows a grammar; one thread at a time, which callers see to.

    A method that raises ``GrammarRefused`` leaves a matcher that can do nothing any more.
    """

    def __init__(self, tokenizer: GrammarTokenizer, pointer: int | None) -> None:
        self._library = tokenizer._library
        self._tokenizer = tokenizer
        self._pointer = pointer
        if not pointer:
            raise OutOfMemoryError("out of memory: a grammar does not fit")
        self._check()

    def copy(self) -> GrammarMatcher:
        """Return a matcher in the same place that shares nothing with this one."""
        return GrammarMatcher(self._tokenizer, self._library.clone_matcher(self._pointer))

    def write_mask(self, words: Words) -> None:
        """Write which tokens may come next, a bit each, into an array of ``tokenizer.words``.

        At the end of a text these are the end tokens.
        """
        if words.dtype != np.uint32 or words.shape != (self._tokenizer.words,):
            raise ValueError(f"a mask has {self._tokenizer.words} words of 32 bits")
        address = words.ctypes.data
        if self._library.matcher_compute_mask_into(self._pointer, address, words.nbytes) != 0:
            self._check()

    def forced(self) -> list[int]:
        """Return the tokens that must come next, in the tokenizer's own cut; [] if there is a choice."""
        out = (ctypes.c_uint32 * _MOST_FORCED)()
        n = self._library.matcher_compute_ff_tokens(self._pointer, out, _MOST_FORCED)
        if n < 0:
            self._check()
        return list(out[: max(n, 0)])

    def consume(self, tokens: Sequence[int]) -> None:
        """Go on behind tokens that may come next."""
        array = (ctypes.c_uint32 * len(tokens))(*tokens)
        if self._library.matcher_consume_tokens(self._pointer, array, len(tokens)) != 0:
            self._check()

    def valid(self, tokens: Sequence[int]) -> int:
        """Return how many of the tokens may come next, one after the other; stays where it is."""
        array = (ctypes.c_uint32 * len(tokens))(*tokens)
        n = self._library.matcher_validate_tokens(self._pointer, array, len(tokens))
        if n < 0:
            self._check()
        return int(n)

    def rewind(self, n: int) -> None:
        """Go back before the last ``n`` tokens."""
        if self._library.matcher_rollback(self._pointer, n) != 0:
            self._check()

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        return bool(self._library.matcher_is_accepting(self._pointer))

    @property
    def is_over(self) -> bool:
        """Whether the text is complete, and nothing can follow."""
        return bool(self._library.matcher_is_stopped(self._pointer))

    def _check(self) -> None:
        if self._library.matcher_is_error(self._pointer):
            text = self._library.matcher_get_error(self._pointer) or b"no reason given"
            raise GrammarRefused(text.decode("utf-8", "replace").partition("\n")[0].strip())

    def __del__(self) -> None:
        pointer = self.__dict__.pop("_pointer", None)
        if pointer:
            self._library.free_matcher(pointer)
