"""Calls in what models write: every form, every split, and what goes wrong in other parsers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pyqwen.results import ToolCall
from pyqwen.tools.scanner import ToolCallScanner

SLOWLY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

NAMES = ("get_weather", "clock")


def tag(name: str, arguments: Any) -> str:
    """A call as Qwen2.5's template shows it."""
    return f"<tool_call>\n{bare(name, arguments)}\n</tool_call>"


def bare(name: str, arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def assembled(pieces: Iterable[str]) -> tuple[str, list[ToolCall]]:
    """Scan, and check that what a client puts together from the deltas is what the scanner found."""
    scanner = ToolCallScanner(NAMES, lambda index: f"call_{index}")
    text = ""
    deltas = []
    for piece in pieces:
        new, more = scanner.feed(piece)
        text += new
        deltas += more
    rest, more = scanner.flush()
    text += rest
    deltas += more
    seen: list[tuple[str, str, list[str]]] = []
    for delta in deltas:
        if delta.id is not None:
            assert delta.index == len(seen)
            assert delta.name is not None
            seen.append((delta.id, delta.name, []))
        else:
            assert delta.name is None
            assert delta.arguments, "an empty delta"
        assert delta.index == len(seen) - 1, "calls are mixed"
        seen[delta.index][2].append(delta.arguments)
    put_together = [(call, name, "".join(parts)) for call, name, parts in seen]
    assert put_together == [(c.id, c.name, c.arguments_json) for c in scanner.calls]
    for call in scanner.calls:
        assert call.arguments == ({} if call.error else json.loads(call.arguments_json))
    return text, scanner.calls


def scan(text: str) -> tuple[str, list[ToolCall]]:
    return assembled([text])


def found(text: str) -> tuple[str, list[tuple[str, Any]]]:
    """The text and the calls, all of which must be well-formed."""
    text, calls = scan(text)
    assert [call.error for call in calls] == [None] * len(calls)
    return text, [(call.name, call.arguments) for call in calls]


OSLO = ("get_weather", {"city": "Oslo"})
ROME = ("get_weather", {"city": "Rome"})
CLOCK = ("clock", {})

FORMS = {
    "a tag": (tag(*OSLO), "", [OSLO]),
    "two tags": (f"{tag(*OSLO)}\n{tag(*ROME)}", "", [OSLO, ROME]),
    "tags without newlines": (
        f"<tool_call>{bare(*OSLO)}</tool_call><tool_call>{bare(*ROME)}</tool_call>",
        "",
        [OSLO, ROME],
    ),
    "text before": (f"Let me see.\n{tag(*OSLO)}", "Let me see.", [OSLO]),
    "text before and behind": (f"Hm.\n\n{tag(*OSLO)}\n\nDone.", "Hm.\n\nDone.", [OSLO]),
    "text between": (f"{tag(*OSLO)}\nand\n{tag(*ROME)}\n", "and", [OSLO, ROME]),
    "a tag that is not closed": (f"<tool_call>\n{bare(*OSLO)}", "", [OSLO]),
    "a tag closed by the next": (f"<tool_call>\n{bare(*OSLO)}\n{tag(*ROME)}", "", [OSLO, ROME]),
    "two in one tag": (f"<tool_call>{bare(*OSLO)}\n{bare(*ROME)}</tool_call>", "", [OSLO, ROME]),
    "joined by a semicolon": (
        f"<tool_call>{bare(*OSLO)}; {bare(*ROME)}</tool_call>",
        "",
        [OSLO, ROME],
    ),
    "an array in a tag": (
        f"<tool_call>[{bare(*OSLO)}, {bare(*ROME)}]</tool_call>",
        "",
        [OSLO, ROME],
    ),
    "a fence in a tag": (f"<tool_call>\n```json\n{bare(*OSLO)}\n```\n</tool_call>", "", [OSLO]),
    "tags in a fence": (f"```xml\n{tag(*OSLO)}\n```", "", [OSLO]),
    "tools": (f"<tools>\n{bare(*OSLO)}\n</tools>", "", [OSLO]),
    "tools, several lines": (
        f"<tools>\n{bare(*OSLO)}\n{bare(*CLOCK)}\n</tools>",
        "",
        [OSLO, CLOCK],
    ),
    "tools, an array": (f"<tools>[{bare(*OSLO)}, {bare(*CLOCK)}]</tools>", "", [OSLO, CLOCK]),
    "a fence": (f"```json\n{json.dumps(json.loads(bare(*OSLO)), indent=2)}\n```", "", [OSLO]),
    "a fence with two": (f"```json\n{bare(*OSLO)}\n{bare(*ROME)}\n```", "", [OSLO, ROME]),
    "two fences": (f"```json\n{bare(*OSLO)}\n```\n```\n{bare(*ROME)}\n```", "", [OSLO, ROME]),
    "a fence behind text": (f"I look:\n```json\n{bare(*OSLO)}\n```", "I look:", [OSLO]),
    "a fence that is not closed": (f"```json\n{bare(*OSLO)}", "", [OSLO]),
    "bare": (bare(*OSLO), "", [OSLO]),
    "bare, an array": (f"[{bare(*OSLO)}, {bare(*ROME)}]", "", [OSLO, ROME]),
    "bare, lines": (f" {bare(*OSLO)}\n{bare(*ROME)}\n", "", [OSLO, ROME]),
    "bare and a closing tag": (f"{bare(*OSLO)}\n</tool_call>", "", [OSLO]),
    "bare, then a tag": (f"{bare(*OSLO)}\n{tag(*ROME)}", "", [OSLO, ROME]),
    "parameters": (f"<tool_call>{bare(*OSLO).replace('arguments', 'parameters')}", "", [OSLO]),
    "OpenAI's object": (
        '<tool_call>{"id": "1", "type": "function", "function": '
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}}</tool_call>',
        "",
        [OSLO],
    ),
    "arguments first": (
        '<tool_call>{"arguments": {"city": "Oslo"}, "name": "get_weather"}</tool_call>',
        "",
        [OSLO],
    ),
    "no arguments": ('<tool_call>{"name": "clock"}</tool_call>', "", [CLOCK]),
    "null": ('<tool_call>{"name": "clock", "arguments": null}</tool_call>', "", [CLOCK]),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    written, text, calls = FORMS[form]
    assert found(written) == (text, calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Plain text, with a < b and {braces}.\n",
        '{"a": 1}',
        '{"name": "Ada", "age": 36}',
        '{"name": "get_weather"}',
        '{"name": "get_weather", "arguments": [1]}',
        '{"name": "get_weather", "arguments": "Oslo"}',
        '{"name": "other", "arguments": {}}',
        '{"name": "get_weather", "arguments": {"city": "Os',
        '{"name": "get_weather", "arguments": {}} is how to ask.',
        'Write {"name": "get_weather", "arguments": {}}',
        '[1, {"name": "clock", "arguments": {}}]',
        "```json\n{}\n```\n",
        '```json\n{"name": "other", "arguments": {}}\n```',
        '```python\nprint({"name": "clock", "arguments": {}})\n```',
        '```json\n{"name": "clock", "arguments": {}}\nand\n```',
        "````\n`x`\n````",
        "a ``` b",
        '<tools>\n{"type": "function", "function": {"name": "get_weather"}}\n</tools>',
        "<tools> are listed",
        "a <tool_cal",
        "The tag <tool_call> begins a call",
        "</tool_call>",
        "[",
        "{",
        "``",
        "<",
    ],
)
def test_what_is_no_call_stays_as_it_is(text: str) -> None:
    assert scan(text) == (text, [])


