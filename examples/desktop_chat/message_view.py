"""One message as it is shown: a user's in a bubble, an answer as Markdown, a call of a tool on a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from highlighting import colored_html
from markdown_blocks import MarkdownBlocks
from PySide6.QtCore import QSize, Qt, QTimer, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget
from store import Entry
from text_widgets import CodeBlock, Prose
from theme import THEME


class IconButton(QToolButton):
    """A flat button with one of the theme's icons."""

    def __init__(self, name: str, tip: str, size: int = 16) -> None:
        super().__init__(toolTip=tip)
        self._name = name
        self.setIconSize(QSize(size, size))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        THEME.changed.connect(self.show_icon)
        self.show_icon()

    def show_icon(self) -> None:
        self.setIcon(THEME.icon(self._name))


class CopyButton(IconButton):
    """Copies what ``text()`` returns, and says that it did."""

    def __init__(self, text: Callable[[], str], tip: str) -> None:
        super().__init__("copy", tip)
        self._text = text
        self.clicked.connect(self._copy)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self._text())
        self.setIcon(THEME.icon("check", "accent"))
        QTimer.singleShot(1200, self.show_icon)


class UserMessage(QWidget):
    """What the user wrote, with buttons to edit and to copy it."""

    edit_requested = Signal(object)  # Entry

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._prose = Prose()
        self._prose.show_plain(entry.message["content"])
        self._bubble = QFrame(objectName="bubble")
        inside = QVBoxLayout(self._bubble)
        inside.setContentsMargins(16, 10, 16, 10)
        inside.addWidget(self._prose)
        edit = IconButton("edit", "Edit and ask again")
        edit.clicked.connect(lambda: self.edit_requested.emit(entry))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 6, 0, 0)
        row.setSpacing(2)
        row.addStretch()
        row.addWidget(CopyButton(lambda: entry.message["content"], "Copy"))
        row.addWidget(edit)
        row.addWidget(self._bubble)

    def resizeEvent(self, event: QResizeEvent) -> None:
        most = int(self.width() * 0.8)
        self._bubble.setFixedWidth(min(most, self._prose.ideal_width() + 32))


class ToolCard(QFrame):
    """A call of a tool and what came of it, on one line each."""

    def __init__(self, call: dict[str, Any]) -> None:
        super().__init__(objectName="tool")
        self.has_result = False
        function = call.get("function", call)
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                arguments = {"": arguments}
        shown = ", ".join(
            f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in dict(arguments).items()
        )
        self._result = QLabel("…", wordWrap=True, objectName="muted")
        self._result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        call_line = QLabel(f"{function.get('name', 'tool')}({shown})", wordWrap=True)
        call_line.setTextFormat(Qt.TextFormat.PlainText)
        self._result.setTextFormat(Qt.TextFormat.PlainText)
        mark = IconButton("tools", "A tool of this program was called")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 6, 12, 6)
        lines = QVBoxLayout()
        lines.setSpacing(2)
        lines.addWidget(call_line)
        lines.addWidget(self._result)
        layout.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(lines, 1)

    def show_result(self, text: str) -> None:
        self.has_result = True
        self._result.setText(f"→ {text}")


