"""Ollama's, Anthropic's and llama.cpp's endpoints and /v1/responses: the library's answers in their words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from driver import Client

from pyqwen import Model, ModelNotFoundError
from pyqwen.serve import create_app

USER = {"role": "user", "content": "She sells sea shells."}


def post(app: Any, path: str, body: Any) -> Any:
    return asyncio.run(Client(app).post(path, body))


def get(app: Any, path: str, method: str = "GET") -> Any:
    return asyncio.run(Client(app).ask(method, path))


@pytest.fixture(scope="module")
def own(model: Model) -> Any:
    """What the library answers."""
    return model.chat([USER], max_tokens=12, temperature=0)


# Ollama


def test_ollama_chat(app: Any, own: Any) -> None:
    body = {
        "model": "tiny:latest",
        "messages": [USER],
        "options": {"num_predict": 12, "temperature": 0, "num_ctx": 99},
    }
    *lines, last = post(app, "/api/chat", body).lines
    assert "".join(line["message"]["content"] for line in lines) == own.text
    assert not any(line["done"] for line in lines)
    assert last["done"]
    assert last["done_reason"] == own.finish_reason
    assert last["eval_count"] == own.usage.completion_tokens
    assert last["prompt_eval_count"] == own.usage.prompt_tokens
    assert last["message"] == {"role": "assistant", "content": ""}
    whole = post(app, "/api/chat", {**body, "stream": False}).json
    assert whole["message"]["content"] == own.text
    assert whole["total_duration"] >= whole["eval_duration"] > 0


def test_ollama_generate(app: Any, model: Model, own: Any) -> None:
    options = {"num_predict": 12, "temperature": 0}
    body = {"model": "tiny", "prompt": USER["content"], "options": options}
    lines = post(app, "/api/generate", body).lines
    assert "".join(line["response"] for line in lines) == own.text
    raw = post(app, "/api/generate", {**body, "raw": True, "stream": False}).json
    plain = model.generate(USER["content"], max_tokens=12, temperature=0)
    assert raw["response"] == plain.text
    system = post(app, "/api/generate", {**body, "system": "Be brief.", "stream": False}).json
    messages = [{"role": "system", "content": "Be brief."}, USER]
    assert system["response"] == model.chat(messages, max_tokens=12, temperature=0).text


def test_ollama_lists(app: Any, model: Model) -> None:
    assert get(app, "/", "HEAD").status == 200
    assert get(app, "/").body == b"Ollama is running"
    assert get(app, "/api/version").json["version"][0].isdigit()
    (entry,) = get(app, "/api/tags").json["models"]
    assert entry["name"] == "tiny:latest"
    assert entry["size"] == model.path.stat().st_size
    assert entry["details"]["family"] == "qwen2"
    (running,) = get(app, "/api/ps").json["models"]
    assert running["context_length"] == model.context
    shown = post(app, "/api/show", {"model": "tiny"}).json
    assert shown["model_info"]["qwen2.context_length"] == model.config.context
    assert "completion" in shown["capabilities"]
    missing = post(app, "/api/show", {"model": "other"})
    assert missing.status == 404
    assert "not found" in missing.json["error"]


def test_ollama_loads_and_unloads(tiny_model_path: Path) -> None:
    app = create_app({"tiny": tiny_model_path}, threads=1)
    (served,) = app.registry.all
    loaded = post(app, "/api/generate", {"model": "tiny"}).json
    assert loaded["done_reason"] == "load"
    assert served.model is not None
    assert (
        post(app, "/api/generate", {"model": "tiny", "keep_alive": 0}).json["done_reason"]
        == "unload"
    )

    async def gone() -> None:
        for _ in range(200):
            if served.model is None:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it is still loaded")

    asyncio.run(gone())
    assert post(app, "/api/generate", {"model": "tiny", "keep_alive": "soon"}).status == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": [USER]}, 400),
        ({"model": "tiny", "messages": [{**USER, "images": ["aGk="]}]}, 501),
        ({"model": "tiny", "messages": [USER], "format": "xml"}, 400),
        ({"model": "tiny", "messages": [USER], "options": {"temperature": "hot"}}, 400),
        ({"model": "tiny", "messages": [{"role": "user", "content": "word " * 900}]}, 400),
    ],
)
def test_ollama_refusals(app: Any, body: Any, status: int) -> None:
    response = post(app, "/api/chat", body)
    assert response.status == status
    assert isinstance(response.json["error"], str)


def test_ollama_pull_only_where_it_is_allowed(
    model: Model, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pull(name: str, *, progress: Any) -> Path:
        asked.append(name)
        if name == "nobody":
            raise ModelNotFoundError("there is no nobody")
        assert progress(1, 2)
        return tiny_model_path

    monkeypatch.setattr("pyqwen.catalog.public.pull", pull)
    closed = create_app({"tiny": model})
    assert post(closed, "/api/pull", {"model": "other"}).status == 403
    assert not asked
    app = create_app({"tiny": model}, allow_pull=True, threads=1)
    lines = post(app, "/api/pull", {"model": "other"}).lines
    assert lines[0] == {"status": "pulling manifest"}
    assert lines[-1] == {"status": "success"}
    assert any(line.get("completed") == 1 for line in lines)
    chat = {"model": "other", "messages": [USER], "stream": False, "options": {"num_predict": 2}}
    assert post(app, "/api/chat", chat).status == 200
    missing = post(app, "/api/pull", {"model": "nobody", "stream": False})
    assert missing.status == 404
    assert "nobody" in post(app, "/api/pull", {"model": "nobody"}).lines[-1]["error"]
    app.registry.close()


# Anthropic


def test_anthropic_message(app: Any, own: Any) -> None:
    blocks = [{"type": "text", "text": USER["content"], "cache_control": {"type": "ephemeral"}}]
    messages = [{"role": "user", "content": blocks}]
    body = {"model": "tiny", "max_tokens": 12, "temperature": 0, "messages": messages}
    whole = post(app, "/v1/messages", body).json
    assert whole["content"] == [{"type": "text", "text": own.text}]
    assert whole["stop_reason"] == "max_tokens"
    usage = whole["usage"]
    assert usage["output_tokens"] == own.usage.completion_tokens
    read = usage["input_tokens"] + usage["cache_read_input_tokens"]
    assert read == own.usage.prompt_tokens
    assert post(app, "/v1/messages/count_tokens", body).json == {"input_tokens": read}
    events = post(app, "/v1/messages", {**body, "stream": True}).events
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(deltas) == own.text
    assert events[0]["message"]["usage"]["input_tokens"] == read


def test_anthropic_system_and_stop_sequence(app: Any, model: Model) -> None:
    messages = [{"role": "system", "content": "Be brief."}, USER]
    own = model.chat(messages, max_tokens=40, temperature=0)
    stop = own.text[5:8]
    body = {
        "max_tokens": 40,
        "temperature": 0,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [USER],
        "stop_sequences": [stop],
    }
    whole = post(app, "/v1/messages", body).json
    assert whole["stop_reason"] == "stop_sequence"
    assert whole["stop_sequence"] == stop
    assert own.text.startswith(whole["content"][0]["text"])


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [USER]},
        {"max_tokens": 5, "messages": []},
        {"max_tokens": 5, "messages": [{"role": "judge", "content": "a"}]},
        {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {"max_tokens": 5, "messages": [{"role": "user", "content": 5}]},
        {"max_tokens": -5, "messages": [USER]},
        {"max_tokens": 5, "messages": [USER], "tools": [{"input_schema": {}}]},
    ],
)
def test_anthropic_refusals(app: Any, body: Any) -> None:
    response = post(app, "/v1/messages", body)
    assert response.status == 400, response.text
    assert response.json["type"] == "error"
    assert response.json["error"]["type"] == "invalid_request_error"


# /v1/responses


def test_responses(app: Any, own: Any) -> None:
    parts = [{"type": "input_text", "text": USER["content"]}]
    body = {
        "model": "tiny",
        "input": [{"role": "user", "content": parts}],
        "max_output_tokens": 12,
        "temperature": 0,
        "tools": [{"type": "web_search"}, {"type": "custom", "name": "patch"}],
    }
    whole = post(app, "/v1/responses", body).json
    assert whole["output"][0]["content"][0]["text"] == own.text
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert whole["usage"]["input_tokens"] == own.usage.prompt_tokens
    events = post(app, "/v1/responses", {**body, "stream": True}).events
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (
        "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == own.text
    )
    assert [events[0]["type"], events[-1]["type"]] == ["response.created", "response.incomplete"]
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == own.text


def test_responses_take_a_conversation_with_tools(app: Any) -> None:
    items = [
        USER,
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "So."}],
        },
        {"role": "developer", "content": "Be brief."},
        USER,
    ]
    assert post(app, "/v1/responses", {"input": items, "max_output_tokens": 2}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "a", "previous_response_id": "resp_1"},
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"type": "function_call", "arguments": "{}"}]},
    ],
)
def test_responses_refusals(app: Any, body: Any) -> None:
    response = post(app, "/v1/responses", body)
    assert response.status == 400, response.text
    assert response.json["error"]["message"]


# llama.cpp


def test_llama_completion(app: Any, model: Model) -> None:
    body = {"prompt": "The quick", "n_predict": 8, "temperature": 0, "n_probs": 2}
    own = model.generate("The quick", max_tokens=8, temperature=0, logprobs=True, top_logprobs=2)
    whole = post(app, "/completion", {**body, "return_tokens": True}).json
    assert whole["content"] == own.text
    assert whole["tokens"] == own.token_ids
    assert whole["stop_type"] == "limit"
    assert whole["timings"]["predicted_n"] == 8
    assert len(whole["completion_probabilities"]) == 8
    events = post(app, "/completion", {**body, "stream": True}).events
    assert "".join(event["content"] for event in events) == own.text
    assert events[-1]["stop"]
    ids = model.tokenizer.encode("The quick")
    for prompt in (ids, [*ids[:1], model.tokenizer.decode(ids[1:])]):
        assert post(app, "/completion", {**body, "prompt": prompt}).json["content"] == own.text
    many = post(app, "/completion", {**body, "prompt": ["The quick", ids]}).json
    assert [one["content"] for one in many] == [own.text] * 2
    few = post(app, "/completion", {**body, "response_fields": ["content", "timings/predicted_n"]})
    assert few.json == {"content": own.text, "timings/predicted_n": 8}


def test_llama_tokens_and_templates(app: Any, model: Model) -> None:
    text = "sea shells ☂"
    pieces = post(app, "/tokenize", {"content": text, "with_pieces": True}).json["tokens"]
    ids = [piece["id"] for piece in pieces]
    assert ids == model.tokenizer.encode(text)
    assert any(isinstance(piece["piece"], list) for piece in pieces)
    assert post(app, "/detokenize", {"tokens": ids}).json == {"content": text}
    assert post(app, "/detokenize", {"tokens": [10**9]}).status == 400
    prompt = post(app, "/apply-template", {"messages": [USER]}).json["prompt"]
    assert prompt == model.chat_template.render([USER]).text
    counted = post(app, "/chat/completions/input_tokens", {"messages": [USER]}).json
    assert counted["input_tokens"] == len(model.tokenizer.encode(prompt, True))


def test_llama_properties_and_metrics(app: Any, model: Model) -> None:
    props = get(app, "/props").json
    assert props["total_slots"] == model.max_sequences
    assert props["default_generation_settings"]["n_ctx"] == model.context
    assert get(app, "/slots").json[0]["is_processing"] is False
    post(app, "/completion", {"prompt": "a b c", "n_predict": 3, "ignore_eos": True})
    text = get(app, "/metrics").text
    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    assert float(values["llamacpp:tokens_predicted_total"]) == 3
    assert float(values["llamacpp:requests_processing"]) == 0
    assert float(values["llamacpp:n_tokens_max"]) >= 6
    assert text.count("# TYPE") == len(values)


def test_llama_says_while_it_loads(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from pyqwen.serve.registry import Registry

    app = create_app({"tiny": tiny_model_path}, threads=1)
    go_on, really = threading.Event(), Registry._open

    def slowly(self: Any, served: Any) -> Model:
        go_on.wait(10)
        return really(self, served)

    monkeypatch.setattr(Registry, "_open", slowly)

    async def main() -> None:
        client = Client(app)
        asked = client.visit("POST", "/completion", {"prompt": "a", "n_predict": 1})
        await asyncio.sleep(0.05)
        assert (await client.get("/health")).status == 503
        go_on.set()
        await asyncio.wait_for(asked.task, 10)
        assert (await client.get("/health")).status == 200

    asyncio.run(main())
    app.registry.close()


def test_filling_in_the_middle_needs_the_tokens(app: Any) -> None:
    body = {"input_prefix": "def f(", "input_suffix": "return 1"}
    assert post(app, "/infill", body).status == 501
    refused = post(app, "/v1/completions", {"prompt": "a", "suffix": "b"})
    assert refused.status == 400  # OpenAI's clients would try again after a 501
    assert refused.json["error"]["code"] == "unsupported"
