"""Where the user writes: a field that grows, switches for JSON and tools, a button that sends or stops."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
)
from theme import THEME

_MOST_LINES = 9


class Composer(QFrame):
    """Text and switches of the next question."""

    submitted = Signal(str)
    stop_requested = Signal()
    model_requested = Signal()
    json_requested = Signal(bool)
    edit_last_requested = Signal()

    def __init__(self) -> None:
        super().__init__(objectName="composer")
        self._can_send = self._is_busy = False
        self.field = QPlainTextEdit(placeholderText="Ask anything")
        self.field.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.field.document().setDocumentMargin(2)
        self.field.setAccessibleName("Message")
        self.field.textChanged.connect(self._on_text)
        self.field.installEventFilter(self)
        self.model = self._chip("Choose a model", "Open another model (Ctrl+O)")
        self.model.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.model.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
        self.model.clicked.connect(self.model_requested)
        self.json = self._chip("JSON", "Answer as JSON of a schema (Ctrl+J)", checkable=True)
        self.json.clicked.connect(self.json_requested)
        self.tools = self._chip(
            "Tools", "Let the model use a calculator, a clock and a word count (Ctrl+T)", True
        )
        self._editing = QLabel(
            "Editing an earlier message · Esc leaves it",
            objectName="muted",
        )
        self._editing.hide()
        self._go = QToolButton(objectName="go")
        self._go.setIconSize(QSize(20, 20))
        self._go.setFixedSize(32, 32)
        self._go.setCursor(Qt.CursorShape.PointingHandCursor)
        self._go.clicked.connect(self._on_go)
        row = QHBoxLayout()
        row.setSpacing(8)
        for widget in (self.model, self.json, self.tools):
            row.addWidget(widget)
        fixed = QSizePolicy.Policy.Fixed
        self.json.setSizePolicy(fixed, fixed)
        self.tools.setSizePolicy(fixed, fixed)
        row.addStretch()
        row.addWidget(self._go)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 12, 10)
        layout.setSpacing(8)
        layout.addWidget(self._editing)
        layout.addWidget(self.field)
        layout.addLayout(row)
        THEME.changed.connect(self._show)
        self._on_text()

    def _chip(self, text: str, tip: str, checkable: bool = False) -> QToolButton:
        button = QToolButton(text=text, toolTip=tip, checkable=checkable, objectName="chip")
        button.setIconSize(QSize(14, 14))
        button.setCursor(Qt.CursorShape.PointingHandCursor)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.toggled.connect(self._show)
        return button

    def set_state(self, *, can_send: bool, is_busy: bool) -> None:
        """Whether a message could be sent now, and whether an answer is being written."""
        self._can_send, self._is_busy = can_send, is_busy
        self._show()

    def set_editing(self, on: bool) -> None:
        self._editing.setVisible(on)

    def set_text(self, text: str) -> None:
        self.field.setPlainText(text)
        cursor = self.field.textCursor()
        cursor.movePosition(cursor.MoveOperation.End)
        self.field.setTextCursor(cursor)
        self.field.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.setProperty("active", event.type() == QEvent.Type.FocusIn)
            self.style().unpolish(self)
            self.style().polish(self)
        elif event.type() == QEvent.Type.Resize:
            self._fit()
        elif isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            is_return = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
            if is_return and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
                if not self._is_busy:
                    self._on_go()
                return True
            if event.key() == Qt.Key.Key_Up and not self.field.toPlainText():
                self.edit_last_requested.emit()
                return True
        return super().eventFilter(watched, event)

    def _on_go(self) -> None:
        if self._is_busy:
            self.stop_requested.emit()
        elif self._can_send and self.field.toPlainText().strip():
            text = self.field.toPlainText().strip()
            self.field.clear()
            self.submitted.emit(text)

    def _on_text(self) -> None:
        self._fit()
        self._show()

    def _fit(self) -> None:
        document = self.field.document()
        lines = max(1, min(_MOST_LINES, int(document.size().height())))
        more = int(document.size().height()) > _MOST_LINES
        policy = Qt.ScrollBarPolicy
        self.field.setVerticalScrollBarPolicy(
            policy.ScrollBarAsNeeded if more else policy.ScrollBarAlwaysOff
        )
        self.field.setFixedHeight(lines * self.field.fontMetrics().lineSpacing() + 8)

    def _show(self) -> None:
        self.model.setIcon(THEME.icon("down"))
        for button, name in ((self.json, "braces"), (self.tools, "tools")):
            button.setIcon(THEME.icon(name, "accent" if button.isChecked() else "muted"))
        self._go.setIcon(THEME.icon("stop" if self._is_busy else "send", "on_accent"))
        self._go.setToolTip("Stop (Esc)" if self._is_busy else "Send (Enter)")
        self._go.setEnabled(
            self._is_busy or (self._can_send and bool(self.field.toPlainText().strip()))
        )