# What parsers of others got wrong


def test_deltas_are_slices_of_what_was_written() -> None:
    """Never of JSON that was completed or written anew."""
    arguments = '{ "city" :"Oslo" ,\n "n": 1.50, "e":1E3}'
    text = f'<tool_call>{{"name":"get_weather" , "arguments": {arguments} }}</tool_call>'
    for size in range(1, 9):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        (call,) = assembled(pieces)[1]
        assert call.arguments_json == arguments


@pytest.mark.parametrize("lost", ["", "}"])
def test_a_last_brace_is_lost_or_doubled(lost: str) -> None:
    text = f'<tool_call>\n{{"name": "get_weather", "arguments": {{"city": "Oslo"}}{lost}{lost}'
    for more in ("\n</tool_call>", "}\n</tool_call>", "}}\n</tool_call>\n"):
        assert found(text + more) == ("", [OSLO])


def test_nested_objects_of_one_key_stay_nested() -> None:
    call = ("get_weather", {"a": {"b": {"c": {}}}})
    assert found(tag(*call)) == ("", [call])


def test_a_call_without_parameters_streams_an_empty_object() -> None:
    for text in ('<tool_call>{"name": "clock"}</tool_call>', tag("clock", {})):
        scanner = ToolCallScanner(NAMES, str)
        deltas = scanner.feed(text)[1] + scanner.flush()[1]
        assert "".join(delta.arguments for delta in deltas) == "{}"


@pytest.mark.parametrize(
    "string", ["{", "}}}", '"', "\\", "[", '\\"}', "```", "<tool_call>", "</tool_call>", "\\\\n"]
)
def test_strings_may_hold_anything(string: str) -> None:
    call = ("get_weather", {"city": string, string: [string]})
    assert found(tag(*call)) == ("", [call])
    assert found(f"{tag(*call)}\n{tag(*OSLO)} x") == ("x", [call, OSLO])
    assert found(bare(*call)) == ("", [call])


