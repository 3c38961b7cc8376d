"""The guide of one answer: its masks are what the grammar allows, and going back leaves no trace."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Constraint, Model
from pyqwen.constraints.grammars import grammar_tokenizer
from pyqwen.constraints.guide import Guide
from pyqwen.constraints.llguidance import GrammarRefused, GrammarTokenizer

SCHEMA: Any = {
    "type": "object",
    "properties": {
        "name": {"enum": ["anna", "annabel", "<|im_end|>"]},
        "n": {"type": "integer", "minimum": 0, "maximum": 120},
        "fixed": {"const": "always the same <tool_call> text"},
    },
    "required": ["name", "n", "fixed"],
    "additionalProperties": False,
}


@pytest.fixture
def guide(model: Model) -> Guide:
    grammars = model._grammar_compiler()
    return grammars.guide(grammars.compiled(Constraint.json(SCHEMA, whitespace="compact")))


def allowed(guide: Guide) -> set[int]:
    bits = np.unpackbits(guide.mask().get().view(np.uint8), bitorder="little")
    return {int(token) for token in np.flatnonzero(bits)}


def test_masks_are_what_the_grammar_allows(model: Model, guide: Guide) -> None:
    """Compared with trying every token, along a random way; padding is never allowed."""
    random = np.random.default_rng(3)
    text = b""
    while not guide.finished():
        mask = allowed(guide)
        forced = guide.forced()
        valid = {
            token
            for token in range(model.tokenizer.vocab_size)
            if guide._matcher.valid([token]) == 1
        }
        assert mask == ({forced[0]} if forced else valid)  # of what must come, the tokenizer's own
        assert mask <= valid
        assert not any(model.tokenizer.is_padding(token) for token in mask)
        assert not mask & model.tokenizer.eog_ids
        token = int(random.choice(sorted(mask)))
        guide.accept(token)
        text += model.tokenizer.token_bytes(token)
    assert text.decode().startswith('{"name":"')
    assert allowed(guide) == set(model.tokenizer.eog_ids)


def test_going_back(model: Model, guide: Guide) -> None:
    answer = '{"name":"annabel","n":42,"fixed":"always the same <tool_call> text"}'
    tokens = [
        next(i for i in range(330) if model.tokenizer.token_bytes(i) == bytes([value]))
        for value in answer.encode()
    ]
    seen = []
    for token in tokens:
        seen.append((allowed(guide), guide.forced()))
        guide.accept(token)
    assert guide.finished()
    random = np.random.default_rng(1)
    at = len(tokens)
    for _ in range(60):
        to = int(random.integers(0, len(tokens)))
        if to < at:
            guide.rewind(at - to)
        for token in tokens[at:to]:
            guide.accept(token)
        at = to
        assert (allowed(guide), guide.forced()) == seen[at]
        assert not guide.finished()


def test_forced_tokens_are_the_tokenizers_own(model: Model, guide: Guide) -> None:
    """The text that must come, cut as the tokenizer cuts it, without a tag or control token."""
    for char in '{"name":"anna","n":7,"':
        guide.accept(next(i for i in range(330) if model.tokenizer.token_bytes(i) == char.encode()))
    written = ""
    while not guide.finished():
        forced = guide.forced()
        tokens = forced or [min(allowed(guide))]
        written += model.tokenizer.decode(tokens)
        for token in tokens:
            assert not model.tokenizer.is_control(token)
            guide.accept(token)
    assert written == 'fixed":"always the same <tool_call> text"}'


def test_grammars_that_are_refused_say_why(model: Model) -> None:
    tokenizer = grammar_tokenizer(model.tokenizer)
    for kind, grammar in (("regex", "(a"), ("lark", "x"), ("json", "{"), ("json", '{"not": {}}')):
        with pytest.raises(GrammarRefused) as refused:
            tokenizer.matcher(kind, grammar, {})
        assert str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(GrammarRefused, match="U\\+0000"):
        tokenizer.matcher("regex", "a\0b", {})
    matcher = tokenizer.matcher("regex", "ab", {})
    with pytest.raises(GrammarRefused):
        matcher.consume([10**6])
    with pytest.raises(ValueError, match="words"):
        tokenizer.matcher("regex", "a", {}).write_mask(np.zeros(1, np.uint32))


def test_a_vocabulary_without_an_end_is_refused() -> None:
    with pytest.raises(Exception, match="vocabulary"):
        GrammarTokenizer(b"ab", np.array([1, 1], np.uint32), end_ids=[7], encode=None, slices=())


@pytest.mark.smollm
def test_a_real_vocabulary_keeps_nobody_waiting(smollm_path: Path) -> None:
    """It is made within a second of processor time, while other threads run."""
    with Model(smollm_path, threads=1, context=256) as model:
        longest = [0.0]
        stop = threading.Event()

        def beat() -> None:
            last = time.thread_time(), time.process_time()
            while not stop.is_set():
                time.sleep(0.001)
                now = time.thread_time(), time.process_time()
                longest[0] = max(longest[0], now[1] - last[1])
                last = now

        thread = threading.Thread(target=beat)
        thread.start()
        begin = time.process_time()
        grammar_tokenizer(model.tokenizer)
        spent = time.process_time() - begin
        stop.set()
        thread.join()
    assert spent < 0.8
    assert longest[0] < 0.1  # of it, at once: the lock is given back, or taken away
