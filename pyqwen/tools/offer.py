"""What a request offers to the model: its tools, whether it must call them, and how they are presented."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pyqwen.tools.grammar import Thinking, tool_grammar
from pyqwen.tools.guidance import Guidance
from pyqwen.tools.scanner import ToolCallScanner
from pyqwen.tools.tool import Tool, read_tools

if TYPE_CHECKING:
    from pyqwen.constraints.constraint import Constraint

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

    @cached_property
    def guidance(self) -> Guidance | None:
        """How the model is led; None if it needs not be."""
        return Guidance.beside({tool.name for tool in self.tools}) if self.guided else None

    def specs(self) -> list[dict[str, Any]]:
        """What the template is told of the tools."""
        led = self.guidance.tools() if self.guidance is not None else []
        return [tool.spec for tool in (*self.tools, *led)]

    def messages(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        calls: Collection[int],
        describe: bool,
        encode: Callable[[str], list[int]],
    ) -> list[dict[str, Any]]:
        """The normalized messages as this model should see them.

        ``calls``: which of them have calls as the model wrote them for their content. ``describe``: say in
        the system's message what tools there are, for the template does not. ``encode``: the tokens of a
        text.
        """
        shown = [dict(message) for message in messages]
        examples = []
        if self.guidance is not None:
            examples = self.guidance.examples()
            shown = [
                self.guidance.led(message, is_calls=i in calls, encode=encode)
                if message["role"] == "assistant"
                else message
                for i, message in enumerate(shown)
            ]
        system = shown[:1] if shown[0]["role"] == "system" else []
        rest = shown[len(system) :]
        if describe:
            lines = "\n".join(json.dumps(spec, ensure_ascii=False) for spec in self.specs())
            text = _SYSTEM.format(tools=lines)
            before = f"{system[0]['content']}\n\n" if system and system[0]["content"] else ""
            system = [{"role": "system", "content": before + text}]
        return [*system, *examples, *rest]

    def grammar(self, *, thinking: Thinking, words: Constraint | None = None) -> str:
        """The grammar of the answer; the arguments as in ``tool_grammar``."""
        return tool_grammar(
            self.offered,
            is_token=self.is_tag,
            must_call=self.must_call,
            parallel=self.parallel,
            guidance=self.guidance,
            thinking=thinking,
            words=words,
        )

    def scanner(self, seed: int | None, prompt: Sequence[int]) -> ToolCallScanner:
        """What finds the calls in an answer to ``prompt``.

        Their ids are the same for the same prompt and seed, and others in every other turn.
        """
        source = f"{seed} {sha256(array('q', prompt)).hexdigest()}"

        def new_id(index: int) -> str:
            return f"call_{sha256(f'{index} {source}'.encode()).hexdigest()[:24]}"

        guidance = self.guidance
        unheard = (guidance.direct, guidance.wait) if guidance is not None else ()
        return ToolCallScanner({tool.name for tool in self.tools}, new_id, unheard)


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
