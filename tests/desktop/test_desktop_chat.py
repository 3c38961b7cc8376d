"""The PySide6 chat of examples/: driven as a user would, without a display."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.desktop, pytest.mark.usefixtures("chat_modules")]

TEXT = (Path(__file__).parent / "answer.md").read_text("utf-8")

OpenWindow = Callable[..., Any]
"""Returns a ``Driver`` (conftest.py)."""


def test_a_conversation(open_window: OpenWindow, long_winded: Path) -> None:
    driver = open_window(long_winded)
    window = driver.window
    driver.until_idle()
    assert "tokens" in window.status._context.text()
    assert "free memory" in window.status._memory.text()

    window.composer.field.setPlainText("Tell me\na story")
    window.composer._on_go()
    driver.wait(lambda: len(window.view.answer.text) > 200)  # shown while it is written
    start = time.monotonic()
    window.composer._on_go()  # the same button stops
    driver.until_idle()
    assert time.monotonic() - start < 1.0
    assert driver.roles() == ["user", "assistant"]
    first = driver.last_answer()
    assert first
    assert window.view.answer.text == first
    assert window._entries[-1].info["finish_reason"] == "cancelled"
    assert "tokens/s" in window.status._speed.text()

    window.regenerate()
    driver.wait(lambda: window._pending and window._pending.text)
    window.stop()
    driver.until_idle()
    assert driver.roles() == ["user", "assistant"]

    window._edit_last()
    assert window.composer.field.toPlainText() == "Tell me\na story"
    window.composer.field.setPlainText("Something else")
    window.composer._on_go()
    driver.wait(lambda: window._pending and window._pending.text)
    window.stop()
    driver.until_idle()
    assert driver.roles() == ["user", "assistant"]
    assert window._entries[0].message["content"] == "Something else"

    window.send("And then?")  # goes on, with what was said in the cache
    driver.wait(lambda: window._pending and window._pending.text)
    window.stop()
    driver.until_idle()
    assert driver.roles() == ["user", "assistant"] * 2
    assert window._entries[-1].info["cached_tokens"] > 10


def test_another_conversation_meanwhile(open_window: OpenWindow, long_winded: Path) -> None:
    driver = open_window(long_winded)
    window = driver.window
    driver.until_idle()
    window.send("The first")
    driver.wait(lambda: window._pending and window._pending.text)
    first = window._conversation
    window.new_chat()
    assert window._entries == []
    seen = len(window._pending.text)
    driver.wait(lambda: len(window._pending.text) > seen + 50)
    window.show_conversation(first)
    assert len(window.view.answer.text) > seen
    window.stop()
    driver.until_idle()
    assert driver.roles() == ["user", "assistant"]
    assert window.view.answer.text == driver.last_answer()


def test_it_is_all_there_the_next_time(open_window: OpenWindow, long_winded: Path) -> None:
    driver = open_window(long_winded)
    window = driver.window
    driver.until_idle()
    window.send("Remember this: 100%_sure")
    driver.wait(lambda: window._pending and len(window._pending.text) > 20)
    start = time.monotonic()
    window.close()  # in the middle of an answer
    assert time.monotonic() - start < 2.0
    again = open_window(long_winded).window
    rows = again._store.conversations()
    assert [title for _, title in rows] == ["Remember this: 100%_sure"]
    assert again._store.conversations("100%_S") == rows
    assert again._store.conversations("100x") == []
    again.show_conversation(rows[0][0])
    assert [entry.message["role"] for entry in again._entries] == ["user", "assistant"]
    again._store.delete(rows[0][0])
    assert again._store.conversations() == []


def test_what_can_go_wrong(
    open_window: OpenWindow,
    tiny_model_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    driver = open_window(tmp_path / "gone.gguf")
    window = driver.window
    driver.until_idle()
    assert len(driver.problems()) == 1
    assert not window.composer._go.isEnabled()

    (tmp_path / "bad.gguf").write_bytes(b"no model" * 100)
    window._wanted_model = str(tmp_path / "bad.gguf")
    window.open_model()
    driver.until_idle()
    assert len(driver.problems()) == 1

    import worker

    real = worker.pyqwen.plan
    monkeypatch.setattr(
        worker.pyqwen, "plan", lambda *a, **k: dataclasses.replace(real(*a, **k), available=10**6)
    )
    window._wanted_model = str(tiny_model_path)
    window.open_model()
    driver.until_idle()
    assert len(driver.problems()) == 1
    assert not window.worker.is_loaded
    window._actions["open_anyway"]()
    driver.until_idle()
    assert driver.problems() == []
    assert window.worker.is_loaded

    window.send("word " * 2000)  # more than the context of 512
    driver.until_idle()
    assert len(driver.problems()) == 1
    assert driver.roles() == ["user"]
    window.new_chat()
    window.send("Hello")
    driver.wait(lambda: not window._busy)
    assert driver.roles() == ["user", "assistant"]


def test_json_mode(open_window: OpenWindow, long_winded: Path) -> None:
    from text_widgets import CodeBlock

    kinds = {"name": {"enum": ["fox", "owl"]}, "old": {"type": "boolean"}}
    schema = {"type": "object", "properties": kinds, "required": ["name", "old"]}
    driver = open_window(long_winded, schema=json.dumps(schema))
    window = driver.window
    driver.until_idle()
    window.composer.json.setChecked(True)
    window.send("Which animal?")
    driver.until_idle()
    assert json.loads(driver.last_answer())["name"] in ("fox", "owl")
    (code,) = window.view.findChildren(CodeBlock)
    assert code._language == "json"
    window._change_settings(schema='{"type": "no such type"}')
    window.send("And now?")
    driver.until_idle()
    assert len(driver.problems()) == 1
    assert driver.roles() == ["user", "assistant", "user"]


def test_tools_that_are_called(
    open_window: OpenWindow,
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    qt: Any,
) -> None:
    """What a model that calls tools writes is scripted here: no tiny one does."""
    import worker
    from message_view import ToolCard

    driver = open_window(tiny_model_path)
    window = driver.window
    driver.until_idle()
    function = {"name": "calculate", "arguments": '{"expression": "6 * 7"}'}
    call = SimpleNamespace(id="a", name="calculate", arguments={"expression": "6 * 7"}, error=None)
    asked: list[Any] = []

    def stream_one(self: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        asked.append((messages.copy(), options))
        if len(asked) == 1:
            message = {"role": "assistant", "content": ""}
            message["tool_calls"] = [{"id": "a", "type": "function", "function": function}]
        else:
            self.wrote.emit("It is 42.", "")
            message = {"role": "assistant", "content": "It is 42."}
        real = self._model.chat("Hi", max_tokens=2)
        names = ("finish_reason", "usage", "timings", "reasoning")
        facts = {name: getattr(real, name) for name in names}
        calls = [call] if len(asked) == 1 else []
        return SimpleNamespace(message=message, tool_calls=calls, **facts)

    monkeypatch.setattr(worker.ModelWorker, "_stream_one", stream_one)
    window.composer.tools.setChecked(True)
    window.send("What is 6 times 7?")
    driver.until_idle()
    assert driver.roles() == ["user", "assistant", "tool", "assistant"]
    assert window._entries[2].message["content"] == "42"
    assert "calculate" in [tool.__name__ for tool in asked[0][1]["tools"]]
    assert [message["role"] for message in asked[1][0]] == ["user", "assistant", "tool"]
    conversation = window._conversation
    for _ in range(2):  # as it was shown, and as it is shown when it is opened again
        (card,) = [card for card in window.view.findChildren(ToolCard) if card.isVisible()]
        assert card._result.text() == "→ 42"
        assert window.view.answer.text == "It is 42."
        window.new_chat()
        qt.processEvents()
        window.show_conversation(conversation)
        qt.processEvents()


@pytest.mark.qwen
def test_a_trained_model_with_a_tool(open_window: OpenWindow, qwen_path: Path) -> None:
    driver = open_window(qwen_path, temperature=0.0)
    window = driver.window
    driver.until_idle()
    real = window._options
    window._options = lambda: {**real(), "ignore_eos": False}
    window.composer.tools.setChecked(True)
    window.send("Compute 123 * 456 with the calculator.")
    driver.wait(lambda: not window._busy, 200)
    assert driver.roles()[:3] == ["user", "assistant", "tool"]
    assert window._entries[2].message["content"] == "56088"
    assert "56" in driver.last_answer()


def test_an_idle_model_gives_its_memory_back(
    open_window: OpenWindow, long_winded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import window as window_module
    import worker

    monkeypatch.setattr(worker, "_UNLOAD_AFTER", 0.0)
    monkeypatch.setattr(window_module, "_LOOK_MS", 20)
    driver = open_window(long_winded)
    window = driver.window
    driver.wait(lambda: "Asleep" in window.status._state.text())
    window.send("Wake up")
    driver.wait(lambda: window._pending and window._pending.text)
    assert window.worker.is_loaded
    window.stop()
    driver.until_idle()
    assert driver.roles() == ["user", "assistant"]
    driver.wait(lambda: "Asleep" in window.status._state.text())


def test_stopping_what_is_opened(
    open_window: OpenWindow, smollm_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow download is stopped, and the window closed during another one."""
    import worker

    def pull(name: str, progress: Callable[[int, int], bool]) -> Path:
        for done in range(10_000_000_000):
            if not progress(done * 10**6, 10**12):
                raise worker.pyqwen.CancelledError("stopped")
            time.sleep(0.01)
        raise AssertionError

    monkeypatch.setattr(worker.catalog, "locate", lambda name: None)
    monkeypatch.setattr(worker.pyqwen, "pull", pull)
    driver = open_window("qwen2.5-72b")
    window = driver.window
    driver.wait(lambda: "Downloading qwen2.5-72b" in window.banner._text.text())
    window.stop()
    driver.until_idle()
    assert not window.banner.isVisible()
    assert driver.problems() == []
    window.open_model()
    driver.wait(lambda: window.banner.isVisible())
    start = time.monotonic()
    window.close()
    assert time.monotonic() - start < 1.0


