"""The conversation between a model and its tools, with answers that are written here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from pyqwen.results import ChatCompletion, Timings, ToolCall, Usage
from pyqwen.tools.loop import REFUSED, ToolLoop


def answer(text: str = "", *calls: ToolCall) -> ChatCompletion:
    """An answer as a model gives it."""
    timings = Timings(0, 0, None, 0, 0, 0)
    reason: Any = "tool_calls" if calls else "stop"
    facts = (text, [], reason, Usage(1, 1, 0), timings, None, 0)
    return ChatCompletion(*facts, tool_calls=list(calls))


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(f"id_{name}", name, arguments, json.dumps(arguments))


@dataclass
class Weather:
    degrees: int


def weather(city: str) -> Weather:
    if city == "Atlantis":
        raise LookupError("no such city")
    return Weather(7)


async def later(n: int) -> str:
    await asyncio.sleep(0)
    return f"later {n}"


def loop(*tools: Any, **more: Any) -> ToolLoop:
    given = {"options": {}, "max_rounds": 8, "on_call": None, **more}
    return ToolLoop("Weather?", list(tools) or [weather, later], **given)


def test_a_run() -> None:
    run = loop()
    (first,) = run.take(answer("", call("weather", city="Oslo")))
    result = run.run(first)
    assert (result.text, result.value) == ('{"degrees": 7}', Weather(7))
    last = answer("7 degrees.")
    assert run.take(last) == []
    assert [m["role"] for m in run.finished(last).messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert run.messages[2] == {
        "role": "tool",
        "tool_call_id": "id_weather",
        "name": "weather",
        "content": '{"degrees": 7}',
    }


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (call("weather", city="Atlantis"), "error: LookupError: no such city"),
        (call("weather"), "error: the argument 'city' is missing"),
        (call("weather", city=[1]), "error: city must be string, not [1]"),
        (call("nothing"), "error: there is no tool 'nothing'; there are: weather, later"),
        (ToolCall("x", "weather", {}, "{", "cut off"), "error: the call is malformed: cut off"),
        (call("later", n=3), "later 3"),
    ],
)
def test_what_a_model_is_told(made: ToolCall, text: str) -> None:
    run = loop()
    run.take(answer("", made))
    assert run.run(made).text == text
    assert asyncio.run(loop().arun(made)).text == text

    async def beside_a_loop() -> str:
        return loop().run(made).text

    assert asyncio.run(beside_a_loop()) == text


def test_refusals() -> None:
    seen = []

    def ask(made: ToolCall) -> bool:
        seen.append(made.arguments)
        return False

    async def ask_later(made: ToolCall) -> bool:
        return ask(made)

    oslo = call("weather", city="Oslo")
    assert loop(on_call=ask).run(oslo).text == REFUSED
    assert asyncio.run(loop(on_call=ask_later).arun(oslo)).text == REFUSED
    assert seen == [{"city": "Oslo"}] * 2
    assert loop(on_call=lambda made: None).run(oslo).value == Weather(7)


def test_the_end() -> None:
    oslo = call("weather", city="Oslo")
    run = loop(max_rounds=2)
    assert run.take(answer("", oslo))
    assert run.take(answer("", oslo)) == [], "two rounds are over"
    assert loop({"name": "mine"}).take(answer("", call("mine"))) == [], "the caller answers"
    cut = answer("", oslo)
    object.__setattr__(cut, "finish_reason", "length")
    assert loop().take(cut) == []


def test_what_has_to_be_called_is_called_once() -> None:
    run = loop(options={"tool_choice": "weather", "temperature": 0})
    assert run.options["tool_choice"] == "weather"
    run.take(answer("", call("weather", city="Oslo")))
    assert (run.options["tool_choice"], run.options["temperature"]) == ("auto", 0)
    run = loop(options={"tool_choice": "none"})
    run.take(answer("Hm."))
    assert run.options["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"a": (1, 2), "b": {3}}, '{"a": [1, 2], "b": [3]}'),
        ("é", "é"),
        ([Weather(1)], '[{"degrees": 1}]'),
        (1 + 2j, '"(1+2j)"'),
        ({(1, 2): 3}, "{(1, 2): 3}"),
    ],
)
def test_results(value: Any, text: str) -> None:
    def give() -> Any:
        return value

    assert loop(give).run(call("give")).text == text


def test_interrupts_go_through() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop(stop).run(call("stop"))


@pytest.mark.parametrize(
    "wrong",
    [{"max_rounds": 0}, {"max_rounds": True}, {"max_rounds": 1.5}, {"on_call": 5}],
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        loop(**wrong)
