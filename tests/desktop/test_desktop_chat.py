"""The PySide6 chat of examples/: driven as a user would, without a display."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.desktop, pytest.mark.usefixtures("chat_modules")]

TEXT = """\
# A title

Some *prose* with `code`, and a list:

1. one
   ```python
   def f(x): return x + 1
   ```
2. two

| a | b |
|---|---|
| 1 | <b>2</b> |

```python
class A:
    \"\"\"Text.\"\"\"
    x: int = 1  # a comment

    y = "s"
```

> a quote
goes on

    indented code

---
The end. ```not a fence
"""


class Driver:
    """A window and what a user does with it."""

    def __init__(self, qt: Any, window: Any, heartbeat: Any) -> None:
        self.qt, self.window, self.heartbeat = qt, window, heartbeat

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            self.qt.processEvents()
            self.heartbeat.beat()
            time.sleep(0.002)
            assert time.monotonic() < end, "it does not happen"

    def until_idle(self) -> None:
        self.wait(lambda: not self.window._busy)
        self.qt.processEvents()  # what was added is shown now

    def roles(self) -> list[str]:
        return [entry.message["role"] for entry in self.window._entries]

    def last_answer(self) -> str:
        return str(self.window._entries[-1].message["content"])

    def problems(self) -> list[Any]:
        from conversation_view import _ProblemCard

        return [card for card in self.window.view.findChildren(_ProblemCard) if not card.isHidden()]


@pytest.fixture
def open_window(qt: Any, tmp_path: Path, heartbeat: Any) -> Iterator[Callable[..., Driver]]:
    """Open a window with a model, as often as needed, on the same data."""
    from window import Window

    opened: list[Driver] = []
    options = Window._options
    # A tiny model writes anything, and ends anywhere.
    Window._options = lambda self: {"ignore_eos": True, "seed": 1} | options(self)

    def open_(model: Path | str, **settings: Any) -> Driver:
        from settings import read_settings, save_settings

        place = tmp_path / "settings.ini"
        save_settings(place, dataclasses.replace(read_settings(place), **settings))
        driver = Driver(qt, Window(tmp_path, str(model)), heartbeat)
        opened.append(driver)
        window = driver.window
        window.show()
        driver.wait(lambda: window._busy or window._opened or driver.problems())
        return driver

    yield open_
    for driver in opened:
        driver.window.close()
    qt.processEvents()


@pytest.fixture
def long_winded(make_tiny_model: Callable[..., Path]) -> Path:
    """A model that has room for a long answer."""
    return make_tiny_model(context=32_768, seed=3)


def test_a_conversation(open_window: Callable[..., Driver], long_winded: Path) -> None:
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


def test_another_conversation_meanwhile(
    open_window: Callable[..., Driver], long_winded: Path
) -> None:
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


def test_it_is_all_there_the_next_time(
    open_window: Callable[..., Driver], long_winded: Path
) -> None:
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
    open_window: Callable[..., Driver],
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


def test_json_mode(open_window: Callable[..., Driver], long_winded: Path) -> None:
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
    open_window: Callable[..., Driver],
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


def test_stopping_what_is_opened(
    open_window: Callable[..., Driver], smollm_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_the_keyboard(open_window: Callable[..., Driver], long_winded: Path) -> None:
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


def test_looks_and_dialogs(open_window: Callable[..., Driver], tiny_model_path: Path) -> None:
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


@pytest.mark.smollm
def test_heartbeat(open_window: Callable[..., Driver], smollm_path: Path) -> None:
    """A quick model writes more than any window can show: the event loop still comes round."""
    warm = open_window(smollm_path)  # imports and fonts, once
    warm.until_idle()
    warm.window.close()
    driver = open_window(smollm_path)
    window = driver.window
    driver.heartbeat.begin()
    driver.until_idle()
    driver.heartbeat.check("loading")
    window.send("Write a long story about a fox, then a Python program of a hundred lines.")
    driver.heartbeat.begin()
    driver.wait(lambda: not window._busy or len(window._pending.text) > 4000)
    driver.heartbeat.check("streaming")
    window.stop()
    driver.until_idle()


# ---------------------------------------------------------------------------------- parts without a window


@pytest.mark.parametrize("size", [1, 3, 17, 200])
def test_markdown_in_pieces_is_that_of_the_whole(size: int) -> None:
    from markdown_blocks import MarkdownBlocks

    plain = lambda code, language: f"[{language}]{code}"  # noqa: E731
    whole = MarkdownBlocks(plain)
    whole.update(TEXT)
    assert [part.code is None for part in whole.parts] == [True, False, True, False, True]
    assert "&lt;b&gt;2&lt;/b&gt;" in whole.parts[0].html
    pieces, text = MarkdownBlocks(plain), ""
    for i in range(0, len(TEXT), size):
        text += TEXT[i : i + size]
        before = list(pieces.parts)
        first = pieces.update(text)
        assert pieces.parts[:first] == before[:first]
    assert pieces.parts == whole.parts


def test_markdown_stays_quick() -> None:
    """A long answer costs no more per token at its end than at its beginning."""
    from markdown_blocks import MarkdownBlocks

    blocks, text = MarkdownBlocks(lambda code, _: code), ""
    times = []
    for i in range(400):
        text += f"Paragraph {i} of a long answer that goes on and on.\n\n"
        start = time.process_time()
        blocks.update(text)
        times.append(time.process_time() - start)
    assert sum(times[-100:]) < 6 * sum(times[:100])


def test_colors_of_code() -> None:
    from highlighting import color_spans, colored_html

    spans = color_spans('def f(x):\n    return "a"  # b\n', "python")
    assert spans[0][0] == (0, 3, "keyword")
    assert [kind for _, _, kind in spans[1]] == ["keyword", *["string"] * 3, "comment"]
    assert color_spans("x", "no such language") == [[]]
    colors = dict.fromkeys(("keyword", "operator", "number"), "#123")
    assert colored_html("a<b", "", colors) == "a&lt;b"


def test_tools() -> None:
    from tools import answer_call, calculate

    assert calculate("2 * (3 + sqrt(16)) ** 2") == 98
    for bad in ("__import__('os')", "a.b", "9 ** 9 ** 9", "'a' * 3"):
        with pytest.raises((ValueError, SyntaxError)):
            calculate(bad)
    call = SimpleNamespace(id="1", name="calculate", arguments={"expression": "1/0"}, error=None)
    answer = answer_call(call)
    assert answer["tool_call_id"] == "1"
    assert "ZeroDivisionError" in json.loads(answer["content"])["error"]


# --------------------------------------------------------------------------------------------- as a program


def _problems(stderr: str) -> list[str]:
    """What was said but for Qt's remarks about fonts: a tiny model writes in every script."""
    return [line for line in stderr.splitlines() if not line.startswith("qt.text.font")]


def test_started_by_one_command(tiny_model_path: Path, tmp_path: Path) -> None:
    """It starts, opens the model, answers, and ends when it is told to."""
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, EXAMPLES / "desktop_chat", "--self-test", "-m", tiny_model_path]
    done = subprocess.run(
        [*command, "--data", tmp_path / "data"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, _problems(done.stderr)) == (0, [])
    assert (tmp_path / "data" / "chats.db").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frozen(tiny_model_path: Path, tmp_path: Path) -> None:
    """PyInstaller makes a folder of it that runs in an empty home without a network."""
    pytest.importorskip("PyInstaller", reason="pip install pyinstaller")
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"]
    program = EXAMPLES / "desktop_chat" / "__main__.py"
    subprocess.run([*command, "--name", "chat", program], cwd=tmp_path, check=True, timeout=900)
    frozen = tmp_path / "elsewhere"
    shutil.move(tmp_path / "dist" / "chat", frozen)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "QT_QPA_PLATFORM": "offscreen",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [frozen / "chat", "--self-test", "-m", tiny_model_path],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (done.returncode, _problems(done.stderr)) == (0, [])
    assert list(home.rglob("chats.db"))
