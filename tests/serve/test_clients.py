"""Other people's clients against the real program: streams, structure, errors, leaving."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from program import running_program

# What clients leave open or warn of is theirs.
pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]

KEY = "secret"
SAY = [{"role": "user", "content": "Say hello."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "country": {"enum": ["Peru"]}},
    "required": ["city", "country"],
    "additionalProperties": False,
}


def wanted(name: str, unavailable: Any) -> Any:
    """A client's package, or the end of the test."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        unavailable(f"the package {name} is not installed")


@pytest.fixture(scope="module")
def url(smollm_path: Path) -> Iterator[str]:
    """The address of a server."""
    with running_program(
        smollm_path, "--alias", "small", "-c", "2048", PYQWEN_API_KEY=KEY
    ) as address:
        yield address


def busy(url: str) -> int:
    """How many places of the server are taken."""
    from urllib.request import Request, urlopen

    request = Request(f"{url}/slots", headers={"Authorization": f"Bearer {KEY}"})
    with urlopen(request, timeout=10) as response:
        return sum(slot["is_processing"] for slot in json.loads(response.read()))


def wait_until_idle(url: str, seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while busy(url):
        assert time.monotonic() < deadline, "the server still writes for a client that has left"
        time.sleep(0.01)


@pytest.fixture
def openai(url: str, unavailable: Any) -> Iterator[Any]:
    module = wanted("openai", unavailable)
    with module.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_openai_chat(openai: Any) -> None:
    settings = {"model": "small", "messages": SAY, "max_tokens": 12, "temperature": 0}
    whole = openai.chat.completions.create(**settings)
    text = whole.choices[0].message.content
    assert text
    assert whole.usage.completion_tokens <= 12
    stream = openai.chat.completions.create(
        **settings, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    parts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(parts) == text
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    several = openai.chat.completions.create(**settings, n=2, logprobs=True, top_logprobs=2)
    assert [choice.message.content for choice in several.choices] == [text, text]
    assert len(several.choices[0].logprobs.content[0].top_logprobs) == 2


def test_openai_structure(openai: Any, unavailable: Any) -> None:
    pydantic = wanted("pydantic", unavailable)
    from typing import Literal

    city = pydantic.create_model("City", city=(Literal["Lima", "Cusco"], ...), n=(Literal[3], ...))
    done = openai.chat.completions.parse(
        model="small", messages=SAY, response_format=city, max_tokens=60
    )
    assert done.choices[0].message.parsed.city in ("Lima", "Cusco")
    response = openai.responses.parse(model="small", input="A city?", text_format=city)
    assert response.output_parsed.n == 3


WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


def test_openai_tools(openai: Any) -> None:
    settings = {"model": "small", "tools": [TOOL], "tool_choice": "required", "temperature": 0}
    whole = openai.chat.completions.create(messages=SAY, **settings)
    message = whole.choices[0].message
    call = message.tool_calls[0]
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    parts = [
        delta.function.arguments
        for chunk in openai.chat.completions.create(messages=SAY, stream=True, **settings)
        for delta in chunk.choices[0].delta.tool_calls or ()
        if delta.index == 0
    ]
    assert "".join(parts) == call.function.arguments
    result = {"role": "tool", "tool_call_id": call.id, "content": "7 degrees"}
    follow = openai.chat.completions.create(
        model="small",
        messages=[*SAY, message, result],
        tools=[TOOL],
        tool_choice="none",
        max_tokens=8,
    )
    assert follow.choices[0].message.content
    flat = {"type": "function", "name": "weather", "parameters": WEATHER}
    response = openai.responses.create(
        model="small", input="Weather?", tools=[flat], tool_choice="required"
    )
    assert response.output[0].type == "function_call"


def test_openai_other_endpoints(openai: Any) -> None:
    assert [model.id for model in openai.models.list()][-1] == "small"
    text = openai.completions.create(
        model="small", prompt="Once upon", max_tokens=5, logprobs=2, echo=True
    )
    assert text.choices[0].text.startswith("Once upon")
    assert text.choices[0].logprobs.token_logprobs[0] is None
    response = openai.responses.create(model="small", input="Hi", max_output_tokens=8)
    assert response.output_text
    events = list(
        openai.responses.create(model="small", input="Hi", max_output_tokens=8, stream=True)
    )
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_openai_errors(openai: Any, url: str, unavailable: Any) -> None:
    module = wanted("openai", unavailable)
    with pytest.raises(module.NotFoundError, match="not found"):
        openai.chat.completions.create(model="nobody", messages=SAY)
    with pytest.raises(module.BadRequestError) as caught:
        openai.chat.completions.create(
            model="small", messages=[{"role": "user", "content": "word " * 5000}]
        )
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(module.BadRequestError, match="temperature"):
        openai.chat.completions.create(model="small", messages=SAY, temperature=-3)
    with (
        module.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as other,
        pytest.raises(module.AuthenticationError),
    ):
        other.models.list()


def test_openai_leaves(openai: Any, url: str, unavailable: Any) -> None:
    module = wanted("openai", unavailable)
    long = {
        "model": "small",
        "messages": SAY,
        "max_tokens": 1900,
        "extra_body": {"ignore_eos": True},
    }
    stream = openai.chat.completions.create(**long, stream=True)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    stream.close()
    wait_until_idle(url)
    with pytest.raises(module.APITimeoutError):
        openai.chat.completions.create(**long, timeout=0.3)
    wait_until_idle(url)


def test_anthropic(url: str, unavailable: Any) -> None:
    module = wanted("anthropic", unavailable)
    with module.Anthropic(base_url=url, api_key=KEY, max_retries=0) as client:
        settings = {"model": "small", "max_tokens": 10, "messages": SAY}
        settings["extra_body"] = {"temperature": 0}
        whole = client.messages.create(**settings)
        with client.messages.stream(**settings) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == whole.content[0].text == final.content[0].text
        assert final.stop_reason == whole.stop_reason
        count = client.messages.count_tokens(model="small", messages=SAY)
        usage = whole.usage
        assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
        tool = {"name": "weather", "input_schema": WEATHER}
        called = client.messages.create(
            model="small", max_tokens=100, messages=SAY, tools=[tool], tool_choice={"type": "any"}
        )
        assert called.stop_reason == "tool_use"
        assert called.content[-1].input["city"] in ("Oslo", "Rome")
        with pytest.raises(module.NotFoundError):
            client.messages.create(**{**settings, "model": "nobody"})
        with pytest.raises(module.BadRequestError):
            client.messages.create(**{**settings, "max_tokens": -1})
    with (
        module.Anthropic(base_url=url, api_key="wrong", max_retries=0) as other,
        pytest.raises(module.AuthenticationError),
    ):
        other.messages.create(**settings)


def test_ollama(url: str, unavailable: Any) -> None:
    module = wanted("ollama", unavailable)
    client = module.Client(host=url, headers={"Authorization": f"Bearer {KEY}"})
    options = {"temperature": 0, "num_predict": 10}
    whole = client.chat("small", messages=SAY, options=options)
    parts = client.chat("small", messages=SAY, options=options, stream=True)
    assert "".join(part.message.content for part in parts) == whole.message.content
    answer = client.chat("small", messages=SAY, format=CITY, options={"num_predict": 100})
    assert json.loads(answer.message.content)["country"] == "Peru"
    assert client.generate("small", "Once", options=options).response
    assert client.list().models[0].model.endswith(":latest")
    assert client.ps().models
    assert client.show("small").modelinfo["general.architecture"] == "llama"
    with pytest.raises(module.ResponseError) as caught:
        client.chat("nobody", messages=SAY)
    assert caught.value.status_code == 404


def test_langchain(url: str, unavailable: Any) -> None:
    module = wanted("langchain_openai", unavailable)
    chat = module.ChatOpenAI(
        base_url=f"{url}/v1", api_key=KEY, model="small", temperature=0, max_completion_tokens=40
    )
    whole = chat.invoke("Say hello.")
    assert whole.content
    assert "".join(str(chunk.content) for chunk in chat.stream("Say hello.")) == whole.content
    called = chat.bind_tools([TOOL], tool_choice="weather").invoke("Weather?")
    assert called.tool_calls[0]["args"]["city"] in ("Oslo", "Rome")
    found = chat.with_structured_output(CITY | {"title": "City"}).invoke("A city?")
    assert found["country"] == "Peru"


def test_litellm(url: str, unavailable: Any) -> None:
    module = wanted("litellm", unavailable)
    settings = {"model": "openai/small", "api_base": f"{url}/v1", "api_key": KEY, "messages": SAY}
    whole = module.completion(**settings, max_tokens=8, temperature=0)
    chunks = module.completion(**settings, max_tokens=8, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    with pytest.raises(module.ContextWindowExceededError):
        module.completion(**{**settings, "messages": [{"role": "user", "content": "a b " * 5000}]})


def test_llm(url: str, unavailable: Any, tmp_path: Path) -> None:
    wanted("llm", unavailable)
    models = [
        {"model_id": "mine", "model_name": "small", "api_base": f"{url}/v1", "api_key_name": "k"}
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))
    (tmp_path / "keys.json").write_text(json.dumps({"k": KEY}))
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    command = [sys.executable, "-m", "llm", "-m", "mine", "-o", "max_tokens", "8", "Say hello."]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