def test_calls_after_the_first_are_not_lost() -> None:
    calls = [("get_weather", {"city": str(i)}) for i in range(20)]
    assert found("\n".join(tag(*call) for call in calls)) == ("", calls)


def test_an_unknown_name_is_passed_on_and_keeps_its_neighbors() -> None:
    unknown = ("no_such_tool", {"a": 1})
    assert found("\n".join([tag(*OSLO), tag(*unknown), tag(*ROME)])) == ("", [OSLO, unknown, ROME])


def test_inconsistent_beginnings_are_no_errors() -> None:
    text = f"<tool_call>\n{bare(*OSLO)}\n</tool_call>"
    for end in range(len(text)):
        written, calls = scan(text[:end])
        if not calls:  # nothing but the tag's beginning was there
            assert text[:end].startswith(written)


def test_indices_and_ids_are_told_apart() -> None:
    scanner = ToolCallScanner(NAMES, lambda index: f"id{index}")
    deltas = scanner.feed(f"{tag(*OSLO)}\n{tag(*ROME)}")[1]
    firsts = [(d.index, d.id, d.name) for d in deltas if d.id]
    assert firsts == [(0, "id0", "get_weather"), (1, "id1", "get_weather")]
    assert {d.index for d in deltas} == {0, 1}


@pytest.mark.parametrize(
    "written",
    [
        '{{"name": "get_weather", "arguments": {{"city": "Oslo"}}}}',
        '{{"name": "get_weather", "arguments": {"city": "Oslo"}}}',
        '{"name": "get_weather", "arguments": {{"city": "Oslo"}}}',
        '{{"name": "get_weather", "arguments": {"city": "Oslo"}}',
        '{"name": "get_weather", "arguments": {"city": "Oslo"}}}}',
    ],
)
def test_doubled_braces(written: str) -> None:
    assert found(f"<tool_call>\n{written}\n</tool_call>") == ("", [OSLO])
    assert scan(f"<tool_call>\n{written}\n</tool_call>")[1][0].arguments_json == '{"city": "Oslo"}'
    assert found(written) == ("", [OSLO])


@pytest.mark.parametrize(
    ("body", "name", "kept"),
    [
        ('{"name": "get_weather", "arguments": {"city: "Oslo"}}', "get_weather", 'city: "Oslo'),
        ('{"name": "get_weather", "arguments": {"city": Oslo}}', "get_weather", "Oslo"),
        ('{"name": "get_weather", "arguments": {"city": "Oslo"]}', "get_weather", "Oslo"),
        ('{"name": "get_weather", "arguments": [1]}', "get_weather", "[1]"),
        ('{"name": "get_weather", "arguments": 7}', "get_weather", "7"),
        ('{"name": "get_weather", "arguments": "Oslo"}', "get_weather", "Oslo"),
        ('{"name": "get_weather", "arguments": {"n": NaN}}', "get_weather", "NaN"),
        ('{"name": "get_weather" "arguments": {}}', "get_weather", "arguments"),
        ('{"name": 5, "arguments": {"city": "Oslo"}}', "", "Oslo"),
        ('{"name": "get_weather", "arguments": {"city": "Os', "get_weather", "Os"),
        ('{"name": "get_weather", "argum', "get_weather", "argum"),
        ('{"city": "Oslo"}', "", "Oslo"),
        ("get_weather(Oslo)", "", "get_weather(Oslo)"),
        ('{"name": "clock", "arguments": ' + "[" * 5000 + "]" * 5000 + "}", "clock", "[[["),
        ('{"name": "clock", "arguments": {"n": 1' + "0" * 9000 + "}}", "clock", "000"),
    ],
)
def test_what_is_malformed_is_reported(body: str, name: str, kept: str) -> None:
    text, (call, *others) = scan(f"Hm.\n<tool_call>\n{body}\n</tool_call>\n{tag(*ROME)}")
    assert call.error
    assert (text, call.name, call.arguments) == ("Hm.", name, {})
    assert kept in call.arguments_json
    assert [other.arguments for other in others] == [ROME[1]]


def test_a_string_that_is_not_closed_ends_with_its_tag() -> None:
    broken = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo}}\n</tool_call>'
    text, calls = scan(f"{broken}\nDone.")
    assert (text, len(calls)) == ("Done.", 1)
    assert calls[0].error
    text, calls = scan(broken.replace("\n", "") + tag(*ROME))
    assert [call.error is None for call in calls] == [False, True]


def test_slips_in_strings_are_put_right() -> None:
    body = '{"name": "get_weather", "arguments": {"city": "a\nb\t\\d\\\'"}}'
    text, (call,) = scan(f"<tool_call>{body}</tool_call>")
    assert (text, call.error) == ("", None)
    assert call.arguments == {"city": "a\nb\t\\d\\'"}


