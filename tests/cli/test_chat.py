"""``pyqwen chat`` without a terminal: messages and commands through a pipe."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model
from pyqwen.cli.chat_input import is_complete, unquote
from pyqwen.cli.conversation import HELP, Conversation
from pyqwen.cli.status_line import StatusLine, _advance

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


@pytest.mark.parametrize(
    "text",
    [
        '{"messages": ' + "[" * 100_000 + "]" * 100_000 + "}",
        r'{"messages": [{"role": "user", "content": "\ud800"}]}',
        '{"messages": [], "settings": [1]}',
    ],
    ids=["deep", "half a surrogate pair", "settings"],
)
def test_a_hostile_file_does_not_end_the_chat(
    call, tiny_model_path: Path, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "hostile.json"
    file.write_text(text)
    commands = f"/load {file}\nHello\n"
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=commands)
    assert result.code == 0
    assert "error: " in result.err
    assert "is not a saved conversation" in result.err
    assert result.out == answers(tiny_model_path, "Hello")[0] + "\n"


def test_a_save_that_fails_leaves_nothing(call, tiny_model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken.json.part").mkdir()
    for name in ("folder", "taken.json", "missing/x.json", "~no-such-user/x.json"):
        target = name if name.startswith("~") else tmp_path / name
        result = call("chat", "-m", tiny_model_path, stdin=f"/save {target}\n/stats\n")
        assert result.code == 0
        assert "error: " in result.err
        assert "nothing was asked yet" in result.err
    names = {path.name for path in tmp_path.iterdir()}
    assert names & {"folder.part", "taken.json", "missing"} == set()


def test_a_quoted_text_is_no_command(call, tiny_model_path: Path) -> None:
    text = '"""\n/usr/bin\n"""\n'
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=text)
    assert result.out == answers(tiny_model_path, "/usr/bin")[0] + "\n"


def test_a_pipe_is_read_as_utf8(call, tiny_model_path: Path, monkeypatch) -> None:
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin="H\u00e9llo\r\n".encode())
    assert result.out == answers(tiny_model_path, "H\u00e9llo")[0] + "\n"
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=b"/stats\ncaf\xe9\n")
    assert result.code == 2
    assert "line 2 of standard input is not UTF-8 text" in result.err


def test_an_answer_that_is_cut_off_says_so(call, tiny_model_path: Path) -> None:
    result = call("chat", "-m", tiny_model_path, "-n", 2, "--seed", 1, stdin="Hello\n")
    assert "(cut off: " in result.err


@pytest.mark.parametrize("verb", ["run", "chat"])
def test_settings_are_checked_before_the_model_is_looked_for(call, verb: str) -> None:
    prompt = ["Hello"] if verb == "run" else []
    result = call(verb, "-m", "./missing.gguf", "--top-p", "1.5", *prompt)
    assert result.code == 2
    assert "top_p" in result.err


def test_a_bias_set_by_hand_is_kept_and_applied(
    call, tiny_model_path: Path, tmp_path: Path
) -> None:
    with Model(tiny_model_path) as model:
        first = model.chat("Hello", max_tokens=1, temperature=0).token_ids[0]
    bias = json.dumps({str(first): -1000})
    file = tmp_path / "talk.json"
    commands = f"/set logit_bias {bias}\nHello\n/save {file}\n"
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=commands)
    with Model(tiny_model_path) as model:
        text = model.chat("Hello", max_tokens=12, temperature=0, logit_bias={first: -1000}).text
    assert result.out == f"{text}\n"
    loaded = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=f"/load {file}\n/set\n")
    assert f"logit_bias = {{{first}: -1000.0}}" in loaded.err


def test_a_setting_that_the_model_cannot_take_does_not_end_the_chat(
    call, tiny_model_path: Path
) -> None:
    commands = '/set logit_bias {"2000000": 1}\nHello\n/set logit_bias\nHello\n'
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=commands)
    assert result.code == 0
    assert result.out.endswith(answers(tiny_model_path, "Hello")[0] + "\n")


def test_help_fits_80_columns() -> None:
    assert max(map(len, HELP.splitlines())) <= 80


def test_a_terminal_without_status_line_gets_no_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setenv("TERM", "dumb")
    StatusLine().write("a\x1b[2J", "1 token/s")
    assert written.getvalue() == "a\u241b[2J"


def test_set_shows_and_changes_the_settings(call, tiny_model_path: Path) -> None:
    commands = "/set top-k 1\n/set\n/set top_k\n/set\n"
    lines = call("chat", "-m", tiny_model_path, "--temp", 0, stdin=commands).err.splitlines()
    shown = [line for line in lines if line.strip().startswith("top_k =")]
    assert shown[0].split() == ["top_k", "=", "1", "(set", "here)"]
    assert shown[1].endswith("(neutral: without effect)")


def test_set_shows_what_has_no_value(call, tiny_model_path: Path) -> None:
    commands = "/set\n/set seed 5\n/set stop END\n/set max_tokens -1\n/set\n/set seed -1\n/set\n"
    lines = call("chat", "-m", tiny_model_path, stdin=commands).err.splitlines()
    of = {name: [x for x in lines if x.startswith(f"  {name} =")] for name in ("seed", "stop")}
    assert ["random" in line for line in of["seed"]] == [True, False, True]
    assert "none" in of["stop"][0]
    assert "END" in of["stop"][1]
    assert any(line.startswith("  max_tokens = 2147483647 ") for line in lines)


def test_set_says_what_the_file_recommends(call, make_tiny_model) -> None:
    path = make_tiny_model(metadata={"general.sampling.temp": 0.5, "general.sampling.top_k": -1})
    lines = call("chat", "-m", path, stdin="/set\n").err.splitlines()
    (temperature,) = [line for line in lines if line.startswith("  temperature =")]
    assert temperature.split(maxsplit=3) == ["temperature", "=", "0.5", "(from the model's file)"]
    (top_k,) = [line for line in lines if line.startswith("  top_k =")]
    assert top_k.split()[2] == "0"


def test_a_filling_context_is_announced(call, tiny_model_path: Path) -> None:
    with Model(tiny_model_path) as model:
        used = model.chat("Hello", max_tokens=12, temperature=0).usage.total_tokens
    for context, announced in ((used + 1, True), (2 * used, False)):
        flags = ["-m", tiny_model_path, "-c", context, *SETTINGS]
        result = call("chat", *flags, stdin="Hello\n")
        assert (f"of the {context} tokens of the context" in result.err) == announced


def test_dropping_keeps_the_system_prompt_and_the_question(tiny_model_path: Path) -> None:
    with Model(tiny_model_path) as model:
        conversation = Conversation(model, model.session(), "Be brief.", {})
        for number in range(5):
            conversation.ask(f"question {number}")
            conversation.turns.append({"role": "assistant", "content": f"answer {number}"})
        conversation.ask("the last question")
        while turns := conversation.droppable:
            conversation.drop_oldest(turns)
            roles = [message["role"] for message in conversation.messages]
            assert roles[:2] == ["system", "user"]
            assert conversation.turns[-1]["content"] == "the last question"
        assert [message["role"] for message in conversation.messages] == ["system", "user"]


def test_history_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    from pyqwen.cli.chat_input import _open_history

    said: list[str] = []
    monkeypatch.setattr("pyqwen.cli.chat_input.say", said.append)
    path = tmp_path / "history"
    assert isinstance(_open_history(None), InMemoryHistory)
    assert not path.exists()
    assert isinstance(_open_history(path), FileHistory)
    assert isinstance(_open_history(path), FileHistory)
    (line,) = said  # only when it is begun
    assert str(path) in line
    assert "--no-history" in line


def test_a_question_that_does_not_fit_is_taken_back(call, tiny_model_path: Path) -> None:
    commands = "word " * 400 + "\nHello\n"
    result = call("chat", "-m", tiny_model_path, "-c", 128, *SETTINGS, stdin=commands)
    assert "context of 128" in result.err
    assert "/clear forgets the conversation" in result.err
    assert result.out == answers(tiny_model_path, "Hello")[0] + "\n"


def test_no_longer_context_is_advised_than_the_model_was_trained_for(
    call, tiny_model_path: Path
) -> None:
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin="word " * 2000 + "\n")
    assert "context of 512" in result.err
    assert "longer context" not in result.err


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
