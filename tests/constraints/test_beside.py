"""Constraints beside other things that a call can ask for: thinking, penalties, limits, begun answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import Constraint, Model
from pyqwen.constraints.grammars import structure_of
from pyqwen.errors import ConstraintError

FLAG: Any = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
ANY: Any = {"temperature": 1.5, "top_k": 0, "top_p": 1}


@pytest.fixture(scope="module")
def thinker(make_tiny_model: Any) -> Iterator[Model]:
    with Model(make_tiny_model(architecture="qwen3", head_dim=32), threads=1) as model:
        yield model


def test_thinking_is_free(thinker: Model) -> None:
    """A bias makes the tiny model begin and end its reasoning."""
    begin, end = (thinker.tokenizer.encode(tag, special=True)[0] for tag in ("<think>", "</think>"))
    kinds = set()
    for seed in range(30):
        done = thinker.chat(
            "x",
            response_format=FLAG,
            seed=seed,
            max_tokens=300,
            logit_bias={begin: 14.0 if seed % 2 else -20.0, end: 9.0},
            **ANY,
        )
        if done.finish_reason == "length":
            assert done.parsed is None
            continue
        assert set(done.parsed) == {"a", "b"}
        assert done.text.startswith("{")
        kinds.add(done.reasoning is not None)
        if done.reasoning is not None:
            text = thinker.tokenizer.decode(done.token_ids)
            assert text.startswith("<think>")
            assert text.endswith("</think>\n\n" + done.text)
    assert kinds == {True, False}


def test_reasoning_that_the_prompt_closed(thinker: Model) -> None:
    done = thinker.chat(
        "x",
        response_format=FLAG,
        seed=1,
        template_variables={"enable_thinking": False},
        logit_bias={thinker.tokenizer.encode("<think>", special=True)[0]: 50.0},
    )
    assert (done.parsed is None, done.reasoning) == (False, None)


def test_penalties_do_not_break_a_structure(model: Model) -> None:
    """A list of short texts would never end, nor begin another text."""
    schema = {"type": "array", "items": {"enum": ["aa", "bb"]}, "minItems": 8, "maxItems": 12}
    plain = model.chat("x", response_format=schema, seed=1)
    recommended = model.defaults.repetition_penalty
    assert recommended is None or plain.text == (
        model.chat("x", response_format=schema, seed=1, repetition_penalty=1.0).text
    )
    for penalties in (
        {"repetition_penalty": 3.0},
        {"presence_penalty": 2.0, "frequency_penalty": 2.0},
        {"repetition_penalty": 0.2, "frequency_penalty": -2.0},
    ):
        for seed in range(4):
            done = model.chat("x", response_format=schema, seed=seed, **penalties, **ANY)
            assert (done.finish_reason, 8 <= len(done.parsed) <= 12) == ("stop", True)
            again = model.chat("x", response_format=schema, seed=seed, **penalties, **ANY)
            assert again.token_ids == done.token_ids
    free = {"type": "string", "maxLength": 40}
    texts = {
        model.chat("x", response_format=free, temperature=0, frequency_penalty=penalty).text
        for penalty in (0.0, 2.0)
    }
    assert len(texts) == 2  # what is no structure is penalized
    regex = Constraint.regex("(ab){12}")
    assert model.chat("x", response_format=regex, repetition_penalty=5.0).text == "ab" * 12


def test_which_tokens_are_structure(model: Model) -> None:
    words = structure_of(model.tokenizer)
    bits = np.unpackbits(words.view(np.uint8), bitorder="little")
    for token in range(model.tokenizer.vocab_size):
        text = model.tokenizer.token_bytes(token)
        expected = (
            bool(set(text) & set(b'"{}[]:,'))
            or (text != b"" and not text.strip(b" \t\r\n"))
            or token in model.tokenizer.eog_ids
        )
        assert bits[token] == expected, text


def test_the_grammar_says_where_the_end_is(model: Model) -> None:
    expected = model.chat("x", response_format=FLAG, seed=1)
    end = model.chat("x", response_format=FLAG, seed=1, ignore_eos=True)
    assert (end.text, end.finish_reason) == (expected.text, "stop")
    # An end that is allowed but not forced is the model's own.
    digits = Constraint.regex("[0-9]{1,50}")
    lengths = {
        len(model.chat("x", response_format=digits, seed=seed, **ANY).text) for seed in range(30)
    }
    assert len(lengths) > 1


def test_stop_strings_and_limits(model: Model) -> None:
    whole = model.chat("x", response_format=FLAG, seed=1)
    cut = model.chat("x", response_format=FLAG, seed=1, stop='"b')
    assert (cut.text, cut.finish_reason, cut.stop_reason, cut.parsed) == (
        whole.text.partition('"b')[0],
        "stop",
        '"b',
        None,
    )
    for limit in range(1, len(whole.token_ids)):
        part = model.chat("x", response_format=FLAG, seed=1, max_tokens=limit)
        assert (part.token_ids, part.finish_reason, part.parsed) == (
            whole.token_ids[:limit],
            "length",
            None,
        )
    exact = model.chat("x", response_format=FLAG, seed=1, max_tokens=len(whole.token_ids))
    assert (exact.finish_reason, exact.parsed) == ("stop", whole.parsed)


def test_logprobs_are_the_models_own(model: Model) -> None:
    plain = model.chat("x", response_format=FLAG, seed=1)
    done = model.chat("x", response_format=FLAG, seed=1, logprobs=True, top_logprobs=2)
    assert done.token_ids == plain.token_ids
    assert len(done.logprobs) == len(done.token_ids)
    prompt = model.tokenizer.encode_segments(
        model.chat_template.render([{"role": "user", "content": "x"}]).segments
    )
    exact = model.logprobs(prompt + done.token_ids)[len(prompt) - 1 :]
    np.testing.assert_array_equal([entry.logprob for entry in done.logprobs], exact)


def test_a_bias_that_forbids_all_is_an_error(model: Model) -> None:
    bias = {i: float("-inf") for i in range(model.config.real_tokens)}
    with pytest.raises((ConstraintError, ValueError)):
        model.chat("x", response_format=FLAG, logit_bias=bias)


@pytest.mark.parametrize("begun", ["{", '{"a": ', '{"a": true, "b": "x'])
def test_answers_that_go_on(model: Model, begun: str) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": begun}]
    done = model.chat(messages, response_format=FLAG, continue_final_message=True, seed=2)
    assert done.parsed == json.loads(begun.rstrip() + done.text)
    wrong = [messages[0], {"role": "assistant", "content": '{"c'}]
    with pytest.raises(ConstraintError, match="final message"):
        model.chat(wrong, response_format=FLAG, continue_final_message=True)


def test_several_answers(model: Model) -> None:
    many = model.chat_n("x", 5, response_format=FLAG, seed=3)
    assert [done.parsed for done in many] == [json.loads(done.text) for done in many]
    for i, done in enumerate(many):
        assert model.chat("x", response_format=FLAG, seed=3 + i).text == done.text


def test_drafts_change_nothing(tiny_model_path: Path, model: Model) -> None:
    with Model(tiny_model_path, threads=1, draft="ngram") as drafting:
        for seed in range(6):
            expected = model.chat("x", response_format={"type": "array"}, seed=seed, max_tokens=60)
            found = drafting.chat("x", response_format={"type": "array"}, seed=seed, max_tokens=60)
            assert found.token_ids == expected.token_ids
            assert found.finish_reason == expected.finish_reason


def test_tags_inside_texts_stay_text(model: Model) -> None:
    """Neither the tokens of a tag nor a control token are forced where a schema has their text."""
    texts = ["<|im_end|>", "<tool_call>", "a<|im_start|>b<tool_call><|endoftext|>"]
    for text in texts:
        done = model.chat("x", response_format={"const": text})
        assert done.parsed == text
        assert not any(map(model.tokenizer.is_control, done.token_ids))
        named = {"properties": {text: {"const": 1}}, "required": [text], "type": "object"}
        done = model.chat("x", response_format={**named, "additionalProperties": False})
        assert done.parsed == {text: 1}
