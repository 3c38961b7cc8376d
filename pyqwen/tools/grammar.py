"""The grammar of an answer with calls, in llguidance's dialect of Lark.

It binds calls alone: free text stays free until one begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pyqwen.constraints.constraint import json_grammar
from pyqwen.errors import ConstraintError
from pyqwen.tools.scanner import BEGIN, END
from pyqwen.tools.tool import Tool

if TYPE_CHECKING:
    from pyqwen.constraints.constraint import Constraint
    from pyqwen.tools.guidance import Guidance

# As models write JSON on one line. What a grammar cannot express of a schema is left out.
_JSON = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
MOST_CALLS = 16
"""In one answer that consists of calls: some models would go on for ever."""
Thinking = Literal["possible", "open"] | None
_TEXT = r"/(.|\n)+/"


def tool_grammar(
    tools: Sequence[Tool],
    *,
    is_token: Callable[[str], bool],
    must_call: bool,
    parallel: bool,
    guidance: Guidance | None = None,
    thinking: Thinking = None,
    words: Constraint | None = None,
) -> str:
    """The grammar of an answer that calls some of ``tools``.

    ``is_token``: whether the vocabulary has a tag as a token of its own. ``must_call``: whether the answer is
    nothing but calls. ``parallel``: whether there may be several. ``guidance``: what leads a model that does
    not begin and end calls by itself. ``thinking``: whether reasoning may come before it, or has begun.
    ``words``: what an answer without calls must look like.
    """

    def tag(text: str) -> str:
        return text if is_token(text) else json.dumps(text)

    def given(text: str) -> str:
        """A text with calls in it, which the model has to write as it is."""
        parts = re.split(f"({BEGIN}|{END})", text)
        return " ".join(
            tag(part) if part in (BEGIN, END) else json.dumps(part) for part in parts if part
        )

    is_json = words is not None and words.kind == "json"
    free = "words" if is_json else "WORDS"
    rules = [f"{free}: {_form(words)}"] if words is not None and not must_call else []
    several = "call"
    if parallel and guidance is not None:
        several = f'call ("\\n" call){{0,{MOST_CALLS - 1}}} {given(guidance.after_calls)}'
    elif parallel:
        several = f'call ("\\n" call){{0,{MOST_CALLS - 1}}}'
    rules.append(f"calls: {several}")
    answer = "calls"
    if not must_call and guidance is not None:
        answer = f"calls | {given(guidance.before_words)} {free}"
        if words is None:
            rules.append(r"WORDS: /[^ \t\r\n](.|\n)*/")
    elif not must_call and words is not None:
        answer = f"calls | {free}"
    elif not must_call:
        answer = "(WORDS | call)*" if parallel else "WORDS? call?"
        rules[-1] = f"WORDS: {_TEXT}"
    if thinking is not None:
        begin, end = tag("<think>"), tag("</think>")
        whole = f"({begin} THOUGHT? {end})?" if thinking == "possible" else f"THOUGHT? {end}"
        rules += [f"think: {whole} /\\n*/", f"THOUGHT: {_TEXT}"]
        answer = f"think ({answer})"
    lines = [f"start: {answer}", *rules]
    names = " | ".join(f"f{i}" for i in range(len(tools)))
    lines.append(f'call: {tag(BEGIN)} "\\n{{\\"name\\": \\"" ({names}) "}}\\n" {tag(END)}')
    for i, tool in enumerate(tools):
        head = json.dumps(f'{tool.name}", "arguments": ', ensure_ascii=False)
        lines.append(f"f{i}: {head} a{i}")
        lines.append(f"a{i}: %json {json.dumps(_schema(tool), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _form(words: Constraint) -> str:
    """The right side of a rule for an answer of some form."""
    if words.kind == "json":
        schema = json.loads(words.text)
        if isinstance(schema, bool):
            schema = {} if schema else {"not": {}}
        return f"%json {json_grammar(schema, words.whitespace, not words.strict)}"
    if words.kind == "regex":
        return "/" + words.text.replace("/", "\\/") + "/"
    raise ConstraintError(
        "with tools, a response_format is a schema, a regular expression or choices, not a whole grammar"
    )


def _schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are an object whatever it says."""
    schema = {"type": "object", **tool.parameters}
    if "properties" in schema and "additionalProperties" not in schema:
        schema["additionalProperties"] = False  # models invent parameters
    return {**schema, "x-guidance": {**_JSON, "lenient": not tool.strict}}
