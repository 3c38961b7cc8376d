"""The window: joins the parts, and decides what may happen when.

At most one job runs at a time, an opening or a turn (``self._busy``). A turn belongs to the conversation it
was asked in; one may look at another meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from composer import Composer
from conversation_view import COLUMN, ConversationView
from dialogs import ModelDialog, SchemaDialog, SettingsDialog, ShortcutsDialog
from problems import Problem, short_name
from PySide6.QtCore import QCoreApplication, QEvent, QTimer
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QHBoxLayout, QMainWindow, QMessageBox, QVBoxLayout, QWidget
from settings import read_settings, save_settings
from sidebar import Sidebar
from status import Banner, Status
from store import Entry, Store
from theme import THEME
from tools import TOOLS
from worker import ModelWorker, Opened, Opening, Turn

from pyqwen.catalog import DEFAULT_MODEL

_FRAME_MS = 40  # text that arrives is shown 25 times a second at most
_LOOK_MS = 2000  # how soon it is noticed that the model gave its memory back
_TITLE = 42  # characters of the first question that name a conversation


@dataclass
class _Pending:
    """The answer that is being written: where, and what of it is not in the store yet."""

    conversation: int
    text: str = ""
    reasoning: str = ""
    is_json: bool = False
    unshown: list[tuple[str, str]] = field(default_factory=list)


class Window(QMainWindow):
    """The chat."""

    def __init__(self, data: Path, model: str | None = None) -> None:
        super().__init__()
        self.setWindowTitle("pyqwen chat")
        self.resize(1180, 800)
        self.setMinimumSize(640, 440)
        self._store = Store(data / "chats.db")
        self._settings_path = data / "settings.ini"
        self.settings = read_settings(self._settings_path)
        self._conversation: int | None = None
        self._entries: list[Entry] = []
        self._editing: Entry | None = None
        self._pending: _Pending | None = None
        self._busy = False
        self._opened: Opened | None = None
        self._wanted_model = model or self.settings.model or DEFAULT_MODEL
        THEME.apply(self.settings.theme)
        self._build()
        self._actions = self._make_actions()
        self._timer = QTimer(self, interval=_FRAME_MS)
        self._timer.timeout.connect(self._flush)
        self._looking = QTimer(self, interval=_LOOK_MS)
        self._looking.timeout.connect(self._show_state)
        self._looking.start()
        self.worker = ModelWorker()
        self._connect_worker()
        self.new_chat()
        QTimer.singleShot(0, self.open_model)

    # Building

    def _build(self) -> None:
        self.sidebar = Sidebar()
        self.view = ConversationView()
        self.composer = Composer()
        self.banner = Banner()
        self.banner.stopped.connect(self.stop)
        self.status = Status()
        self.setStatusBar(self.status)
        centered = QHBoxLayout()
        centered.setContentsMargins(24, 4, 24, 16)
        self.composer.setMaximumWidth(COLUMN + 24)
        centered.addStretch(1)
        centered.addWidget(self.composer, 100)
        centered.addStretch(1)
        main = QVBoxLayout()
        main.setContentsMargins(0, 0, 0, 0)
        main.setSpacing(0)
        main.addWidget(self.banner)
        main.addWidget(self.view, 1)
        main.addLayout(centered)
        central = QWidget(objectName="main")
        whole = QHBoxLayout(central)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addWidget(self.sidebar)
        whole.addLayout(main, 1)
        self.setCentralWidget(central)
        self.sidebar.chosen.connect(self.show_conversation)
        self.sidebar.searched.connect(lambda _: self._list())
        self.sidebar.new_requested.connect(self.new_chat)
        self.sidebar.rename_requested.connect(self._rename)
        self.sidebar.delete_requested.connect(self._delete)
        self.sidebar.action_requested.connect(lambda name: self._actions[name]())
        self.view.suggested.connect(self.composer.set_text)
        self.view.edit_requested.connect(self._edit)
        self.view.regenerate_requested.connect(self.regenerate)
        self.view.remedy_chosen.connect(lambda name: self._actions[name]())
        self.composer.submitted.connect(self.send)
        self.composer.stop_requested.connect(self.stop)
        self.composer.model_requested.connect(self.choose_model)
        self.composer.json_requested.connect(self._on_json)
        self.composer.edit_last_requested.connect(self._edit_last)

    def _connect_worker(self) -> None:
        worker = self.worker
        worker.progressed.connect(self._on_progress)
        worker.opened.connect(self._on_opened)
        worker.prompt_read.connect(self._on_prompt)
        worker.wrote.connect(self._on_text)
        worker.said.connect(self._on_message)
        worker.failed.connect(self._on_problem)
        worker.finished.connect(self._on_finished)

    def _make_actions(self) -> dict[str, Callable[[], None]]:
        """What can be done by name, most of it with a shortcut."""
        step = self.sidebar.step
        table: tuple[tuple[str, str, str, Callable[[], Any]], ...] = (
            ("new_chat", "Ctrl+N", "New chat", self.new_chat),
            ("choose_model", "Ctrl+O", "Choose a model", self.choose_model),
            ("stop", "Esc", "Stop the answer", self.stop),
            ("regenerate", "Ctrl+R", "Write the answer again", self.regenerate),
            ("edit_last", "Ctrl+E", "Edit your last message", self._edit_last),
            ("json_mode", "Ctrl+J", "JSON mode", self._toggle_json),
            ("tools", "Ctrl+T", "Tools", self.composer.tools.toggle),
            ("search", "Ctrl+F", "Search chats", self.sidebar.search.setFocus),
            ("write", "Ctrl+L", "Write", self.composer.field.setFocus),
            ("next", "Ctrl+PgDown", "Next chat", lambda: step(1)),
            ("previous", "Ctrl+PgUp", "Previous chat", lambda: step(-1)),
            ("sidebar", "Ctrl+B", "Show or hide the chats", self._toggle_sidebar),
            ("dark_mode", "Ctrl+Shift+D", "Dark or light", self._toggle_dark),
            ("settings", "Ctrl+,", "Settings", self._edit_settings),
            ("shortcuts", "F1", "Keyboard shortcuts", self._show_shortcuts),
            ("quit", "Ctrl+Q", "Quit", self.close),
        )
        self._shortcuts = [(keys, label) for _, keys, label, _ in table]
        self._labels = {name: label for name, _, label, _ in table}
        self._labels |= {"retry_open": "Try again", "open_anyway": "Open it anyway"}
        actions: dict[str, Callable[[], None]] = {"retry_open": self.open_model}
        actions["open_anyway"] = lambda: self.open_model(anyway=True)
        for name, keys, _, do in table:
            shortcut = QShortcut(QKeySequence(keys), self)
            shortcut.activated.connect(lambda do=do: do())
            actions[name] = do
        return actions

    # Models

    def open_model(self, anyway: bool = False) -> None:
        """Open the model that is wanted, in place of the one that is open."""
        if self._busy:
            return
        self.view.clear_problems()
        self._opened = None
        self.status.show_model(None)
        name = short_name(self._wanted_model)
        self.composer.model.setText(name)
        self.banner.begin(f"Opening {name} …")
        self._begin(Opening(self._wanted_model, self.settings.context, anyway), f"Opening {name}")

    def choose_model(self) -> None:
        """Ask which model, and open it."""
        if self._busy:
            return
        dialog = ModelDialog(self, self._wanted_model)
        if dialog.exec():
            self._wanted_model = dialog.choice
            self.open_model()

    def _on_progress(self, what: str, done: int, total: int) -> None:
        self.banner.show_progress(f"{what} {short_name(self._wanted_model)}", done, total)

    def _on_opened(self, opened: Opened) -> None:
        self._opened = opened
        self.status.show_model(opened)
        self._change_settings(model=opened.name)
        self._show_used()

    # Conversations

    def new_chat(self) -> None:
        """Show an empty conversation; it is kept once something was said."""
        self._show(None, [])
        self.view.show_welcome()
        self.composer.field.setFocus()

    def show_conversation(self, conversation: int) -> None:
        if conversation != self._conversation:
            self._show(conversation, self._store.messages(conversation))
            self.view.show_messages(self._entries)
            self._after_showing()

    def _show(self, conversation: int | None, entries: list[Entry]) -> None:
        self._flush()
        self._conversation, self._entries, self._editing = conversation, entries, None
        self.composer.set_editing(False)
        self._list()
        self._show_used()

    def _show_used(self) -> None:
        """How much of the context the conversation takes."""
        used = (entry.info.get("context_tokens") for entry in reversed(self._entries))
        self.status.show_context(next(filter(None, used), 0))

    def _after_showing(self) -> None:
        if self._pending is not None and self._pending.conversation == self._conversation:
            answer = self.view.begin_answer(self._pending.is_json)
            answer.write(self._pending.text, self._pending.reasoning)
        elif not self._busy:
            self.view.finish_filling()
            self.view.set_regenerable(bool(self._entries))

    def _list(self) -> None:
        rows = self._store.conversations(self.sidebar.search.text().strip())
        self.sidebar.show_conversations(rows, self._conversation)

    def _rename(self, conversation: int, title: str) -> None:
        self._store.rename(conversation, title)
        self._list()

    def _delete(self, conversation: int) -> None:
        title = dict(self._store.conversations()).get(conversation, "")
        question = QMessageBox.question(self, "Delete", f"Delete “{title}”? It cannot be undone.")
        if question != QMessageBox.StandardButton.Yes:
            return
        if self._pending is not None and self._pending.conversation == conversation:
            self._pending.conversation = -1
            self.stop()
        self._store.delete(conversation)
        if conversation == self._conversation:
            self.new_chat()
        self._list()

    # Asking

    def send(self, text: str) -> None:
        """Ask; an edited message takes the place of the one it was, and of all that followed."""
        if self._busy:
            return
        self.view.clear_problems()
        if self._conversation is None:
            title = " ".join(text.split())
            title = title if len(title) <= _TITLE else title[: _TITLE - 1].rstrip() + "…"
            self._show(self._store.create(title), [])
            self.view.show_messages([])
        elif self._editing is not None:
            self._cut(self._editing)
        self._editing = None
        self.composer.set_editing(False)
        self._add(Entry({"role": "user", "content": text}))
        self._ask()

    def regenerate(self) -> None:
        """Let the model answer the last question again."""
        if self._busy or not self._entries:
            return
        last = max(i for i, e in enumerate(self._entries) if e.message["role"] == "user")
        if last + 1 < len(self._entries):
            self._cut(self._entries[last + 1])
        self.view.clear_problems()
        self._ask()

    def _ask(self) -> None:
        assert self._conversation is not None
        messages = [entry.message for entry in self._entries]
        if self.settings.system:
            messages.insert(0, {"role": "system", "content": self.settings.system})
        self._pending = _Pending(self._conversation, is_json=self.composer.json.isChecked())
        self.view.begin_answer(self._pending.is_json).wait("…")
        self._begin(Turn(messages, self._options()), "Reading")
        self._timer.start()

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.settings.temperature >= 0:
            options["temperature"] = self.settings.temperature
        if self.composer.json.isChecked():
            schema = json.loads(self.settings.schema) if self.settings.schema else None
            options["response_format"] = schema or {"type": "json_object"}
        if self.composer.tools.isChecked():
            options["tools"] = list(TOOLS.values())
        return options

    def stop(self) -> None:
        """Stop the answer, the opening or the download; leave an edit."""
        if self._busy:
            self.worker.stop()
        elif self._editing is not None:
            self._editing = None
            self.composer.set_editing(False)
            self.composer.field.clear()

    def _edit(self, entry: Entry) -> None:
        if not self._busy:
            self._editing = entry
            self.composer.set_editing(True)
            self.composer.set_text(entry.message["content"])

    def _edit_last(self) -> None:
        mine = [entry for entry in self._entries if entry.message["role"] == "user"]
        if mine:
            self._edit(mine[-1])

    def _cut(self, first: Entry) -> None:
        """Forget the messages from one on."""
        assert self._conversation is not None
        self._store.cut(self._conversation, first.id)
        self._entries = [entry for entry in self._entries if entry.id < first.id]
        self.view.show_messages(self._entries)
        self.view.finish_filling()

    def _add(self, entry: Entry) -> None:
        assert self._conversation is not None
        self._entries.append(self._store.add(self._conversation, entry))
        self.view.finish_filling()
        self.view.add(entry)
        self._list()

    # What the worker tells

    def _begin(self, job: Opening | Turn, status: str) -> None:
        self._busy = True
        self.status.show_state(f"{status} …")
        self._update()
        self.worker.start(job)

    def _on_prompt(self, done: int, total: int) -> None:
        if self._pending is not None and not self._pending.text:
            self.status.show_state(f"Reading {done:,} of {total:,} tokens …")

    def _on_text(self, text: str, reasoning: str) -> None:
        if self._pending is not None:
            self._pending.text += text
            self._pending.reasoning += reasoning
            self._pending.unshown.append((text, reasoning))

    def _flush(self) -> None:
        """Show what has arrived since the last frame."""
        pending = self._pending
        if pending is None or not pending.unshown:
            return
        text = "".join(text for text, _ in pending.unshown)
        reasoning = "".join(reasoning for _, reasoning in pending.unshown)
        pending.unshown.clear()
        self.status.show_state("Thinking …" if reasoning and not pending.text else "Writing …")
        if pending.conversation == self._conversation and self.view.answer is not None:
            self.view.answer.write(text, reasoning)

    def _on_message(self, message: dict[str, Any], info: dict[str, Any]) -> None:
        """A message is complete: keep it, and show what belongs to it."""
        self._flush()
        pending = self._pending
        if pending is None or pending.conversation < 0:
            return
        if message["role"] == "assistant" and self._opened is not None:
            info |= {"model": short_name(self._opened.name), "is_json": pending.is_json}
        is_nothing = not message.get("content") and not message.get("tool_calls")
        if is_nothing and info.get("finish_reason") == "cancelled":
            if pending.conversation == self._conversation:
                self.view.drop_answer()
            return
        entry = self._store.add(pending.conversation, Entry(message, info))
        if pending.conversation == self._conversation:
            self._entries.append(entry)
            if message["role"] == "tool":
                self.view.add(entry)
            else:
                if self.view.answer is None:
                    self.view.begin_answer(pending.is_json)
                self.view.finish_answer(entry)
        pending.text = pending.reasoning = ""
        if "tokens" in info:
            self.status.show_facts(info)
        if message["role"] == "tool" and pending.conversation == self._conversation:
            self.view.end_round()

    def _on_problem(self, problem: Problem) -> None:
        self._flush()
        pending = self._pending
        if pending is not None and pending.text:  # it failed in the middle: keep what there is
            message = {"role": "assistant", "content": pending.text}
            self._on_message(message, {"finish_reason": "cancelled"})
        elif pending is not None and pending.conversation == self._conversation:
            self.view.drop_answer()
        self.view.show_problem(problem, self._labels)

    def _on_finished(self) -> None:
        self._flush()
        self._busy = False
        self._pending = None
        self._timer.stop()
        self.banner.hide()
        self._show_state()
        self.view.set_regenerable(bool(self._entries))
        self._list()
        self._update()

    def _show_state(self) -> None:
        """What the status bar says while nothing is done."""
        if self._busy:
            return
        if self._opened is None:
            self.status.show_state("No model is open")
        elif self.worker.is_loaded:
            self.status.show_state("Ready")
        else:
            self.status.show_state("Asleep: the memory was given back until the next message")

    def _update(self) -> None:
        self.composer.set_state(
            can_send=self._opened is not None and not self._busy, is_busy=self._busy
        )
        self.composer.model.setEnabled(not self._busy)

    # Switches and settings

    def _on_json(self, on: bool) -> None:
        if on:
            dialog = SchemaDialog(self, self.settings.schema)
            if dialog.exec():
                self._change_settings(schema=dialog.schema())
            else:
                self.composer.json.setChecked(False)

    def _toggle_json(self) -> None:
        self.composer.json.setChecked(not self.composer.json.isChecked())
        self._on_json(self.composer.json.isChecked())

    def _toggle_sidebar(self) -> None:
        self.sidebar.setVisible(not self.sidebar.isVisible())

    def _toggle_dark(self) -> None:
        self._change_settings(theme="light" if THEME.is_dark else "dark")

    def _edit_settings(self) -> None:
        dialog = SettingsDialog(self, self.settings)
        if dialog.exec():
            context = self.settings.context
            self._change_settings(**dialog.changes())
            if self.settings.context != context:
                self.open_model()

    def _change_settings(self, **changes: Any) -> None:
        before, self.settings = self.settings, replace(self.settings, **changes)
        save_settings(self._settings_path, self.settings)
        if self.settings.theme != before.theme:
            THEME.apply(self.settings.theme)

    def _show_shortcuts(self) -> None:
        more = [("Enter", "Send"), ("Shift+Enter", "New line"), ("↑", "Edit your last message")]
        ShortcutsDialog(self, more + self._shortcuts).exec()

    # The end

    def closeEvent(self, event: QCloseEvent) -> None:
        """Stop whatever runs, keep what was written, free the model."""
        self.hide()
        self.worker.close()
        # Its last signals wait in the event queue, and what was written with them.
        QCoreApplication.sendPostedEvents(self, QEvent.Type.MetaCall)
        self._store.close()
        event.accept()
