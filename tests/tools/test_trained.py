"""Tools on the trained Qwen2.5-Coder-1.5B, which was not taught them: some prompts of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model

pytestmark = pytest.mark.qwen

DATA = json.loads((Path(__file__).parents[2] / "benchmarks/tool_prompts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def model(qwen_path: Path) -> Iterator[Model]:
    with Model(qwen_path, context=4096) as model:
        yield model


def ask(model: Model, prompt: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    options = {"tools": DATA["tools"], "temperature": 0, "max_tokens": 100, **options}
    return [(call.name, call.arguments) for call in model.chat(prompt, **options).tool_calls]


def test_one_call_and_two(model) -> None:
    assert ask(model, "Convert 99.50 GBP to JPY.") == [
        ("convert_currency", {"amount": 99.5, "source": "GBP", "target": "JPY"})
    ]
    assert ask(model, "Look up the share prices of NVDA and INTC.") == [
        ("get_stock_price", {"symbol": "NVDA"}),
        ("get_stock_price", {"symbol": "INTC"}),
    ]
    assert (
        len(ask(model, "Look up the share prices of NVDA and INTC.", parallel_tool_calls=False))
        == 1
    )


@pytest.mark.parametrize(
    "prompt", [p["prompt"] for p in DATA["prompts"] if not p["calls"]][:8], ids=lambda p: p[:20]
)
def test_questions_that_need_no_tool_get_none(model, prompt: str) -> None:
    assert ask(model, prompt) == []


def test_choices(model) -> None:
    prompt = "What does a share of AAPL cost now?"
    assert ask(model, prompt, tool_choice="required")[0] == ("get_stock_price", {"symbol": "AAPL"})
    ((name, arguments),) = ask(model, prompt, tool_choice="run_sql")
    assert (name, list(arguments)) == ("run_sql", ["query"])


def test_a_run_ends_with_words(model) -> None:
    def get_price(symbol: str) -> dict[str, float]:
        """Price of a share now, in dollars.

        Args:
            symbol: Ticker symbol such as AAPL.
        """
        return {"price": 231.5}

    reply = model.run_tools("What does a share of AAPL cost?", [get_price], temperature=0)
    assert reply.finish_reason == "stop"
    assert "231.5" in reply.text
    assert [message["role"] for message in reply.messages] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    # The tokens of calls are the same in the next prompt.
    assert reply.usage.cached_tokens > reply.usage.prompt_tokens - 80
