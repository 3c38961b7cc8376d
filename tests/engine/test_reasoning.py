"""What a thinking model writes before its answer is told apart from the answer, whole and in streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pyqwen import Model
from pyqwen.loading.generation_defaults import read_defaults
from pyqwen.results import ChatCompletion


@pytest.fixture(scope="module")
def model(make_tiny_model) -> Iterator[Model]:
    """One that thinks."""
    with Model(make_tiny_model(architecture="qwen3"), threads=1) as model:
        yield model


@pytest.fixture
def thinking(model, spelling, byte_tokens) -> dict:
    """Settings that make it write reasoning and an answer."""
    tokens = [*byte_tokens(model, "Yes!"), *byte_tokens(model, "Hm. ")]
    answer, thought = tokens[:4], tokens[4:]
    (begin,) = model.tokenizer.encode("<think>", special=True)
    (end,) = model.tokenizer.encode("</think>", special=True)
    (newline,) = byte_tokens(model, "\n")
    return spelling(model, [begin, *thought, end, newline, *answer]) | {"max_tokens": 11}


def test_answer_and_reasoning_are_apart(model, thinking) -> None:
    reply = model.chat("Is it?", **thinking)
    assert (reply.text, reply.reasoning) == ("Yes!", "Hm. ")
    assert len(reply.token_ids) == reply.usage.completion_tokens == 11
    assert reply.usage.reasoning_tokens == 7  # the tags and the newline behind them, too
    assert reply.message["content"] == "Yes!"
    assert model.tokenizer.decode(reply.message["token_ids"]) == "Yes!"


def test_streams_tell_them_apart_as_they_come(model, thinking) -> None:
    with model.stream_chat("Is it?", **thinking) as stream:
        chunks = list(stream)
    assert "".join(chunk.reasoning for chunk in chunks) == "Hm. "
    assert "".join(chunk.text for chunk in chunks) == "Yes!"
    assert not any(chunk.text and chunk.reasoning for chunk in chunks)
    assert sum(len(chunk.token_ids) for chunk in chunks) == 11
    assert isinstance(stream.completion, ChatCompletion)
    assert stream.completion.reasoning == "Hm. "


def test_asyncio(model, thinking) -> None:
    async def ask() -> tuple[str | None, str]:
        reply = await model.achat("Is it?", **thinking)
        stream = model.astream_chat("Is it?", template_variables={}, **thinking)
        return reply.reasoning, "".join([chunk.reasoning async for chunk in stream])

    assert asyncio.run(ask()) == ("Hm. ", "Hm. ")


def test_thinking_that_is_cut_off_has_no_answer(model, thinking) -> None:
    reply = model.chat("Is it?", **thinking | {"max_tokens": 4})
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("", "Hm.", "length")
    assert reply.usage.reasoning_tokens == 4


def test_stop_strings_are_found_in_both(model, thinking) -> None:
    reply = model.chat("Is it?", stop="es", **thinking)
    assert (reply.text, reply.reasoning, reply.stop_reason) == ("Y", "Hm. ", "es")
    reply = model.chat("Is it?", stop="m.", **thinking)
    assert (reply.text, reply.reasoning) == ("", "H")


def test_the_conversation_goes_on_without_the_reasoning(model, thinking) -> None:
    history = [{"role": "user", "content": "Is it?"}]
    reply = model.chat(history, **thinking)
    history += [reply.message, {"role": "user", "content": "Sure?"}]
    prompt = model.chat_template.render(history)
    assert "Hm" not in prompt.text
    assert "Yes!" in prompt.text
    tokens = model.tokenizer.encode_segments(prompt.segments)
    assert model.chat(history, max_tokens=1).usage.prompt_tokens == len(tokens)


def test_thinking_can_be_turned_off(model, spelling, byte_tokens) -> None:
    settings = spelling(model, byte_tokens(model, "Yes!")) | {"max_tokens": 4}
    on = model.chat("Is it?", **settings)
    off = model.chat("Is it?", template_variables={"enable_thinking": False}, **settings)
    assert (off.text, off.reasoning) == ("Yes!", None)
    assert off.usage.reasoning_tokens == 0
    assert off.usage.prompt_tokens > on.usage.prompt_tokens


def test_settings_are_those_for_answers_without_thinking() -> None:
    metadata = {"general.architecture": "qwen3", "general.name": "Qwen3 0.6B"}
    defaults = read_defaults(metadata, hidden=1024, layers=28)
    assert (defaults.params.temperature, defaults.params.top_p) == (0.6, 0.95)
    without = defaults.without_thinking
    assert (without.temperature, without.top_p, without.top_k) == (0.7, 0.8, 20)
    own = read_defaults({**metadata, "general.sampling.temp": 0.3}, hidden=1024, layers=28)
    assert (own.without_thinking.temperature, own.without_thinking.top_p) == (0.3, 0.8)


def test_models_that_do_not_think_are_left_alone(tiny_model_path, spelling, byte_tokens) -> None:
    with Model(tiny_model_path, threads=1) as plain:
        tokens = byte_tokens(plain, "<thi")
        reply = plain.chat("Is it?", max_tokens=4, **spelling(plain, tokens))
        assert (reply.text, reply.reasoning) == ("<thi", None)
