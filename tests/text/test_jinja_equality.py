"""The interpreter of chat templates beside jinja2: where both give text, it is the same text, and
where jinja2 raises, the interpreter raises ``TemplateError``.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from chat_samples import CONVERSATIONS, TEMPLATES
from hf_jinja import jinja2_render
from hypothesis import given, settings
from hypothesis import strategies as st
from template_grammar import VARIABLES, TemplateGrammar

from pyqwen.errors import TemplateError
from pyqwen.text.chat_template import CHATML, ChatTemplate
from pyqwen.text.jinja.template import Template
from pyqwen.text.jinja.tracked import user_text

SNIPPETS = [
    line
    for line in (Path(__file__).parent / "snippets.txt").read_text("utf-8").splitlines()
    if line.strip() and not line.startswith("# ")
]
SNIPPET_VARIABLES: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be <b>"},
        {"role": "user", "content": " Hi é\n x "},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "arguments": {"a": [1, 2.5, None, True], "ü": "日本"},
                    },
                }
            ],
        },
        {"role": "tool", "content": "7"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {"properties": {"b": {"type": "string"}, "a": {}}},
            },
        }
    ],
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "s": "Hello World foo-bar",
    "n": 5,
    "f": 2.5,
    "none": None,
    "l": [3, 1, 2],
    "d": {"b": 1, "a": [1, "x"], "C": None},
    "e": [],
    "t": "a,b,,c",
    "u": "ÀÉß ﬁ İ",
    "ll": [[1, 2], [3, 4]],
    "words": ["b", "a", "C", "A"],
    "items": [{"k": "x", "v": 2}, {"k": "y", "v": 1}, {"v": 3}],
    "neg": -3,
    "big": 10**18,
    "quo": 'it\'s "q" \\ \n\t\x07',
}


def users(value: Any) -> Any:
    """A copy of data in which users wrote every string."""
    if isinstance(value, str):
        return user_text(value)
    if isinstance(value, list):
        return [users(item) for item in value]
    if isinstance(value, dict):
        return {key: users(item) for key, item in value.items()}
    return value


def outcome(source: str, variables: dict[str, Any], tracked: bool) -> str | None:
    """The text, or None for a ``TemplateError``."""
    given = users(variables) if tracked else copy.deepcopy(variables)
    try:
        return str(Template(source).render(given, 100_000))
    except TemplateError:
        return None


def expected(source: str, variables: dict[str, Any]) -> str | None:
    try:
        return jinja2_render(source, **copy.deepcopy(variables))
    except Exception:  # jinja2 lets the errors of Python's operations through
        return None


@pytest.mark.parametrize("tracked", [False, True], ids=["plain", "tracked"])
def test_snippets(tracked: bool) -> None:
    assert len(SNIPPETS) > 600
    different = []
    for line in SNIPPETS:
        is_template = "{{" in line or "{%" in line or "{#" in line
        source = line.replace("\\n", "\n") if is_template else "{{ " + line + " }}"
        wanted = expected(source, SNIPPET_VARIABLES)
        got = outcome(source, SNIPPET_VARIABLES, tracked)
        if wanted != got:
            different.append((line, wanted, got))
    assert not different


UNSUPPORTED = {
    "{% include 'x' %}": "include",
    "a\n{% extends 'x' %}": "line 2.*extends",
    "{% import 'x' as y %}": "import",
    "{% from 'x' import y %}": "import",
    "{% block b %}{% endblock %}": "block",
    "{% autoescape true %}{% endautoescape %}": "autoescape",
    "{% do l.append(1) %}": "do",
    "{{ self.x() }}": "self",
    "{{ lipsum() }}": "lipsum",
    "{{ l | random }}": "filter 'random'",
    "\n\n{{ 'a'.encode() }}": r"line 3.*str\.encode",
    "{{ (5).bit_length() }}": r"int\.bit_length",
    "{{ {(1, 2): 3} }}": "tuple as a key",
    "{{ namespace() }}": "prints a Namespace",
    "{{ l.append }}{{ l.append(1) }}": "unsafe",
    "{{ s | urlize }}": "urlize",
    "{% if n %}{{ s | nofilter }}{% endif %}": "no filter named 'nofilter'",
    "{{ s is notest }}": "no test named 'notest'",
}


@pytest.mark.parametrize("source", UNSUPPORTED)
def test_what_is_not_supported_is_named(source: str) -> None:
    with pytest.raises(TemplateError, match=UNSUPPORTED[source]):
        Template(source).render(SNIPPET_VARIABLES, 100)


# Whole templates

PUBLISHED = Path(__file__).parents[3] / "shared" / "data"


def published() -> dict[str, str]:
    """The templates of model families that lie beside the repository, if any do."""
    return {path.stem: path.read_text("utf-8") for path in sorted(PUBLISHED.glob("*.jinja"))}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", [*TEMPLATES, "ours", *published()])
def test_whole_templates(name: str, conversation: str) -> None:
    source = {**TEMPLATES, "ours": CHATML, **published()}[name]
    variables = {"bos_token": "<s>", "eos_token": "</s>", **CONVERSATIONS[conversation]}
    wanted = expected(source, variables)
    assert outcome(source, variables, False) == wanted
    assert outcome(source, variables, True) == wanted


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("name", [*TEMPLATES, *published()])
def test_chat_template_gives_the_same_text(name: str, conversation: str) -> None:
    source = {**TEMPLATES, **published()}[name].replace('{{"name"', '{"name"')
    given = copy.deepcopy(CONVERSATIONS[conversation])
    for message in given["messages"]:
        message["content"] = message["content"] or ""  # as ``normalize_messages`` has it
    wanted = expected(source, {"bos_token": "<s>", "eos_token": "</s>", **given})
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>", control_texts=["<|im_end|>"])
    messages = given.pop("messages")
    known = {name: given.pop(name) for name in ("tools", "add_generation_prompt") if name in given}
    if wanted is None:
        with pytest.raises(TemplateError):
            template.render(messages, template_variables=given, **known)
    else:
        rendered = template.render(messages, template_variables=given, **known)
        assert rendered.text == wanted
        assert "".join(map(str, rendered.segments)) == wanted


# Random templates

REFUSALS = re.compile(
    "not supported|'Loop' object is not iterable|exceeds|too large|prints a|width of more|too deep"
    "|levels deep|complex|at least 1|recurses|digits|numbers can be summed|mapping is required"
    "|cannot be sliced"
)


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**63))
def test_random_templates(seed: int) -> None:
    source = TemplateGrammar(Random(seed)).template()
    compare_random(source)


def compare_random(source: str) -> str:
    """Compare both interpreters; says what came out."""
    wanted = expected(source, VARIABLES)
    kinds = set()
    for variables in (copy.deepcopy(VARIABLES), users(VARIABLES)):
        got, problem = None, ""
        try:
            got = str(Template(source).render(variables, 100_000))
        except TemplateError as error:
            problem = str(error)
        if wanted is None:
            assert got is None, source
        elif got is None:
            assert REFUSALS.search(problem), (source, wanted, problem)
        else:
            assert got == wanted, source
        kinds.add("error" if wanted is None else "refused" if got is None else "text")
    assert len(kinds) == 1
    return kinds.pop()
