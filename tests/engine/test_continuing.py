"""``continue_final_message``: an answer that goes on with the last message of a conversation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model, TemplateError
from pyqwen.text.chat_template import ChatTemplate

ASK = {"role": "user", "content": "Hello"}
CONTROL = ("<|im_start|>", "<|im_end|>")
WARM: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 20, "ignore_eos": True}


def rendered(source: str, content: str, **message: Any) -> str:
    messages = [ASK, {"role": "assistant", "content": content, **message}]
    template = ChatTemplate(source, control_texts=CONTROL)
    prompt = template.render(messages, add_generation_prompt=False, continue_final_message=True)
    texts = [part if isinstance(part, str) else f"{list(part)}" for part in prompt.segments]
    assert "token_ids" in message or "".join(texts) == prompt.text
    return "\n".join(texts)


LOOP = "{% for m in messages %}[{{ m.role }}]CONTENT[end]{% endfor %}"


@pytest.mark.parametrize(
    ("written", "content", "expected"),
    [
        ("{{ m.content }}", "Sure, ", "[user]Hello[end][assistant]Sure, "),
        ("{{ m.content }}", "  ", "[user]Hello[end][assistant]  "),
        ("{{ m.content | trim }}", " Sure", "[user]Hello[end][assistant]Sure"),
        ("{{ m.content | trim }}", "Sure ", "[user]Hello[end][assistant]Sure"),
        ("{{ m.content.lstrip() }}", " Sure ", "[user]Hello[end][assistant]Sure "),
        ("{{ m.content }}", "Hello", "[user]Hello[end][assistant]Hello"),
        ("{{ m.content }} {{ m.content }}", "a", "[user]Hello Hello[end][assistant]a a"),
    ],
)
def test_where_the_prompt_ends(written: str, content: str, expected: str) -> None:
    assert rendered(LOOP.replace("CONTENT", written), content) == expected


def test_what_the_template_drops() -> None:
    for content, written in ((" ", "{{ m.content | trim }}"), ("abc", "{{ m.content | upper }}")):
        with pytest.raises(TemplateError, match="does not write the last message as it is"):
            rendered(LOOP.replace("CONTENT", written), content)


def test_control_tokens_of_users_stay_text() -> None:
    source = LOOP.replace("CONTENT", "{{ m.content }}").replace("[end]", "<|im_end|>")
    parts = rendered(source, "a<|im_end|>b").split("\n")
    assert "".join(parts) == "[user]Hello<|im_end|>[assistant]a<|im_end|>b"
    assert [part.count("<|im_end|>") for part in parts] == [1, 0]


def test_token_ids_are_kept() -> None:
    source = LOOP.replace("CONTENT", "{{ m.content }}")
    assert rendered(source, "Hi", token_ids=[7, 8]) == "[user]Hello[end][assistant]\n[7, 8]"


def test_the_answer_goes_on(model: Model) -> None:
    """At temperature 0 half of an answer goes on with the other half."""
    whole = model.chat([ASK], temperature=0, max_tokens=20, ignore_eos=True)
    decode = model.tokenizer.decode
    n = next(n for n in range(10, 0, -1) if "\ufffd" not in decode(whole.token_ids[n - 1 : n]))
    half = whole.token_ids[:n]
    text = decode(half)
    begun = {"role": "assistant", "content": text, "token_ids": half}
    options = {"temperature": 0, "max_tokens": 20 - n, "ignore_eos": True}
    rest = model.chat([ASK, begun], continue_final_message=True, repetition_penalty=1.0, **options)
    assert rest.usage.prompt_tokens == whole.usage.prompt_tokens + n
    assert rest.token_ids == whole.token_ids[n:]
    assert text + rest.text == whole.text
    assert rest.message == {
        "role": "assistant",
        "content": whole.text,
        "token_ids": whole.token_ids,
    }
    assert rest.begun == begun
    again = model.chat([ASK, rest.message, ASK], max_tokens=1)
    assert again.usage.cached_tokens >= rest.usage.prompt_tokens + 19 - n


def test_text_that_goes_on(model: Model) -> None:
    begun = {"role": "assistant", "content": "The sea "}
    done = model.chat([ASK, begun], continue_final_message=True, **WARM)
    assert done.message["content"] == "The sea " + done.text
    assert "token_ids" not in done.message
    with model.stream_chat([ASK, begun], continue_final_message=True, **WARM) as stream:
        assert "".join(chunk.text for chunk in stream) == done.text
    prompt = (
        "<|im_start|>system\nYou are tiny.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nThe sea "
    )
    assert model.generate(prompt, special=True, **WARM).token_ids == done.token_ids
    several = model.chat_n([ASK, begun], 2, continue_final_message=True, **WARM)
    assert several[0].text == done.text


def test_nothing_begun_is_an_answer(model: Model) -> None:
    empty = {"role": "assistant", "content": ""}
    done = model.chat([ASK, empty], continue_final_message=True, **WARM)
    assert done.text == model.chat([ASK], **WARM).text
    assert done.message["content"] == done.text


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (ASK, "must be an assistant's, not that of 'user'"),
        ({"role": "system", "content": "x"}, "not that of 'system'"),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]},
            "a message that has tool_calls",
        ),
    ],
)
def test_what_cannot_go_on(model: Model, last: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.chat([ASK, last], continue_final_message=True)
    with pytest.raises(TypeError, match="continue_final_message must be True or False"):
        model.chat([ASK, last], continue_final_message=1)  # type: ignore[typeddict-item]


def test_reasoning_goes_on(make_tiny_model: Callable[..., Path]) -> None:
    with Model(make_tiny_model(architecture="qwen3"), threads=1) as model:
        inside = {"role": "assistant", "content": "<think>\nHm"}
        done = model.chat([ASK, inside], continue_final_message=True, **WARM)
        assert done.reasoning is not None
        behind = {"role": "assistant", "content": "The answer"}
        done = model.chat([ASK, behind], continue_final_message=True, **WARM)
        assert done.reasoning is None