class Answer(QWidget):
    """What the model wrote, also while it writes."""

    regenerate_requested = Signal()

    def __init__(self, is_json: bool = False) -> None:
        super().__init__()
        self.is_json = is_json
        self.text = ""
        self._reasoning_text = ""
        self._markdown = self._new_markdown()
        self._parts: list[Prose | CodeBlock] = []
        self._cards: dict[str, ToolCard] = {}
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 2, 0, 4)
        self._layout.setSpacing(8)
        self._thinking = QToolButton(text="Thinking …", objectName="chip", checkable=True)
        self._thoughts = Prose()
        self._thinking.toggled.connect(self._thoughts.setVisible)
        self._waiting = QLabel("…", objectName="muted")
        self._foot = QWidget()
        foot = QHBoxLayout(self._foot)
        foot.setContentsMargins(0, 0, 0, 0)
        foot.setSpacing(2)
        self.retry = IconButton("retry", "Write another answer (Ctrl+R)")
        self.retry.clicked.connect(self.regenerate_requested)
        self._about = QLabel(objectName="muted")
        foot.addWidget(CopyButton(lambda: self.text, "Copy the answer"))
        foot.addWidget(self.retry)
        foot.addSpacing(6)
        foot.addWidget(self._about)
        foot.addStretch()
        for widget in (self._thinking, self._thoughts, self._waiting, self._foot):
            self._layout.addWidget(widget)
            widget.hide()
        THEME.changed.connect(self._repaint)

    def write(self, text: str, reasoning: str = "") -> None:
        """Show more of the answer."""
        self.text += text
        self._reasoning_text += reasoning
        if self._reasoning_text:
            self._thinking.show()
            self._thoughts.show_plain(self._reasoning_text.strip())
            if self.text:
                self._thinking.setText("Thoughts")
        self._show_parts(self._markdown.update(self._shown))
        self._waiting.setVisible(not self.text and not self._reasoning_text)

    def wait(self, text: str) -> None:
        """Say what is going on before anything is written."""
        self._waiting.setText(text)
        self._waiting.show()

    def call_tools(self, calls: list[dict[str, Any]]) -> None:
        for call in calls:
            card = ToolCard(call)
            self._cards[call.get("id", "")] = card
            self._layout.insertWidget(self._layout.indexOf(self._waiting), card)
        if not self.text:
            self._foot.hide()

    def show_result(self, message: dict[str, Any]) -> None:
        card = self._cards.get(message.get("tool_call_id", ""))
        if card is not None:
            card.show_result(message["content"])

    @property
    def has_all_results(self) -> bool:
        return all(card.has_result for card in self._cards.values())

    def finish(self, info: dict[str, Any]) -> None:
        """Show the facts and buttons below an answer that is complete."""
        self._waiting.hide()
        if info.get("reasoning") and not self._reasoning_text:
            self.write("", info["reasoning"])
        facts = []
        reason = info.get("finish_reason")
        if reason == "cancelled":
            facts.append("stopped")
        elif reason == "length":
            facts.append("cut off: the context or the limit of the answer is reached")
        if info.get("tokens"):
            facts.append(f"{info['tokens']:,} tokens")
        if info.get("tokens_per_second"):
            facts.append(f"{info['tokens_per_second']} tokens/s")
        if info.get("model"):
            facts.append(info["model"])
        self._about.setText(" · ".join(facts))
        self._foot.setVisible(bool(self.text) or reason == "cancelled")

    @property
    def _shown(self) -> str:
        return f"```json\n{self.text}" if self.is_json and self.text else self.text

    def _show_parts(self, first: int) -> None:
        parts = self._markdown.parts
        for i in range(first, len(parts)):
            part = parts[i]
            kind = Prose if part.code is None else CodeBlock
            if i < len(self._parts) and not isinstance(self._parts[i], kind):
                self._drop_parts(i)
            if i == len(self._parts):
                self._parts.append(kind())
                self._layout.insertWidget(self._layout.indexOf(self._waiting), self._parts[i])
            widget = self._parts[i]
            if isinstance(widget, CodeBlock):
                widget.show_code(part.code or "", part.language)
            else:
                widget.show_html(part.html)
        self._drop_parts(len(parts))

    def _drop_parts(self, first: int) -> None:
        while len(self._parts) > first:
            widget = self._parts.pop()
            self._layout.removeWidget(widget)
            widget.hide()
            widget.deleteLater()

    def _repaint(self) -> None:
        """Code inside of lists has its colors in the markup."""
        self._markdown = self._new_markdown()
        self._markdown.update(self._shown)
        self._show_parts(0)

    def _new_markdown(self) -> MarkdownBlocks:
        colors = THEME.colors.code
        return MarkdownBlocks(lambda code, lang: colored_html(code.rstrip("\n"), lang, colors))
