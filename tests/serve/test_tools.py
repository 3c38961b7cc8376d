"""Tools in the words of each API, with a tiny model that its grammar makes call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import create_app

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "Weather of a city.", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": FUNCTION}]
ASK = [{"role": "user", "content": "Weather?"}]
SETTINGS = {"max_tokens": 300, "temperature": 0}


@pytest.fixture(scope="module")
def tool_model(make_tiny_model: Any) -> Iterator[Model]:
    with Model(make_tiny_model(context=4096), threads=1) as model:
        yield model


@pytest.fixture
def app(tool_model: Model) -> Any:
    return create_app({"tiny": tool_model})


@pytest.fixture(scope="module")
def own(tool_model: Model) -> Any:
    """What the library answers: one call."""
    reply = tool_model.chat(
        ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, **SETTINGS
    )
    assert len(reply.tool_calls) == 1
    return reply


def post(app: Any, path: str, body: Any) -> Any:
    return asyncio.run(Client(app).post(path, body))


def test_openai(app: Any, own: Any) -> None:
    body = {
        "messages": ASK,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        **SETTINGS,
    }
    choice = post(app, "/v1/chat/completions", body).json["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert call["type"] == "function"
    assert call["function"] == {
        "name": "weather",
        "arguments": own.tool_calls[0].arguments_json,
    }
    events = post(app, "/v1/chat/completions", {**body, "stream": True}).events
    deltas = [
        delta
        for event in events
        for choice in event["choices"]
        for delta in choice["delta"].get("tool_calls", ())
    ]
    assert deltas[0]["id"]
    assert deltas[0]["function"]["name"] == "weather"
    assert all("id" not in delta and "name" not in delta["function"] for delta in deltas[1:])
    assert (
        "".join(delta["function"]["arguments"] for delta in deltas) == call["function"]["arguments"]
    )
    assert [e["choices"][0]["finish_reason"] for e in events if e["choices"]][-1] == "tool_calls"


@pytest.mark.parametrize(
    "choice", ["weather", {"type": "function", "function": {"name": "weather"}}]
)
def test_openai_named(app: Any, choice: Any) -> None:
    body = {"messages": ASK, "tools": TOOLS, "tool_choice": choice, **SETTINGS}
    message = post(app, "/v1/chat/completions", body).json["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["name"] == "weather"


def test_a_conversation_goes_on_with_the_result(app: Any, own: Any) -> None:
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
    }
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "7 degrees"},
    ]
    body = {"messages": messages, "tools": TOOLS, "tool_choice": "none", "max_tokens": 5}
    response = post(app, "/v1/chat/completions", body)
    assert response.status == 200, response.text
    assert "tool_calls" not in response.json["choices"][0]["message"]
    blocks = [
        ASK[0],
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}}
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "7 degrees"}],
        },
    ]
    tools = [{"name": "weather", "input_schema": PARAMETERS}]
    anthropic = {
        "messages": blocks,
        "tools": tools,
        "tool_choice": {"type": "none"},
        "max_tokens": 5,
    }
    assert post(app, "/v1/messages", anthropic).status == 200
    items = [
        ASK[0],
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "weather",
            "arguments": '{"city":"Oslo"}',
        },
        {"type": "function_call_output", "call_id": "c1", "output": "7 degrees"},
    ]
    body = {"input": items, "tools": [{"type": "function", **FUNCTION}], "tool_choice": "none"}
    assert post(app, "/v1/responses", {**body, "max_output_tokens": 5}).status == 200


def test_anthropic(app: Any, own: Any) -> None:
    body = {
        "messages": ASK,
        "tools": [
            {"name": "weather", "description": FUNCTION["description"], "input_schema": PARAMETERS}
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        **SETTINGS,
    }
    whole = post(app, "/v1/messages", body).json
    (block,) = whole["content"]
    assert whole["stop_reason"] == "tool_use"
    assert block["type"] == "tool_use"
    assert block["name"] == "weather"
    assert block["input"] == own.tool_calls[0].arguments
    events = post(app, "/v1/messages", {**body, "stream": True}).events
    start = next(event for event in events if event["type"] == "content_block_start")
    block = start["content_block"]
    assert block == {"type": "tool_use", "id": block["id"], "name": "weather", "input": {}}
    parts = [e["delta"]["partial_json"] for e in events if e["type"] == "content_block_delta"]
    assert json.loads("".join(parts)) == own.tool_calls[0].arguments
    counted = post(app, "/v1/messages/count_tokens", body).json["input_tokens"]
    without = post(app, "/v1/messages/count_tokens", {"messages": ASK}).json["input_tokens"]
    assert counted > without
    read = whole["usage"]
    assert counted == read["input_tokens"] + read["cache_read_input_tokens"]


def test_responses(app: Any, own: Any) -> None:
    body = {
        "input": "Weather?",
        "tools": [{"type": "function", **FUNCTION}, {"type": "web_search"}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
    }
    (item,) = post(app, "/v1/responses", body).json["output"]
    assert item["type"] == "function_call"
    assert json.loads(item["arguments"]) == own.tool_calls[0].arguments
    events = post(app, "/v1/responses", {**body, "stream": True}).events
    kinds = [event["type"] for event in events]
    assert "response.function_call_arguments.done" in kinds
    done = next(e for e in events if e["type"] == "response.function_call_arguments.done")
    assert json.loads(done["arguments"]) == own.tool_calls[0].arguments
    assert events[-1]["response"]["output"][0]["name"] == "weather"


def test_ollama(app: Any) -> None:
    body = {"model": "tiny", "messages": ASK, "tools": TOOLS, "options": {"temperature": 0}}
    lines = post(app, "/api/chat", body).lines
    assert lines[-1]["done"]
    history = [
        *ASK,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "tool_name": "weather", "content": "7 degrees"},
    ]
    response = post(app, "/api/chat", {**body, "messages": history, "stream": False})
    assert response.status == 200, response.text


def test_tools_that_cannot_be(app: Any) -> None:
    for tools in ([{"type": "function", "function": {"name": ""}}],):
        body = {"messages": ASK, "tools": tools, "tool_choice": "required", **SETTINGS}
        assert post(app, "/v1/chat/completions", body).status == 400
    wrong = {"messages": ASK, "tools": TOOLS, "tool_choice": "nothing_like_it", **SETTINGS}
    assert post(app, "/v1/chat/completions", wrong).status == 400
