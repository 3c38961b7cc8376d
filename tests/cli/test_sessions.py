"""``--session``: conversations that go on in another process, with what was read of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model

SETTINGS = ("-n", "12", "--temp", "0")


def replies(path: Path, *questions: str, system: str | None = None) -> list[str]:
    """What the library answers in one conversation."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    texts = []
    with Model(path) as model:
        for question in questions:
            messages.append({"role": "user", "content": question})
            reply = model.chat(messages, max_tokens=12, temperature=0)
            messages.append(reply.message)
            texts.append(reply.text)
    return texts


def cached_tokens(err: str) -> int:
    """What /stats says."""
    return int(err.rpartition(" of them cached")[0].split()[-1])


def test_run_goes_on(call: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.session"
    options = ("-m", tiny_model_path, *SETTINGS, "--session", file)
    first, second, third = replies(
        tiny_model_path, "Hello", "And then?", "Why?", system="Be brief."
    )
    result = call("run", *options, "-s", "Be brief.", "Hello")
    assert (result.code, result.out) == (0, f"{first}\n")
    result = call("run", *options, "--json", "And then?")
    assert result.code == 0
    answer = json.loads(result.out)
    assert answer["text"] == second
    assert answer["usage"]["cached_tokens"] >= 11 + len("Hello")
    result = call("chat", *options, stdin="Why?\n")
    assert (result.code, result.out) == (0, f"{third}\n")
    assert "4 messages loaded from" in result.err
    assert "6 messages saved in" in result.err


def test_chat_goes_on(call: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.session"
    options = ("chat", "-m", tiny_model_path, "--session", file)
    first, second, third = replies(tiny_model_path, "Hello", "And then?", "Why?")
    result = call(*options, *SETTINGS, stdin="Hello\nAnd then?\n/stats\n")
    assert (result.code, result.out) == (0, f"{first}\n{second}\n")
    result = call(*options, stdin="Why?\n/stats\n")  # the settings were saved, too
    assert (result.code, result.out) == (0, f"{third}\n")
    assert cached_tokens(result.err) > 30
    before = file.read_bytes()
    result = call(*options, stdin="/stats\n")
    assert result.code == 0
    assert file.read_bytes() == before
    result = call(*options, stdin="/clear\n")
    assert "0 messages saved" in result.err
    assert len(file.read_bytes()) <= 4096


def test_save_and_load(call: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "talk.session"
    first, second = replies(tiny_model_path, "Hello", "And then?")
    commands = f"Hello\n/save {file}\n"
    assert call("chat", "-m", tiny_model_path, *SETTINGS, stdin=commands).out == f"{first}\n"
    commands = f"/load {file}\nAnd then?\n/stats\n"
    result = call("chat", "-m", tiny_model_path, stdin=commands)
    assert result.out == f"{second}\n"
    assert cached_tokens(result.err) > 15


def test_what_is_refused(
    call: Any, tiny_model_path: Path, make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "talk.session"
    call("run", "-m", tiny_model_path, "--session", file, *SETTINGS, "Hello")
    before = file.read_bytes()
    for verb, arguments in {"run": ("Hello",), "chat": ()}.items():
        other = ("-m", make_tiny_model(seed=1), "--session", file)
        result = call(verb, *other, *SETTINGS, *arguments, stdin="Hello\n")
        assert (result.code, result.out) == (1, "")
        assert "another model" in result.err
        for place in (tmp_path, tmp_path / "missing" / "a.session"):
            options = ("-m", tiny_model_path, "--session", place)
            result = call(verb, *options, *SETTINGS, *arguments, stdin="Hello\n")
            assert (result.code, result.out) == (1, "")
    assert file.read_bytes() == before
    bad = tmp_path / "bad.session"
    bad.write_bytes(before[:5000])
    result = call("chat", "-m", tiny_model_path, *SETTINGS, stdin=f"/load {bad}\nHello\n")
    assert "damaged" in result.err
    assert result.out == replies(tiny_model_path, "Hello")[0] + "\n"


def test_a_file_without_a_conversation(call: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.session"
    with Model(tiny_model_path) as model, model.session() as session:
        session.sync([1, 2, 3])
        session.save(file)
        for extra in (
            {"messages": 5},
            {"messages": [{"role": "user"}]},
            {"messages": [], "settings": 1},
        ):
            session.extra = extra
            session.save(tmp_path / "b.session")
            options = ("-m", tiny_model_path, "--session", tmp_path / "b.session")
            result = call("run", *options, *SETTINGS, "Hello")
            assert (result.code, result.out) == (1, "")
            assert "not a saved conversation" in result.err
    result = call("run", "-m", tiny_model_path, "--session", file, *SETTINGS, "Hello")
    assert (result.code, result.out) == (1, "")
    assert "holds no conversation" in result.err


@pytest.mark.parametrize("verb", ["run", "chat"])
def test_help_names_it(call: Any, verb: str) -> None:
    assert "--session FILE" in call(verb, "--help").out
