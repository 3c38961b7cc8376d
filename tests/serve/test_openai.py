"""OpenAI's endpoints: answers equal to the library's own, the shapes of events, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import Client

from pyqwen import Model

MESSAGES = [{"role": "user", "content": "She sells sea shells."}]
GREEDY = {"messages": MESSAGES, "max_tokens": 12, "temperature": 0}


def post(app: Any, path: str, body: Any) -> Any:
    return asyncio.run(Client(app).post(path, body))


def test_a_chat_is_answered_as_the_library_does(app: Any, model: Model) -> None:
    body = {**GREEDY, "temperature": 0.9, "seed": 7, "stop": ["zz"], "model": "tiny"}
    response = post(app, "/v1/chat/completions", body)
    own = model.chat(MESSAGES, max_tokens=12, temperature=0.9, seed=7, stop=["zz"])
    assert response.status == 200
    (choice,) = response.json["choices"]
    assert choice["message"]["content"] == own.text
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == own.finish_reason
    usage = response.json["usage"]
    assert usage["prompt_tokens"] == own.usage.prompt_tokens
    assert usage["completion_tokens"] == own.usage.completion_tokens
    assert usage["total_tokens"] == own.usage.total_tokens
    assert response.json["model"] == "tiny"
    assert response.json["object"] == "chat.completion"


def test_a_stream_has_the_same_text(app: Any, model: Model) -> None:
    body = {**GREEDY, "stream": True, "stream_options": {"include_usage": True}}
    response = post(app, "/v1/chat/completions", body)
    own = model.chat(MESSAGES, max_tokens=12, temperature=0)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    first, *middle, last, usage = response.events
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert "".join(event["choices"][0]["delta"]["content"] for event in middle) == own.text
    assert last["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": own.finish_reason,
    }
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == own.usage.completion_tokens
    assert {event["id"] for event in response.events} == {first["id"]}
    assert all(event["usage"] is None for event in response.events[:-1])


def test_without_include_usage_no_event_has_usage(app: Any) -> None:
    response = post(app, "/v1/chat/completions", {**GREEDY, "stream": True})
    assert all("usage" not in event for event in response.events)


def test_several_answers_have_seeds_in_a_row(app: Any, model: Model) -> None:
    body = {**GREEDY, "temperature": 1.5, "seed": 40, "n": 3}
    response = post(app, "/v1/chat/completions", body)
    texts = [choice["message"]["content"] for choice in response.json["choices"]]
    alone = [
        model.chat(MESSAGES, max_tokens=12, temperature=1.5, seed=40 + i).text for i in range(3)
    ]
    assert texts == alone
    assert [choice["index"] for choice in response.json["choices"]] == [0, 1, 2]
    streamed = ["", "", ""]
    for event in post(app, "/v1/chat/completions", {**body, "stream": True}).events:
        for choice in event["choices"]:
            streamed[choice["index"]] += choice["delta"].get("content") or ""
    assert streamed == alone


def test_logprobs(app: Any, model: Model) -> None:
    body = {**GREEDY, "logprobs": True, "top_logprobs": 3}
    content = post(app, "/v1/chat/completions", body).json["choices"][0]["logprobs"]["content"]
    own = model.chat(MESSAGES, max_tokens=12, temperature=0, logprobs=True, top_logprobs=3)
    assert own.logprobs is not None
    assert [entry["id"] for entry in content] == [one.token_id for one in own.logprobs]
    assert [entry["logprob"] for entry in content] == pytest.approx(
        [one.logprob for one in own.logprobs]
    )
    assert all(len(entry["top_logprobs"]) == 3 for entry in content)
    streamed = [
        entry
        for event in post(app, "/v1/chat/completions", {**body, "stream": True}).events
        for choice in event["choices"]
        for entry in (choice["logprobs"] or {}).get("content", [])
    ]
    assert streamed == content


def test_logit_bias_and_penalties_reach_the_sampler(app: Any, model: Model) -> None:
    token = model.tokenizer.encode("s")[0]
    body = {**GREEDY, "logit_bias": {str(token): 100}, "max_tokens": 5}
    assert (
        post(app, "/v1/chat/completions", body).json["choices"][0]["message"]["content"] == "sssss"
    )
    body |= {"frequency_penalty": 1.5, "repeat_penalty": 1.2}
    own = model.chat(
        MESSAGES,
        max_tokens=5,
        temperature=0,
        logit_bias={token: 100},
        frequency_penalty=1.5,
        repetition_penalty=1.2,
    )
    assert (
        post(app, "/v1/chat/completions", body).json["choices"][0]["message"]["content"] == own.text
    )


def test_max_completion_tokens_wins(app: Any) -> None:
    body = {**GREEDY, "max_completion_tokens": 3, "ignore_eos": True}
    response = post(app, "/v1/chat/completions", body).json
    assert response["usage"]["completion_tokens"] == 3
    assert response["choices"][0]["finish_reason"] == "length"


def test_a_text_goes_on_as_the_library_does(app: Any, model: Model) -> None:
    body = {"prompt": "The quick brown", "temperature": 0, "max_tokens": 10, "logprobs": 2}
    choice = post(app, "/v1/completions", body).json["choices"][0]
    own = model.generate(
        "The quick brown", temperature=0, max_tokens=10, logprobs=True, top_logprobs=2
    )
    assert own.logprobs is not None
    assert choice["text"] == own.text
    assert choice["logprobs"]["token_logprobs"] == pytest.approx([o.logprob for o in own.logprobs])
    assert choice["logprobs"]["text_offset"][0] == 0
    streamed = post(app, "/v1/completions", {**body, "stream": True}).events
    assert "".join(event["choices"][0]["text"] for event in streamed) == own.text
    assert streamed[-1]["choices"][0]["finish_reason"] == own.finish_reason


def test_several_texts_and_ids_at_once(app: Any, model: Model) -> None:
    prompts = ["The quick", "She sells"]
    body = {"prompt": prompts, "temperature": 0, "max_tokens": 6, "echo": True}
    choices = post(app, "/v1/completions", body).json["choices"]
    alone = [text + model.generate(text, temperature=0, max_tokens=6).text for text in prompts]
    assert [choice["text"] for choice in choices] == alone
    ids = [model.tokenizer.encode(text) for text in prompts]
    again = post(app, "/v1/completions", {**body, "prompt": ids}).json["choices"]
    assert [choice["text"] for choice in again] == alone
    default = post(app, "/v1/completions", {"prompt": "x", "ignore_eos": True}).json
    assert default["usage"]["completion_tokens"] == 16


def test_control_tokens_count_in_texts_but_not_in_messages(app: Any, model: Model) -> None:
    text = "<|im_start|>"
    ids = post(app, "/tokenize", {"content": text}).json["tokens"]
    assert len(ids) == 1
    plain = post(app, "/tokenize", {"content": text, "parse_special": False}).json["tokens"]
    assert plain == model.tokenizer.encode(text)
    usage = post(app, "/v1/completions", {"prompt": text, "max_tokens": 1}).json["usage"]
    assert usage["prompt_tokens"] == 1
    messages = [{"role": "user", "content": text}]
    usage = post(app, "/v1/chat/completions", {"messages": messages, "max_tokens": 1}).json["usage"]
    assert usage["prompt_tokens"] > len(plain)


@pytest.mark.parametrize(
    ("body", "status", "word", "param"),
    [
        ({}, 400, "messages", None),
        ({"messages": "Hi"}, 400, "messages", "messages"),
        ({"messages": []}, 400, "empty", None),
        ({"messages": [{"role": "king", "content": "a"}]}, 400, "king", None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "text", None),
        ({**GREEDY, "temperature": "warm"}, 400, "temperature", "temperature"),
        ({**GREEDY, "temperature": -1}, 400, "temperature", None),
        ({**GREEDY, "top_logprobs": 3}, 400, "logprobs", "top_logprobs"),
        ({**GREEDY, "logprobs": True, "top_logprobs": 99}, 400, "top_logprobs", None),
        ({**GREEDY, "n": 0}, 400, "n must", "n"),
        ({**GREEDY, "n": 1000}, 400, "n must", "n"),
        ({**GREEDY, "model": "nobody"}, 404, "tiny", "model"),
        ({**GREEDY, "response_format": {"type": "sound"}}, 400, "sound", "response_format.type"),
        ({**GREEDY, "logit_bias": {"999999": 1}}, 400, "", None),
        ({**GREEDY, "tools": [{"type": "function"}]}, 400, "name", "tools[0].function.name"),
    ],
)
def test_what_is_refused(app: Any, body: Any, status: int, word: str, param: str | None) -> None:
    response = post(app, "/v1/chat/completions", body)
    assert response.status == status, response.text
    error = response.json["error"]
    assert word in error["message"]
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"messages": NaN}', b'"text"', b"null"]
)
def test_bodies_that_are_no_requests(app: Any, data: bytes) -> None:
    response = post(app, "/v1/chat/completions", data)
    assert response.status == 400
    assert response.json["error"]["message"]


def test_a_prompt_that_does_not_fit_tells_the_numbers(app: Any, model: Model) -> None:
    messages = [{"role": "user", "content": "word " * 2000}]
    for stream in (False, True):
        response = post(app, "/v1/chat/completions", {"messages": messages, "stream": stream})
        error = response.json["error"]
        assert response.status == 400
        assert error["code"] == "context_length_exceeded"
        assert error["n_ctx"] == model.context < error["n_prompt_tokens"]
        assert f"maximum context length is {model.context}" in error["message"]


def test_requests_beside_each_other_get_the_answers_they_would_get_alone(app: Any) -> None:
    bodies = [
        {
            "messages": [{"role": "user", "content": f"Number {i} sells shells"}],
            "temperature": 1.2,
            "seed": i,
            "max_tokens": 24,
            "stream": bool(i % 2),
        }
        for i in range(12)
    ]

    def text(response: Any) -> str:
        if "choices" not in response.text[:400] or response.text.startswith("data"):
            return "".join(
                event["choices"][0]["delta"].get("content") or "" for event in response.events
            )
        return str(response.json["choices"][0]["message"]["content"])

    async def together() -> list[str]:
        client = Client(app)
        responses = await asyncio.gather(
            *(client.post("/v1/chat/completions", body) for body in bodies)
        )
        return [text(response) for response in responses]

    alone = [text(post(app, "/v1/chat/completions", body)) for body in bodies]
    assert asyncio.run(together()) == alone
    assert all(alone)


def test_models_are_listed(app: Any) -> None:
    async def main() -> None:
        client = Client(app)
        listed = (await client.get("/v1/models")).json
        assert listed["object"] == "list"
        assert [entry["id"] for entry in listed["data"]] == ["tiny"]
        assert (await client.get("/v1/models/tiny")).json["id"] == "tiny"
        assert (await client.get("/v1/models/other")).status == 404

    asyncio.run(main())