def test_the_keyboard(open_window: OpenWindow, long_winded: Path) -> None:
    from PySide6.QtCore import Qt
    from PySide6.QtTest import QTest

    driver = open_window(long_winded)
    window, field = driver.window, driver.window.composer.field
    driver.until_idle()
    window.activateWindow()
    driver.qt.processEvents()
    key, control = Qt.Key, Qt.KeyboardModifier.ControlModifier

    def press(which: Any, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
        QTest.keyClick(driver.qt.focusWidget() or window, which, modifiers)
        driver.qt.processEvents()

    QTest.keyClicks(field, "One")
    press(key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClicks(field, "two")
    press(key.Key_Return)
    driver.wait(lambda: window._pending and window._pending.text)
    assert window._entries[0].message["content"] == "One\ntwo"
    press(key.Key_Escape)
    driver.until_idle()
    press(key.Key_Up)
    assert field.toPlainText() == "One\ntwo"
    assert not window.composer._editing.isHidden()
    press(key.Key_Escape)
    assert field.toPlainText() == ""
    press(key.Key_R, control)
    driver.wait(lambda: window._pending and window._pending.text)
    press(key.Key_Escape)
    driver.until_idle()
    press(key.Key_N, control)
    assert window._entries == []
    press(key.Key_PageDown, control)
    assert driver.roles() == ["user", "assistant"]
    press(key.Key_T, control)
    assert window.composer.tools.isChecked()
    was_dark = window.settings.theme == "dark"
    press(key.Key_D, control | Qt.KeyboardModifier.ShiftModifier)
    assert (window.settings.theme == "dark") != was_dark
    press(key.Key_B, control)
    assert window.sidebar.isHidden()
    press(key.Key_B, control)
    press(key.Key_F, control)
    assert driver.qt.focusWidget() is window.sidebar.search
    press(key.Key_L, control)
    assert driver.qt.focusWidget() is field


def test_looks_and_dialogs(open_window: OpenWindow, tiny_model_path: Path) -> None:
    """Both themes and all dialogs can be painted; nothing of a code block or a bubble is cut off."""
    from dialogs import ModelDialog, SchemaDialog, SettingsDialog, ShortcutsDialog
    from message_view import UserMessage
    from settings import Settings
    from store import Entry
    from text_widgets import CodeBlock

    driver = open_window(tiny_model_path)
    window = driver.window
    driver.until_idle()
    conversation = window._store.create("Looks")
    window._store.add(conversation, Entry({"role": "user", "content": "a " * 300 + "\n\nb"}))
    window._store.add(conversation, Entry({"role": "assistant", "content": TEXT}, {"tokens": 3}))
    window.show_conversation(conversation)
    for _ in range(2):
        window._toggle_dark()
        driver.wait(lambda: window.view._filling is None)
        for _ in range(20):
            driver.qt.processEvents()
        (bubble,) = window.view.findChildren(UserMessage)
        assert bubble._prose.document().size().height() <= bubble._prose.height() + 1
        codes = [code for code in window.view.findChildren(CodeBlock) if code.isVisible()]
        assert [code._language for code in codes] == ["python", ""]
        for code in codes:
            lines = code._editor.document().blockCount()
            assert code._editor.height() >= lines * code._editor.fontMetrics().lineSpacing()
        assert not window.grab().isNull()
    dialogs = (
        ModelDialog(window, "qwen2.5-0.5b"),
        SchemaDialog(window, ""),
        SettingsDialog(window, Settings()),
        ShortcutsDialog(window, window._shortcuts),
    )
    for dialog in dialogs:
        dialog.show()
        driver.qt.processEvents()
        assert not dialog.grab().isNull()
        dialog.reject()


@pytest.mark.parametrize(
    "model",
    [
        pytest.param("smollm_path", marks=pytest.mark.smollm),  # writes more than a window can show
        pytest.param("qwen_path", marks=pytest.mark.qwen),
    ],
)
def test_heartbeat(open_window: OpenWindow, model: str, request: pytest.FixtureRequest) -> None:
    """While a model is loaded, and while it writes, the event loop comes round."""
    path = request.getfixturevalue(model)
    warm = open_window(path)  # imports and fonts, once
    warm.until_idle()
    warm.window.close()
    driver = open_window(path)
    window = driver.window
    driver.heartbeat.begin()
    driver.until_idle()
    driver.heartbeat.check("loading")
    window.send("Write a long story about a fox, then a Python program of a hundred lines.")
    driver.heartbeat.begin()
    enough = 4000 if model == "smollm_path" else 400
    driver.wait(lambda: not window._busy or len(window._pending.text) > enough, 200)
    driver.heartbeat.check("streaming")
    window.stop()
    driver.until_idle()
