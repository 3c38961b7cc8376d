"""What a request offers to the model: its tools, whether it must call them, and how they are presented.

Qwen2.5 and Qwen3 were taught to write ``<tool_call>`` tags by themselves. Qwen2.5-Coder was not: it calls
a function for every question, and in a form of its own. Such models are *guided*: their answer begins with a
call that the grammar opens, and one of the functions, ``answer``, means that they answer in words. Two or
three examples show them the difference. ``benchmarks/tool_calls.py`` measures what that gains.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqwen.tools.grammar import Thinking, tool_grammar
from pyqwen.tools.scanner import BEGIN, END, ToolCallScanner
from pyqwen.tools.tool import Tool, read_tools

if TYPE_CHECKING:
    from pyqwen.constraints.constraint import Constraint

_DIRECT_NAMES = ("answer", "answer_directly", "no_function", "no_function_needed")
_DIRECT_DESCRIPTION = (
    "Answer in words or code. Use this for every greeting, question of knowledge, explanation, translation, "
    "calculation, or text to be written."
)
# As the template of Qwen2.5 says it, for those that say nothing of tools.
_SYSTEM = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
    "function signatures within <tools></tools> XML tags:\n<tools>\n{tools}\n</tools>\n\nFor each function "
    "call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
    '<tool_call>\n{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call>'
)


@dataclass(frozen=True)
class Offer:
    """The tools of one request that may be called."""

    tools: tuple[Tool, ...]
    offered: tuple[Tool, ...]
    """Those of them that the model may call: all, or the one that was named."""
    must_call: bool
    parallel: bool
    guided: bool
    is_tag: Callable[[str], bool]
    """Whether a text is one token of the vocabulary."""

    @property
    def direct(self) -> str | None:
        """The name of the function that means an answer in words; None if the model is not guided."""
        if self.must_call or not self.guided:
            return None
        taken = {tool.name for tool in self.tools}
        free = (name for name in _DIRECT_NAMES if name not in taken)
        return next(free, f"answer_{len(taken)}_directly")

    @property
    def _direct_call(self) -> str | None:
        """How an answer in words begins."""
        return None if self.direct is None else _call(self.direct) + "\n"

    def specs(self) -> list[dict[str, Any]]:
        """What the template is told of the tools."""
        specs = [tool.spec for tool in self.tools]
        if self.direct is not None:
            nothing = {"type": "object", "properties": {}, "required": []}
            specs.append(Tool(self.direct, _DIRECT_DESCRIPTION, nothing).spec)
        return specs

    def messages(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        describe: bool,
        encode: Callable[[str], list[int]],
    ) -> list[dict[str, Any]]:
        """The normalized messages as this model should see them.

        ``describe``: say in the system's message what tools there are, for the template does not.
        ``encode``: the tokens of a text.
        """
        begin = self._direct_call
        shown = [dict(message) for message in messages]
        if begin is not None:
            prefix = encode(begin)
            for message in shown:
                if message["role"] == "assistant" and "tool_calls" not in message:
                    message["content"] = begin + message["content"]
                    if message.get("token_ids"):
                        message["token_ids"] = [*prefix, *message["token_ids"]]
        system = shown[:1] if shown[0]["role"] == "system" else []
        rest = shown[len(system) :]
        if describe:
            lines = "\n".join(json.dumps(spec, ensure_ascii=False) for spec in self.specs())
            text = _SYSTEM.format(tools=lines)
            before = f"{system[0]['content']}\n\n" if system and system[0]["content"] else ""
            system = [{"role": "system", "content": before + text}]
        return [*system, *(_examples(begin) if begin is not None else []), *rest]

    def grammar(self, *, thinking: Thinking, words: Constraint | None = None) -> str:
        """The grammar of the answer; the arguments as in ``tool_grammar``."""
        return tool_grammar(
            self.offered,
            is_token=self.is_tag,
            must_call=self.must_call,
            parallel=self.parallel,
            direct=self._direct_call,
            thinking=thinking,
            words=words,
        )

    def scanner(self, new_id: Callable[[int], str]) -> ToolCallScanner:
        """What finds the calls in the answer."""
        return ToolCallScanner({tool.name for tool in self.tools}, new_id, self.direct)


def read_offer(
    tools: Any, choice: Any, parallel: Any, *, guided: bool, is_tag: Callable[[str], bool]
) -> Offer | None:
    """Understand ``tools``, ``tool_choice`` and ``parallel_tool_calls``; None where none may be called.

    ``guided``: the model does not begin calls by itself where one is needed.

    Raises ``TypeError`` and ``ValueError`` for what they cannot be.
    """
    read = tuple(read_tools(tools))
    name = _choice(choice)
    if not isinstance(parallel, bool):
        raise TypeError(f"parallel_tool_calls must be a bool, not {type(parallel).__name__}")
    named = tuple(tool for tool in read if tool.name == name)
    if name not in ("auto", "none") and not (read if name == "required" else named):
        known = ", ".join(tool.name for tool in read)
        what = f"there are: {known}" if known else "there are no tools"
        raise ValueError(f"tool_choice is {name!r:.80}, but {what}")
    if not read or name == "none":
        return None
    return Offer(read, named or read, name != "auto", parallel and not named, guided, is_tag)


def _choice(choice: Any) -> str:
    if choice is None:
        return "auto"
    if isinstance(choice, Mapping):
        inner = choice.get("function", choice)
        choice = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(choice, str):
        raise TypeError(
            'tool_choice is "auto", "none", "required", the name of a tool, or OpenAI\'s dict'
        )
    return choice


def _call(name: str, **arguments: Any) -> str:
    written = json.dumps({"name": name, "arguments": arguments})
    return f"{BEGIN}\n{written}\n{END}"


def _examples(begin: str) -> list[dict[str, Any]]:
    """A conversation that shows when to answer in words, and that there may be several calls."""
    code = "```python\ndef reverse(text):\n    return text[::-1]\n```"
    calls = f"{_call('get_time', place='Rome')}\n{_call('get_time', place='Cairo')}"
    pairs = [
        ("Who painted the Mona Lisa?", f"{begin}Leonardo da Vinci painted it."),
        ("What time is it in Rome and in Cairo?", calls),
        ("Write a Python function that reverses a string.", begin + code),
    ]
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
