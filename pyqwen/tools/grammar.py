"""The grammar of an answer with calls, in llguidance's dialect of Lark.

It binds calls alone: free text stays free until one begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pyqwen.tools.scanner import BEGIN, END
from pyqwen.tools.tool import Tool

# As models write JSON on one line. What a grammar cannot express of a schema is left out.
_JSON = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
_TEXT = r"/(.|\n)+/"


def tool_grammar(
    tools: Sequence[Tool],
    *,
    is_token: Callable[[str], bool],
    must_call: bool,
    parallel: bool,
    direct: str | None = None,
    thinks: bool = False,
) -> str:
    """The grammar of an answer that calls some of ``tools``.

    ``is_token``: whether the vocabulary has a tag as a token of its own. ``must_call``: whether the answer is
    nothing but calls. ``parallel``: whether there may be several. ``direct``: how an answer in words begins,
    where calls are not begun by the model itself. ``thinks``: whether reasoning may come before it.
    """

    def tag(text: str) -> str:
        return text if is_token(text) else json.dumps(text)

    several = r'call ("\n" call)*' if parallel else "call"
    answer = several
    rules = []
    if direct is not None:
        begin, name, end = direct.partition(BEGIN)[2].partition(END)
        answer = f"calls | {tag(BEGIN)} {json.dumps(begin)} {tag(name)} {json.dumps(end)} SOME"
        rules = [f"calls: {several}", r"SOME: /[^ \t\r\n](.|\n)*/"]
    elif not must_call:
        answer = "(TEXT | call)*" if parallel else "TEXT? call?"
        rules = [f"TEXT: {_TEXT}"]
    if thinks:
        rules.append(f"think: ({tag('<think>')} THOUGHT? {tag('</think>')})? /\\n*/")
        rules.append(f"THOUGHT: {_TEXT}")
    lines = [
        f"start: {'think ' if thinks else ''}{'(' + answer + ')' if thinks else answer}",
        *rules,
    ]
    names = " | ".join(f"f{i}" for i in range(len(tools)))
    lines.append(f'call: {tag(BEGIN)} "\\n{{\\"name\\": \\"" ({names}) "}}\\n" {tag(END)}')
    for i, tool in enumerate(tools):
        head = json.dumps(f'{tool.name}", "arguments": ', ensure_ascii=False)
        lines.append(f"f{i}: {head} a{i}")
        lines.append(f"a{i}: %json {json.dumps(_schema(tool), ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are an object whatever it says."""
    schema = {"type": "object", **tool.parameters}
    if "properties" in schema and "additionalProperties" not in schema:
        schema["additionalProperties"] = False  # models invent parameters
    return {**schema, "x-guidance": {**_JSON, "lenient": not tool.strict}}
