"""``pyqwen chat`` without a terminal: messages and commands through a pipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model
from pyqwen.cli.chat_input import is_complete, unquote
from pyqwen.cli.status_line import _advance

SETTINGS = ("-n", "12", "--temp", "0")


def answers(path: Path, *questions: str, system: str | None = None) -> list[str]:
    """What the library answers in one conversation."""
    return [message["content"] for message in replies(path, *questions, system=system)]


def replies(path: Path, *questions: str, system: str | None = None) -> list[dict[str, Any]]:
    """The messages with which the library answers in one conversation."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    with Model(path) as model:
        for question in questions:
            messages.append({"role": "user", "content": question})
            messages.append(model.chat(messages, max_tokens=12, temperature=0).message)
    return [message for message in messages if message["role"] == "assistant"]


def test_a_conversation(call, tiny_model_path: Path) -> None:
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin="Hello\nAnd then?\n")
    first, second = answers(tiny_model_path, "Hello", "And then?")
    assert result.code == 0
    assert result.out == f"{first}\n{second}\n"


def test_what_was_read_is_not_read_again(call, tiny_model_path: Path) -> None:
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin="Hello\nAnd then?\n/stats\n")
    cached = int(result.err.partition(" of them cached")[0].split()[-1])
    with Model(tiny_model_path) as model:
        first_prompt = model.tokenizer.encode_segments(model.chat_template.render("Hello").segments)
    assert cached >= len(first_prompt)


def test_messages_of_several_lines(call, tiny_model_path: Path) -> None:
    one = 'First\\\nsecond\n"""\nThird\n\nfourth\n"""\n'
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=one)
    texts = answers(tiny_model_path, "First\nsecond", "Third\n\nfourth")
    assert result.out == "".join(f"{text}\n" for text in texts)


def test_system_prompt_and_clear(call, tiny_model_path: Path) -> None:
    commands = "/system Be brief.\nHello\n/clear\nHello\n/system\n"
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=commands)
    (text,) = answers(tiny_model_path, "Hello", system="Be brief.")
    assert result.out == f"{text}\n{text}\n"
    assert "Be brief." in result.err


def test_save_and_load(call, tiny_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    commands = f"/system Be brief.\n/set seed 7\nHello\n/save {file}\n"
    call("chat", "-m", tiny_model_path, *SETTINGS, stdin=commands)
    first, second = replies(tiny_model_path, "Hello", "And then?", system="Be brief.")
    assert first["token_ids"]
    saved = json.loads(file.read_text())
    assert saved["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        first,
    ]
    assert saved["settings"]["seed"] == 7
    result = call("chat", "-m", tiny_model_path, stdin=f"/load {file}\nAnd then?\n")
    assert result.out == f"{second['content']}\n"
    rendered = call("template", "-m", tiny_model_path, file)
    assert "Be brief." in rendered.out


def test_a_conversation_of_another_model_goes_on_as_text(
    call, tiny_model_path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "talk.json"
    foreign = {"role": "assistant", "content": "Hi!", "token_ids": [100_000]}
    messages = [{"role": "user", "content": "Hello"}, foreign]
    settings = {"max_tokens": 12, "temperature": 0}
    file.write_text(json.dumps({"messages": messages, "settings": settings}))
    commands = f"/load {file}\nAnd then?\n"
    result = call("chat", "-m", tiny_model_path, stdin=commands)
    del foreign["token_ids"]
    with Model(tiny_model_path) as model:
        messages.append({"role": "user", "content": "And then?"})
        reply = model.chat(messages, **settings)
    assert "error" not in result.err
    assert result.out == f"{reply.text}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/dance", "/dance is unknown"),
        ("/set temp -1", "temperature"),
        ("/set loudness 3", "there is no setting loudness"),
        ("/load missing.json", "missing.json: No such file"),
        ("/save", "/save needs the name of a file"),
    ],
)
def test_a_command_that_fails_changes_nothing(
    call, tiny_model_path: Path, command: str, words: str
) -> None:
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=f"{command}\nHello\n")
    assert result.code == 0
    assert f"error: {words}" in result.err or words in result.err
    assert result.out == answers(tiny_model_path, "Hello")[0] + "\n"


def test_a_file_that_is_no_conversation_is_refused(
    call, tiny_model_path: Path, tmp_path: Path
) -> None:
    for i, text in enumerate(["[]", "{}", '{"messages": [{"role": "robot"}]}', "\x80"]):
        file = tmp_path / f"{i}.json"
        file.write_text(text, "latin-1")
        result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=f"/load {file}\n")
        assert "is not a saved conversation" in result.err


def test_set_shows_and_changes_the_settings(call, tiny_model_path: Path) -> None:
    commands = "/set top-k 1\n/set\n/set top_k\n/set\n"
    lines = call("chat", "-m", tiny_model_path, "--temp", 0, stdin=commands).err.splitlines()
    shown = [line for line in lines if line.strip().startswith("top_k =")]
    assert shown[0] == "  top_k = 1"
    assert shown[1].endswith("(from the model)")


def test_a_question_that_does_not_fit_is_taken_back(call, tiny_model_path: Path) -> None:
    commands = "word " * 400 + "\nHello\n"
    result = call("chat", "-m", tiny_model_path, "-c", 128, *SETTINGS, stdin=commands)
    assert "context of 128" in result.err
    assert "/clear forgets the conversation" in result.err
    assert result.out == answers(tiny_model_path, "Hello")[0] + "\n"


def test_bye_ends_it(call, tiny_model_path: Path) -> None:
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin="/bye\nHello\n")
    assert (result.code, result.out) == (0, "")


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("Hello", True),
        ("Hello \\", False),
        ('"""Hello', False),
        ('"""Hello"""', True),
        ('"""', False),
        ('""""""', True),
        ('say """', True),
    ],
)
def test_where_a_message_ends(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


def test_quotes_are_taken_off_and_nothing_else() -> None:
    assert unquote('"""\n  a\n"""\n') == "  a"
    assert unquote("  #define X \\\n  1\n") == "  #define X \\\n  1"


@pytest.mark.parametrize(
    ("column", "text", "after"),
    [
        (0, "abc", 3),
        (8, "ab", 10),  # full: the terminal waits with the line break
        (10, "a", 1),
        (9, "海", 2),  # two cells do not fit into the last one
        (3, "a\nbc", 2),
        (0, "\t", 8),
        (4, "e\u0301", 5),  # a combining mark takes no cell
    ],
)
def test_the_column_of_the_cursor_is_known(column: int, text: str, after: int) -> None:
    assert _advance(column, text, 10) == after