def test_text_is_not_held_back_longer_than_it_must() -> None:
    scanner = ToolCallScanner(NAMES, str)
    assert scanner.feed("a <")[0] == "a"
    assert scanner.feed("b")[0] == " <b"
    assert scanner.feed("\n```py")[0] == "\n```py"
    scanner = ToolCallScanner(NAMES, str)
    assert scanner.feed('{"na')[0] == ""
    assert scanner.feed('me": "Ada"')[0] == '{"name": "Ada"'


def test_arguments_come_as_they_are_written() -> None:
    scanner = ToolCallScanner(NAMES, str)
    assert scanner.feed('<tool_call>\n{"name": "get_weather", "arg')[1] == []
    assert [d.arguments for d in scanner.feed('uments": {"ci')[1]] == ['{"ci']


def test_what_goes_round_in_circles_is_cut_off() -> None:
    text = "\n".join([tag(*OSLO), tag(*ROME), tag(*OSLO), tag(*CLOCK)])
    assert found(text) == ("", [OSLO, ROME])
    scanner = ToolCallScanner(NAMES, str)
    scanner.feed(text)
    assert scanner.is_over
    assert text[: scanner.end] == f"{tag(*OSLO)}\n{tag(*ROME)}"
    longer = ("get_weather", {"city": "Oslo", "days": 2})
    assert found(f"{tag(*OSLO)}{tag(*longer)}") == ("", [OSLO, longer])


def test_calls_that_are_not_heard() -> None:
    scanner = ToolCallScanner(NAMES, str, ("answer", "wait"))
    text, deltas = scanner.feed(f"{tag('answer', {})}\nHello! {tag(*OSLO)}")
    assert (text, scanner.calls[0].arguments) == ("Hello!", OSLO[1])
    assert {delta.index for delta in deltas} == {0}
    assert not scanner.is_cut
    calls = f"{tag(*ROME)}\n{tag(*CLOCK)}"
    assert scanner.feed(f"{calls}\n{tag('wait', {})}")[0] == ""
    assert len(scanner.calls) == 3
    assert scanner.is_cut


def test_a_long_answer_takes_linear_time() -> None:
    for filler in ("x", "{", "`", "<", " ", "<tool_call>", "```json\n", "{{", '{"', "</tool_call>"):
        assert scan(filler * 20_000)[0] or scan(filler * 20)[1] is not None


# Every split

PIECES = st.sampled_from(
    [
        *(form for form, _, _ in FORMS.values()),
        *["<tool_call>", "</tool_call>", "<tools>", "</tools>", "```", "```json\n", "\n", " "],
        *['{"name": "get_weather"', '"arguments": {', '"city": "Oslo"', "}", "{", "[", "]", ","],
        *['"', "\\", "text", "{{", "}}", "<", "`", ";", "null", '{"name": "clock"}', "é", "😀"],
    ]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text('<>{}[]`"\\ \n:,;tolcaj/', max_size=60)


@SLOWLY
@given(TEXTS, st.data())
@example("<tool_call>\n" + bare(*OSLO) + "\n</tool_call>", None)
def test_every_split_gives_what_the_whole_gives(text: str, data: Any) -> None:
    whole = scan(text)
    assert assembled(text) == whole, "one character after the other"
    if data is not None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        bounds = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in pairwise(bounds)]
        assert assembled(pieces) == whole
    else:
        for cut in range(len(text)):
            assert assembled([text[:cut], text[cut:]]) == whole


@SLOWLY
@given(TEXTS)
@example('<tool_call>{"a": 1, é text')
@example('<tool_call>{é <tool_call>{"name": "clock"}</tool_call>')
@example('<tool_call>{"name": "clock", "arguments": {}, "id": [é}</tool_call>')
@example('<tool_call>{"arguments": {"é": 1}, "name": [text}</tool_call>')
def test_nothing_is_lost(text: str) -> None:
    """Every word of an answer is in its text or in its calls."""
    answer, calls = scan(text)
    kept = answer + "".join(call.name + call.arguments_json for call in calls)
    for word in () if repeats(text) else ("Oslo", "Rome", "text", "é", "😀"):
        assert kept.count(word) >= text.count(word)


def repeats(text: str) -> bool:
    scanner = ToolCallScanner(NAMES, str)
    scanner.feed(text)
    scanner.flush()
    return scanner.is_over


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Lone surrogates are no text that a tokenizer could give.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@SLOWLY
@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.dictionaries(st.text(), JSON)),
        min_size=1,
        max_size=3,
        unique_by=lambda call: call[0],
    )
)
def test_well_formed_calls_come_out_as_they_are(calls: list[tuple[str, Any]]) -> None:
    assert found("\n".join(tag(*call) for call in calls)) == ("", calls)
