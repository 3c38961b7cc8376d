"""Answers in a form: schemas and grammars in the words of each API; answers that go on; scored prompts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from driver import Client

from pyqwen import Constraint, Model

USER = {"role": "user", "content": "Which one?"}
SCHEMA = {
    "type": "object",
    "properties": {"pick": {"enum": ["left", "right"]}, "n": {"enum": [7]}},
    "required": ["pick", "n"],
    "additionalProperties": False,
}


def post(app: Any, path: str, body: Any) -> Any:
    return asyncio.run(Client(app).post(path, body))


def content_of(path: str, body: Any) -> str:
    """The text of an answer, whatever API it is of."""
    if path == "/v1/chat/completions":
        return str(body["choices"][0]["message"]["content"])
    if path == "/v1/completions":
        return str(body["choices"][0]["text"])
    if path == "/v1/responses":
        return str(body["output"][0]["content"][0]["text"])
    return str(body["message"]["content"] if path == "/api/chat" else body["content"])


FORMAT = {"type": "json_schema", "json_schema": {"name": "pick", "schema": SCHEMA}}
CHAT = {"model": "tiny", "messages": [USER], "max_tokens": 200, "temperature": 0}
TEXT = {"model": "tiny", "prompt": "Which?", "max_tokens": 200, "temperature": 0}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {**CHAT, "response_format": FORMAT}),
        (
            "/v1/chat/completions",
            {**CHAT, "response_format": {"type": "json_object", "schema": SCHEMA}},
        ),
        ("/v1/chat/completions", {**CHAT, "json_schema": SCHEMA}),
        ("/v1/completions", {**TEXT, "response_format": FORMAT}),
        (
            "/v1/responses",
            {
                "input": "Which?",
                "temperature": 0,
                "text": {"format": {"type": "json_schema", "name": "pick", "schema": SCHEMA}},
            },
        ),
        (
            "/api/chat",
            {
                "model": "tiny",
                "messages": [USER],
                "format": SCHEMA,
                "stream": False,
                "options": {"temperature": 0},
            },
        ),
        ("/completion", {"prompt": "Which?", "temperature": 0, "json_schema": SCHEMA}),
    ],
)
def test_schemas(app: Any, path: str, body: dict[str, Any]) -> None:
    response = post(app, path, body)
    assert response.status == 200, response.text
    value = json.loads(content_of(path, response.json))
    assert value["pick"] in ("left", "right")
    assert value["n"] == 7


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/completion"])
def test_grammars(app: Any, path: str) -> None:
    body = {**CHAT, **TEXT, "grammar": 'root ::= "yes" | "no"'}
    assert content_of(path, post(app, path, body).json) in ("yes", "no")
    wrong = post(app, path, {**body, "grammar": "root ::= this is (not valid"})
    assert wrong.status == 400


def test_a_stream_is_the_same(app: Any, model: Model) -> None:
    body = {**CHAT, "response_format": FORMAT, "stream": True, "seed": 3, "temperature": 1}
    events = post(app, "/v1/chat/completions", body).events
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    own = model.chat(
        [USER], response_format=Constraint.json(SCHEMA), max_tokens=200, seed=3, temperature=1
    )
    assert text == own.text


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object", "schema": 123},
        {"type": "json_object", "schema": {"type": 123}},
        {"type": "json_object", "schema": {"type": "hiccup"}},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://evil.example/s"}}},
        {"type": "json_schema", "json_schema": {"strict": True, "schema": {"not": {}}}},
    ],
)
def test_formats_that_cannot_be(app: Any, form: Any) -> None:
    response = post(app, "/v1/chat/completions", {**CHAT, "response_format": form})
    assert response.status == 400, response.text
    assert response.json["error"]["message"]


def test_an_answer_that_goes_on(app: Any, model: Model) -> None:
    messages = [USER, {"role": "assistant", "content": "The left"}]
    own = model.chat(messages, continue_final_message=True, max_tokens=8, temperature=0)
    options = {"max_tokens": 8, "temperature": 0}
    whole = post(
        app,
        "/v1/chat/completions",
        {"messages": messages, "continue_final_message": True, **options},
    ).json
    assert whole["usage"]["prompt_tokens"] == own.usage.prompt_tokens
    assert whole["choices"][0]["message"]["content"] == own.text
    anthropic = post(app, "/v1/messages", {"messages": messages, **options}).json
    assert anthropic["content"][0]["text"] == own.text
    both = {"messages": messages, "continue_final_message": True, "add_generation_prompt": True}
    assert post(app, "/v1/chat/completions", both).status == 400


def test_echo_with_logprobs_scores_the_prompt(app: Any, model: Model) -> None:
    prompt = "She sells sea shells"
    body = {"prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 3, "temperature": 0}
    choice = post(app, "/v1/completions", body).json["choices"][0]
    ids = model.tokenizer.encode(prompt)
    scores = choice["logprobs"]
    assert scores["token_logprobs"][0] is None
    assert scores["token_logprobs"][1 : len(ids)] == pytest.approx(
        model.logprobs(ids).tolist(), abs=1e-4
    )
    assert len(scores["tokens"]) == len(ids) + 3
    assert "".join(scores["tokens"]) == choice["text"]
    assert scores["text_offset"][len(ids)] == len(prompt)
