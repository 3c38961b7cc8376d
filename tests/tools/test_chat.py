"""Tools in chats with a tiny model: whatever it would say, the grammar makes it call a tool."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from pyqwen import Constraint, Model
from pyqwen.results import ChatCompletion, Chunk, ToolCall, ToolCallDelta
from pyqwen.tools.loop import ToolResult


class Unit(enum.Enum):
    C = "c"
    F = "f"


def weather(city: Literal["Oslo", "Rome"], unit: Unit = Unit.C) -> str:
    """Weather of a city."""
    return f"{city}: 7 {unit.value}"


async def zone(hours: Literal[1, 2]) -> int:
    """A time zone."""
    return hours


TOOLS = [weather, zone]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 400}


@pytest.fixture(scope="module")
def model(make_tiny_model) -> Iterator[Model]:
    with Model(make_tiny_model(context=4096), threads=1) as model:
        yield model


def check(calls: list[ToolCall]) -> None:
    for call in calls:
        assert call.error is None
        assert call.name in ("weather", "zone")
        needed = {"weather": "city", "zone": "hours"}[call.name]
        assert needed in call.arguments
        assert set(call.arguments) <= {"city", "unit", "hours"}


def assembled(chunks: list[Chunk]) -> list[tuple[str | None, str | None, str]]:
    """What a client puts together of the deltas."""
    calls: list[tuple[str | None, str | None, str]] = []
    for delta in (delta for chunk in chunks for delta in chunk.tool_calls):
        if delta.id is not None:
            assert delta.index == len(calls)
            calls.append((delta.id, delta.name, ""))
        call, name, arguments = calls[delta.index]
        calls[delta.index] = (call, name, arguments + delta.arguments)
    return calls


def test_required(model) -> None:
    reply = model.chat("Weather?", tools=TOOLS, tool_choice="required", **GREEDY)
    assert reply.finish_reason == "tool_calls"
    assert reply.text == ""
    assert reply.tool_calls
    check(reply.tool_calls)
    assert len({call.id for call in reply.tool_calls}) == len(reply.tool_calls)


def test_named_means_this_tool_once(model) -> None:
    for choice in ("zone", {"type": "function", "function": {"name": "zone"}}):
        reply = model.chat("Weather?", tools=TOOLS, tool_choice=choice, **GREEDY)
        (call,) = reply.tool_calls
        assert call.name == "zone"
        assert call.arguments["hours"] in (1, 2)


def test_one_call_where_several_are_not_wanted(model) -> None:
    options = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, **GREEDY}
    assert len(model.chat("Weather?", **options).tool_calls) == 1
    with model.stream_chat("Weather?", **options) as stream:
        assert len(assembled(list(stream))) == 1


def test_streams_and_asyncio_give_the_same(model) -> None:
    options = {"tools": TOOLS, "tool_choice": "required", "seed": 1, **GREEDY}
    whole = model.chat("Weather?", **options)
    with model.stream_chat("Weather?", **options) as stream:
        chunks = list(stream)
    expected = [(call.id, call.name, call.arguments_json) for call in whole.tool_calls]
    assert assembled(chunks) == expected
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [c.finish_reason for c in chunks if c.finish_reason] == ["tool_calls"]
    assert stream.completion.tool_calls == whole.tool_calls

    async def ask() -> tuple[ChatCompletion, list[Chunk]]:
        reply = await model.achat("Weather?", **options)
        return reply, [chunk async for chunk in model.astream_chat("Weather?", **options)]

    reply, chunks = asyncio.run(ask())
    assert (reply.tool_calls, assembled(chunks)) == (whole.tool_calls, expected)


def test_an_answer_in_words(model, byte_tokens) -> None:
    """The call that means it is nowhere to be seen, in the text, the stream or the next prompt."""
    (a,) = byte_tokens(model, "a")
    options = {"tools": [zone], "logit_bias": {a: 60}, "temperature": 0, "max_tokens": 90}
    reply = model.chat("Hello!", **options)
    assert reply.tool_calls == []
    assert reply.finish_reason == "length"
    assert reply.text
    assert "tool_call" not in reply.text
    assert "answer" not in reply.text
    assert len(reply.token_ids) == 90 > len(reply.content_ids or [])
    assert model.tokenizer.decode(reply.message["token_ids"]) == reply.text
    with model.stream_chat("Hello!", **options) as stream:
        assert "".join(chunk.text for chunk in stream) == reply.text
    history = [
        {"role": "user", "content": "Hello!"},
        reply.message,
        {"role": "user", "content": "?"},
    ]
    again = model.chat(history, tools=[zone], max_tokens=1)
    assert again.usage.cached_tokens >= reply.usage.prompt_tokens
    plain = model.chat(history, max_tokens=1)
    assert plain.usage.prompt_tokens < again.usage.prompt_tokens, "without tools nothing is added"


def test_the_conversation_goes_on_with_the_tokens_of_the_calls(model) -> None:
    history: list[dict[str, Any]] = [{"role": "user", "content": "Weather?"}]
    options = {"tools": TOOLS, "tool_choice": "required", **GREEDY}
    reply = model.chat(history, **options)
    message = reply.message
    assert message["content"] is None
    assert message["tool_calls"][0] == {
        "id": reply.tool_calls[0].id,
        "type": "function",
        "function": {
            "name": reply.tool_calls[0].name,
            "arguments": reply.tool_calls[0].arguments_json,
        },
    }
    history += [message, {"role": "tool", "tool_call_id": "x", "content": "7 degrees"}]
    again = model.chat(history, **options)
    assert again.usage.cached_tokens >= reply.usage.prompt_tokens + len(message["token_ids"]) - 1
    del message["token_ids"]
    assert model.chat(history, **options).usage.prompt_tokens > 0
    other = {**reply.message, "content": "Hm"}
    with pytest.raises(
        ValueError, match=r"messages\[1\]\.token_ids are not the tokens of its content"
    ):
        model.chat([history[0], other], **options)
    other = {**reply.message, "tool_calls": [{"name": "zone", "arguments": {"hours": 7}}]}
    with pytest.raises(ValueError, match=r"messages\[1\]\.token_ids"):
        model.chat([history[0], other], **options)


def test_no_tools_are_offered_with_none(model) -> None:
    plain = model.chat("Hi", max_tokens=4, temperature=0)
    for options in ({"tool_choice": "none", "tools": TOOLS}, {"tools": []}, {"tools": None}):
        reply = model.chat("Hi", max_tokens=4, temperature=0, **options)
        assert (reply.text, reply.usage.prompt_tokens) == (plain.text, plain.usage.prompt_tokens)


def test_a_format_holds_for_the_answer_in_words(model, byte_tokens) -> None:
    (a,) = byte_tokens(model, "a")
    for wanted in (Constraint.choice(["yes", "no"]), {"enum": ["yes", "no"]}):
        options = {"tools": [zone], "response_format": wanted, "temperature": 0}
        reply = model.chat("Is it?", logit_bias={a: 60}, **options)
        assert reply.parsed in ("yes", "no")
        assert reply.finish_reason == "stop"
        called = model.chat("Is it?", tool_choice="zone", **options)
        assert (called.finish_reason, called.parsed) == ("tool_calls", None)
    with pytest.raises(ValueError, match="not a whole grammar"):
        model.chat("?", tools=[zone], response_format=Constraint.lark('start: "a"'))


def test_schemas_that_no_grammar_can_express_bind_nothing(model) -> None:
    odd = {"type": "object", "properties": {"a": {"$ref": "https://example.org/x"}}}
    tool = {"type": "function", "function": {"name": "odd", "parameters": odd}}
    reply = model.chat(
        "?", tools=[tool, zone], tool_choice="required", temperature=0, max_tokens=40
    )
    assert reply.usage.completion_tokens
    tool["function"]["strict"] = True
    with pytest.raises(ValueError, match="'odd', which is strict"):
        model.chat("?", tools=[tool], tool_choice="required")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": TOOLS, "tool_choice": "nothing"}, "there are: weather, zone"),
        ({"tool_choice": "required"}, "there are no tools"),
        ({"tools": TOOLS, "tool_choice": 5}, "tool_choice is"),
        ({"tools": TOOLS, "parallel_tool_calls": "yes"}, "parallel_tool_calls must be a bool"),
        ({"tools": "weather"}, "tools must be a list"),
    ],
)
def test_wrong_options(model, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        model.chat("?", **options)


def test_run_tools(model) -> None:
    options: dict[str, Any] = {"tool_choice": "zone", "max_rounds": 2, "seed": 1, **GREEDY}
    reply = model.run_tools("Weather?", TOOLS, **options)
    roles = [message["role"] for message in reply.messages]
    assert roles[:4] == ["user", "assistant", "tool", "assistant"]
    assert reply.messages[2]["content"] in ("1", "2")
    asynchronous = asyncio.run(model.arun_tools("Weather?", TOOLS, **options))
    assert asynchronous.messages == reply.messages
    with model.stream_tools("Weather?", TOOLS, **options) as run:
        events = list(run)
    assert run.completion.messages == run.messages == reply.messages
    kinds = [type(event) for event in events]
    assert kinds.index(Chunk) < kinds.index(ToolCall) < kinds.index(ToolResult)

    async def stream() -> Any:
        async with model.astream_tools("Weather?", TOOLS, **options) as run:
            assert [type(event) async for event in run] == kinds
        return run.completion.messages

    assert asyncio.run(stream()) == reply.messages


def test_a_run_can_be_stopped(model) -> None:
    options: dict[str, Any] = {"tool_choice": "zone", **GREEDY}
    run = model.stream_tools("Weather?", TOOLS, **options)
    for event in run:
        if isinstance(event, ToolCall):
            run.cancel()
        assert not isinstance(event, ToolResult)
    assert run.completion.finish_reason == "cancelled"
    with model.stream_tools("Weather?", TOOLS, **options) as run:
        run.cancel()
        assert run.result().finish_reason == "cancelled"
    with model.stream_tools("Weather?", TOOLS, **options) as run:
        next(run)
    with pytest.raises(RuntimeError, match="before its end"):
        run.result()


def test_deltas_are_of_a_type_of_their_own(model) -> None:
    with model.stream_chat("?", tools=[zone], tool_choice="zone", **GREEDY) as stream:
        deltas = [delta for chunk in stream for delta in chunk.tool_calls]
    assert all(isinstance(delta, ToolCallDelta) for delta in deltas)
    assert deltas[0].name == "zone"
    assert {delta.name for delta in deltas[1:]} <= {None}
