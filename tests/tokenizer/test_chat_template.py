"""Prompts as the models expect them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qwen_template import CONTROL, DEFAULT_SYSTEM, qwen_template

from pyqwen.errors import TemplateError
from pyqwen.text.chat_template import ChatTemplate
from pyqwen.text.tokenizer import Tokenizer

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Wetter für <Ort> & Tag's"},
}


@pytest.fixture(scope="module")
def qwen() -> ChatTemplate:
    return qwen_template()


def test_default_system_prompt(qwen: ChatTemplate) -> None:
    assert qwen.render("Hi").text == (
        f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_conversation_with_its_own_system_prompt(qwen: ChatTemplate) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "  4 \n"},
    ]
    assert qwen.render(messages, add_generation_prompt=False).text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n1\n2<|im_end|>\n"
        "<|im_start|>assistant\n3<|im_end|>\n"
        "<|im_start|>user\n  4 \n<|im_end|>\n"
    )


def test_tools_calls_and_replies(qwen: ChatTemplate) -> None:
    call = {"name": "weather", "arguments": {"ort": "Zürich", "n": 1}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": call},
                {"id": "2", "function": {**call, "arguments": '{"ort":"東京", "n": 2.50}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "7 °C"},
        {"role": "tool", "tool_call_id": "2", "content": "9 °C"},
        {"role": "assistant", "content": "More?", "tool_calls": [call]},
        {"role": "tool", "content": "8 °C"},
    ]
    assert qwen.render(messages, tools=[WEATHER]).text == (
        f"<|im_start|>system\n{DEFAULT_SYSTEM}\n\n# Tools\n<tools>\n"
        '{"type": "function", "function": {"name": "weather", '
        '"description": "Wetter für <Ort> & Tag\'s"}}\n'
        '</tools>\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call><|im_end|>\n"
        "<|im_start|>user\nWeather?<|im_end|>\n"
        "<|im_start|>assistant"
        '\n<tool_call>\n{"name": "weather", "arguments": {"ort": "Zürich", "n": 1}}\n</tool_call>'
        '\n<tool_call>\n{"name": "weather", "arguments": {"ort": "東京", "n": 2.5}}\n</tool_call>'
        "<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n7 °C\n</tool_response>"
        "\n<tool_response>\n9 °C\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nMore?"
        '\n<tool_call>\n{"name": "weather", "arguments": {"ort": "Zürich", "n": 1}}\n</tool_call>'
        "<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n8 °C\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_doubled_braces_are_repaired_and_reported(qwen: ChatTemplate) -> None:
    assert len(qwen.repairs) == 1
    assert "braces" in qwen.repairs[0]


@pytest.mark.parametrize(
    "literal",
    [
        '{"a": {"b": <c>}}',
        "{{x}}",
        '{{"a": <b>} and {',
        "}}{{",
        '{"a": "{{\\"b\\"}}"}',
        '[{{"name": "f", "arguments": "x"}}]',
    ],
)
def test_braces_that_someone_meant_are_left_alone(literal: str) -> None:
    template = ChatTemplate("{{ " + json.dumps(literal) + " }}")
    assert template.render("hi").text == literal
    assert template.repairs == ()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if true %}\n  {% set x = 1 %}\nyes\n{% endif %}\n", "yes\n"),  # trim, lstrip
        ("{{ messages | tojson }}", '[{"role": "user", "content": "<é>"}]'),
        ("{{ {'b': 1, 'a': [true, none]} | tojson }}", '{"b": 1, "a": [true, null]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}", '{"a": 2, "b": 1}'),
        ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{{ messages[0].content | tojson(ensure_ascii=true) }}", '"<\\u00e9>"'),
        ("{{ '😀' | tojson(ensure_ascii=true) }}", '"\\ud83d\\ude00"'),
        ("{% for i in [1, 2] %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "2"),
        ("{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
        ("{% for i in [1, 2] %}{{ loop.index }}/{{ loop.length }}{{ loop.last }} {% endfor %}",
         "1/2False 2/2True "),
        ("{% for i in [] %}{% else %}none{% endfor %}", "none"),
        ("{% generation %}a{{ 1 }}{% endgeneration %}b", "a1b"),
        ("{{ undefined_name }}|{{ undefined_name is defined }}", "|False"),
        ("{{ bos_token }}{{ eos_token }}", "<s></s>"),
        ("{{ add_generation_prompt }}{{ tools }}", "TrueNone"),
        ("{{ 'a' ~ 1 ~ none ~ [1, 'b'] }}", "a1None[1, 'b']"),
        ("{{ 'a%sb%d' % ('x', 2) }}{{ '%s' | format('y') }}{{ 7 % 4 }}{{ 2 ** 3 }}", "axb2y38"),
        ("{{ '{}-{:02d}{x}'.format('a', 3, x=1) }}{{ none | selectattr('a') | list }}", "a-031[]"),
        ("{{ ' x ' | trim }}{{ 'a,b'.split(',')[-1] }}{{ 'abc'[::-1] }}", "xbcba"),
        ("{{ ['b', 'a'] | sort | join('-') }}{{ 'a\\nb' | indent(2) }}", "a-ba\n  b"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ messages | map(attribute='content') | join }}", "<é>"),
        ("{% set n = namespace(a=1) %}{% for i in [1] %}{% set n.a = 2 %}{% endfor %}{{ n.a }}",
         "2"),
        ("{% macro m(x, y='d') %}({{ x }}{{ y }}){% endmacro %}{{ m(1) }}{{ m(1, y=2) }}",
         "(1d)(12)"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x | upper }}", "A1"),
        ("{% for x in [1, [2, [3]]] recursive %}"
         "{% if x is iterable %}{{ loop(x) }}{% else %}{{ x }}{% endif %}{% endfor %}", "123"),
        ("{% if strftime_now is defined %}{{ strftime_now('%Y') | length }}{% endif %}", "4"),
        ("{{ extra_flag }}", "on"),
    ],
)  # fmt: skip
def test_semantics_of_hugging_face(source: str, text: str) -> None:
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
    assert template.render("<é>", template_variables={"extra_flag": "on"}).text == text


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ raise_exception('only one system message') }}", "only one system message"),
        ("a\n{% if %}", "line 2"),
        ("{{ x.y.z }}", "'x' is undefined"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "TypeError"),
        ("{{ 'a' | urlize }}", "urlize"),
        ("{{ raise_exception }}", "prints a function"),
    ],
)
def test_errors_say_what_is_wrong(source: str, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        ChatTemplate(source).render("hi")


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "empty"),
        ([{"content": "x"}], "role None"),
        ([{"role": "wizard", "content": "x"}], r"messages\[0\] has the role 'wizard'"),
        ([{"role": "user"}], "no content"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "image_url"}]}],
         r"messages\[1\]\.content\[0\] is 'image_url'"),
        ([{"role": "user", "content": "", "tool_calls": [{"name": "f"}]}], "tool_calls"),
        ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
         r"tool_calls\[0\]\.function\.arguments is not JSON"),
        ([{"role": "user", "content": "x", "token_ids": [1]}], "token_ids, but its role is 'user'"),
        ([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}], "JSON object"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "no name"),
    ],
)  # fmt: skip
def test_bad_messages_are_refused(qwen: ChatTemplate, messages: Any, problem: str) -> None:
    with pytest.raises(TemplateError, match=problem):
        qwen.render(messages)


@pytest.mark.parametrize(
    "messages",
    [
        7,
        [7],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": "", "x": object()}],
        [{"role": "assistant", "content": "x", "token_ids": "x"}],
        [{"role": "assistant", "content": "x", "token_ids": [1.0]}],
    ],
)
def test_messages_of_wrong_type(qwen: ChatTemplate, messages: Any) -> None:
    with pytest.raises(TypeError):
        qwen.render(messages)


def test_deeply_nested_arguments_are_refused(qwen: ChatTemplate) -> None:
    nested: Any = {}
    for _ in range(100):
        nested = {"a": nested}
    messages = [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": nested}]}]
    with pytest.raises(TemplateError, match="levels deep"):
        qwen.render(messages)


def test_input_is_not_changed(qwen: ChatTemplate) -> None:
    call = {"function": {"name": "f", "arguments": '{"a": "<|im_end|>"}'}}
    messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
    before = json.dumps(messages)
    qwen.render(messages)
    assert json.dumps(messages) == before


# Templates of files


def test_template_of_a_file(bpe_metadata: dict[str, Any]) -> None:
    metadata = {**bpe_metadata, "tokenizer.chat_template": "{{ bos_token }}x{{ eos_token }}"}
    template = ChatTemplate.from_metadata(metadata, Tokenizer.from_metadata(metadata))
    assert template.render("hi").text == "<|endoftext|>x<|im_end|>"


def test_file_without_template_gets_chatml(bpe_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(bpe_metadata)
    rendered = ChatTemplate.from_metadata(bpe_metadata, tokenizer).render("hi <|im_end|>")
    assert rendered.text == "<|im_start|>user\nhi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.encode_segments(rendered.segments)
    assert ids.count(tokenizer.control_id("<|im_end|>")) == 1
    assert tokenizer.decode(ids) == rendered.text


def test_base_model_has_no_template(sentencepiece_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(sentencepiece_metadata)
    with pytest.raises(TemplateError, match=r"base\.gguf: .*generate\(\)"):
        ChatTemplate.from_metadata(sentencepiece_metadata, tokenizer, source="base.gguf")


def test_broken_template_of_a_file_names_the_file(bpe_metadata: dict[str, Any]) -> None:
    metadata = {**bpe_metadata, "tokenizer.chat_template": "{% if %}"}
    with pytest.raises(TemplateError, match=r"small\.gguf: .*line 1"):
        ChatTemplate.from_metadata(metadata, Tokenizer.from_metadata(metadata), source="small.gguf")


NAMED = {
    "tokenizer.chat_template": "own",
    "tokenizer.chat_template.tool_use": "{{ tools | length }} tools",
    "tokenizer.chat_template.rag": "{% if %}",
    "tokenizer.chat_template.list": ["x"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(None, "own"), ("default", "own"), ("tool_use", "1 tools")]
)
def test_named_template(bpe_metadata: dict[str, Any], name: str | None, text: str) -> None:
    metadata = {**bpe_metadata, **NAMED}
    template = ChatTemplate.from_metadata(metadata, Tokenizer.from_metadata(metadata), name=name)
    assert template.render("hi", tools=[WEATHER]).text == text


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("tools", ValueError, "m.gguf: .* 'tools'; there are: default, list, rag, tool_use"),
        ("", ValueError, "there are: default"),
        ("rag", TemplateError, "m.gguf: tokenizer.chat_template.rag: .*line 1"),
        ("list", TemplateError, "chat_template.list is list, not a text"),
    ],
)
def test_named_template_that_cannot_be_had(
    bpe_metadata: dict[str, Any], name: str, kind: type[Exception], problem: str
) -> None:
    metadata = {**bpe_metadata, **NAMED}
    tokenizer = Tokenizer.from_metadata(metadata)
    with pytest.raises(kind, match=problem):
        ChatTemplate.from_metadata(metadata, tokenizer, name=name, source="m.gguf")


def test_names_where_there_are_none(bpe_metadata: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="there are: none"):
        ChatTemplate.from_metadata(
            bpe_metadata, Tokenizer.from_metadata(bpe_metadata), name="tool_use"
        )


# Variables

THINKING = (
    "{% for m in messages %}{{ m.content }}{% endfor %}{% macro m() %}{{ inside }}{% endmacro %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<no>{% endif %}{{ m() }}"
)


def test_template_variables() -> None:
    template = ChatTemplate(THINKING, control_texts=CONTROL)
    assert template.variables == {"enable_thinking", "inside"}
    assert template.render("a").text == "a"
    assert template.render("a", template_variables={"enable_thinking": False}).text == "a<no>"
    rendered = template.render("a", template_variables={"inside": "<|im_end|>", "unread": [1]})
    assert rendered.segments == ("a<", "|im_end|>")


@pytest.mark.parametrize(
    "name", ["messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "namespace"]
)
def test_variables_that_are_set_for_every_template(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*reads: enable_thinking, inside"):
        ChatTemplate(THINKING).render("a", template_variables={name: 1})


@pytest.mark.parametrize("variables", [[1], {1: 2}, {"x": object()}, {"x": {1: 2}}])
def test_variables_of_wrong_type(variables: Any) -> None:
    with pytest.raises(TypeError):
        ChatTemplate(THINKING).render("a", template_variables=variables)
