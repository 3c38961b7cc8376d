"""How a model is led that was not taught to call tools: what is added to its prompt.

Qwen2.5 and Qwen3 write ``<tool_call>`` tags by themselves, where a tool is needed. Qwen2.5-Coder does not: it
answers whatever one says with a call, in a form of its own, and with one where two are needed. So its answer
begins with a call that the grammar opens, and two more functions are described to it: one means that it
answers in words, which then follow, and one that it has called all it needs. A choice among names is one that
such a model makes well; examples show it which. ``benchmarks/tool_calls.py`` measures what that gains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyqwen.tools.scanner import BEGIN, END
from pyqwen.tools.tool import Tool

_DIRECT = (
    "Answer in words or code. Use this for every greeting, question of knowledge, explanation, translation, "
    "calculation, or text to be written."
)
_WAIT = (
    "Wait for the results of the functions that were called. Use this after the last call that the user's "
    "request needs."
)


@dataclass(frozen=True)
class Guidance:
    """The two functions, by names that no tool has."""

    direct: str
    """The function that means an answer in words."""
    wait: str
    """The function that means that there are no more calls."""

    @classmethod
    def beside(cls, names: Collection[str]) -> Guidance:
        """For tools of these names."""
        return cls(_free("answer", names), _free("wait", names))

    @property
    def before_words(self) -> str:
        """How an answer in words begins."""
        return f"{written_call(self.direct, {})}\n"

    @property
    def after_calls(self) -> str:
        """How an answer of calls ends."""
        return f"\n{written_call(self.wait, {})}"

    def tools(self) -> list[Tool]:
        """What is described beside the tools."""
        nothing: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
        return [Tool(self.direct, _DIRECT, nothing), Tool(self.wait, _WAIT, nothing)]

    def examples(self) -> list[dict[str, Any]]:
        """A conversation that shows when to answer in words, and when to call once or twice."""
        one = _call("get_time", place="Lagos")
        two = f"{_call('get_time', place='Rome')}\n{_call('get_time', place='Cairo')}"
        code = "```python\ndef reverse(text):\n    return text[::-1]\n```"
        pairs = [
            ("Who painted the Mona Lisa?", f"{self.before_words}Leonardo da Vinci painted it."),
            ("What time is it in Lagos?", one + self.after_calls),
            ("Write a Python function that reverses a string.", self.before_words + code),
            ("What time is it in Rome and in Cairo?", two + self.after_calls),
        ]
        return [
            {"role": role, "content": text}
            for pair in pairs
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]

    def led(
        self, message: Mapping[str, Any], *, is_calls: bool, encode: Callable[[str], list[int]]
    ) -> dict[str, Any]:
        """An earlier answer in the form in which the next is expected.

        ``is_calls``: its content is calls as the model wrote them.
        """
        shown = {key: value for key, value in message.items() if key != "tool_calls"}
        ids = list(message.get("token_ids", ()))
        if "tool_calls" in message:
            calls = (call.get("function", call) for call in message["tool_calls"])
            lines = [written_call(call["name"], call["arguments"]) for call in calls]
            text = f"{message['content']}\n" if message["content"] else ""
            shown["content"] = text + "\n".join(lines) + self.after_calls
            shown.pop("token_ids", None)
        elif is_calls:
            shown["content"] += self.after_calls
            shown["token_ids"] = ids + encode(self.after_calls)
        else:
            shown["content"] = self.before_words + message["content"]
            if ids:
                shown["token_ids"] = encode(self.before_words) + ids
        return shown


def written_call(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as a model writes it."""
    written = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, default=str)
    return f"{BEGIN}\n{written}\n{END}"


def _call(name: str, **arguments: Any) -> str:
    return written_call(name, arguments)


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or the next like it that no tool has."""
    names: Sequence[str] = [name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))]
    return next(free for free in names if free not in taken)
