"""examples/langchain_chat.py with the real LangChain."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "langchain_chat.py"

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]

GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def chat_class(unavailable: Callable[[str], None]) -> Any:
    if importlib.util.find_spec("langchain_core") is None:
        unavailable("langchain-core (pip install langchain-core)")
    spec = importlib.util.spec_from_file_location("langchain_chat", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["langchain_chat"] = module  # pydantic looks its annotations up there
    spec.loader.exec_module(module)
    return module.ChatPyQwen


@pytest.fixture
def chat(chat_class: Any, tiny_model_path: Path) -> Iterator[Any]:
    chat = chat_class(model=str(tiny_model_path), context=512, options=GREEDY)
    yield chat
    chat.close()


@pytest.fixture(scope="module")
def qwen(chat_class: Any, qwen_path: Path) -> Iterator[Any]:
    chat = chat_class(model=str(qwen_path), options={"temperature": 0, "max_tokens": 200})
    yield chat
    chat.close()


def test_the_same_text_in_every_way(chat: Any) -> None:
    whole = chat.invoke("Hello")
    assert whole.content == chat.opened.chat("Hello", **GREEDY).text
    pieces = list(chat.stream("Hello"))
    added = pieces[0]
    for piece in pieces[1:]:
        added += piece
    assert added.content == whole.content
    assert added.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"] > 0
    assert added.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"]

    async def main() -> None:
        assert (await chat.ainvoke("Hello")).content == whole.content
        assert "".join([piece.content async for piece in chat.astream("Hello")]) == whole.content

    asyncio.run(main())


def test_messages_options_and_batches(chat: Any) -> None:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    messages = [SystemMessage("Be brief."), HumanMessage("a"), AIMessage("b"), HumanMessage("c")]
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert chat.invoke(messages).content == chat.opened.chat(plain, **GREEDY).text
    assert chat.bind(max_tokens=3).invoke("a").usage_metadata["output_tokens"] <= 3
    answers = chat.batch(["a", "b", "a"])
    assert answers[0].content == answers[2].content
    text = chat.invoke("a").content
    stop = text[len(text) // 2 :][:4]
    assert stop not in chat.invoke("a", stop=[stop]).content


def test_a_chain_with_callbacks(chat: Any) -> None:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    seen: list[str] = []

    class Handler(BaseCallbackHandler):
        def on_llm_new_token(self, token: str, **_: Any) -> None:
            seen.append(token)

    chain = ChatPromptTemplate.from_messages([("user", "About {what}")]) | chat | StrOutputParser()
    text = "".join(chain.stream({"what": "foxes"}, {"callbacks": [Handler()]}))
    assert text == "".join(seen) == chat.invoke("About foxes").content


def test_leaving_a_stream_stops_the_model(chat: Any) -> None:
    for _ in chat.bind(max_tokens=400, ignore_eos=True).stream("Hello"):
        break
    assert chat.invoke("Hello").content  # nothing is in the way


@pytest.mark.qwen
def test_structured_output(qwen: Any) -> None:
    from pydantic import BaseModel

    class City(BaseModel):
        name: str
        country: str
        population: int

    question = "Berlin is the capital of Germany and has 3.7 million people. Extract the city."
    city = qwen.with_structured_output(City).invoke(question)
    assert isinstance(city, City)
    assert (city.name, city.country) == ("Berlin", "Germany")
    both = qwen.with_structured_output(City.model_json_schema(), include_raw=True).invoke(question)
    assert both["parsed"]["name"] == "Berlin"
    assert both["raw"].content


@pytest.mark.qwen
def test_tools(qwen: Any) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"In {city} it is 11 degrees and raining."

    bound = qwen.bind_tools([get_weather])
    messages = [HumanMessage("What is the weather in Oslo?")]
    reply = bound.invoke(messages)
    (call,) = reply.tool_calls
    assert call["name"] == "get_weather"
    assert call["args"] == {"city": "Oslo"}
    messages += [reply, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])]
    assert "11" in bound.invoke(messages).content
    added = None
    for piece in bound.stream([HumanMessage("What is the weather in Oslo?")]):
        added = piece if added is None else added + piece
    assert added is not None
    assert [c["args"] for c in added.tool_calls] == [{"city": "Oslo"}]
    forced = qwen.bind_tools([get_weather], tool_choice="any").invoke("Oslo!")
    assert forced.tool_calls
