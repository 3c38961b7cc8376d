"""The conversation: messages in a column that scrolls, a welcome where there are none, problems as cards."""

from __future__ import annotations

from collections.abc import Iterator

from message_view import Answer, UserMessage
from problems import Problem
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from store import Entry

COLUMN = 760
_SUGGESTIONS = (
    ("Explain", "Explain how a hash table works, with a short example in Python."),
    ("Write code", "Write a Python function that parses an ISO 8601 duration, with tests."),
    ("Make a table", "Compare quicksort, mergesort and heapsort in a table."),
    ("Improve a text", "Make this friendlier and shorter: We cannot process your request today."),
)


class ConversationView(QScrollArea):
    """Shows messages; the window tells it which."""

    suggested = Signal(str)
    edit_requested = Signal(object)  # Entry
    regenerate_requested = Signal()
    remedy_chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        content = QWidget(objectName="scroll")
        self._column = QWidget(objectName="column")
        self._column.setMaximumWidth(COLUMN)
        self._messages = QVBoxLayout(self._column)
        self._messages.setContentsMargins(0, 16, 0, 16)
        self._messages.setSpacing(8)
        self._messages.addStretch()
        row = QHBoxLayout(content)
        row.setContentsMargins(24, 0, 24, 0)
        row.addStretch(1)
        row.addWidget(self._column, 100)
        row.addStretch(1)
        self.setWidget(content)
        self._filling: Iterator[None] | None = None
        self._answer: Answer | None = None  # the one that is written, or the last
        self._follows = True  # whether the end stays in sight
        bar = self.verticalScrollBar()
        bar.valueChanged.connect(self._on_scrolled)
        bar.rangeChanged.connect(self._on_grown)

    @property
    def answer(self) -> Answer | None:
        """The answer that is being written, or the last one."""
        return self._answer

    # Filling

    def show_welcome(self) -> None:
        self._clear()
        self._add(_Welcome(self.suggested.emit))

    def show_messages(self, entries: list[Entry]) -> None:
        """Show a conversation, a few messages at a time, so that a long one keeps nothing waiting."""
        self._clear()
        self._filling = self._fill(entries)
        self._fill_more()

    def _fill(self, entries: list[Entry]) -> Iterator[None]:
        for i, entry in enumerate(entries):
            self.add(entry)
            if i % 4 == 3:
                yield

    def _fill_more(self) -> None:
        if self._filling is not None and next(self._filling, self) is not self:
            QTimer.singleShot(0, self._fill_more)
        else:
            self._filling = None

    def finish_filling(self) -> None:
        """Show at once what is still missing."""
        if self._filling is not None:
            for _ in self._filling:
                pass
            self._filling = None

    def add(self, entry: Entry) -> None:
        """Show one more message."""
        message = entry.message
        if message["role"] == "user":
            self.set_regenerable(False)
            self._answer = None
            view = UserMessage(entry)
            view.edit_requested.connect(self.edit_requested)
            self._add(view)
            self._follows = True
        elif message["role"] == "tool":
            if self._answer is not None:
                self._answer.show_result(message)
        else:
            self._new_answer(entry.info.get("is_json", False)).write(message.get("content") or "")
            self.finish_answer(entry)

    def begin_answer(self, is_json: bool = False) -> Answer:
        """Begin to show an answer that is being written."""
        self.finish_filling()
        return self._new_answer(is_json)

    def _new_answer(self, is_json: bool) -> Answer:
        self.set_regenerable(False)
        self._answer = Answer(is_json)
        self._answer.regenerate_requested.connect(self.regenerate_requested)
        self._add(self._answer)
        return self._answer

    def finish_answer(self, entry: Entry) -> None:
        """The answer is complete."""
        if self._answer is not None:
            self._answer.call_tools(entry.message.get("tool_calls") or [])
            self._answer.finish(entry.info)

    def end_round(self) -> None:
        """The tools have answered: the model writes on in a new part."""
        if self._answer is not None and self._answer.has_all_results:
            self.begin_answer(self._answer.is_json).wait("…")

    def drop_answer(self) -> None:
        """Take the last answer away: nothing was written."""
        if self._answer is not None:
            self._messages.removeWidget(self._answer)
            self._answer.hide()
            self._answer.deleteLater()
            self._answer = None

    def set_regenerable(self, on: bool) -> None:
        """Whether the last answer offers to be written again; earlier ones never do."""
        if self._answer is not None:
            self._answer.retry.setVisible(on)

    def show_problem(self, problem: Problem, labels: dict[str, str]) -> None:
        """Say what went wrong; ``labels`` are the texts of the actions that can help."""
        self._add(_ProblemCard(problem, labels, self.remedy_chosen.emit))
        self._follows = True

    def clear_problems(self) -> None:
        for card in self._column.findChildren(_ProblemCard):
            self._messages.removeWidget(card)
            card.hide()
            card.deleteLater()

    def _add(self, widget: QWidget) -> None:
        self._messages.insertWidget(self._messages.count() - 1, widget)

    def _clear(self) -> None:
        self._filling = self._answer = None
        self._follows = True
        while self._messages.count() > 1:
            widget = self._messages.takeAt(0).widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()

    # Scrolling

    def _on_scrolled(self, value: int) -> None:
        self._follows = value >= self.verticalScrollBar().maximum() - 24

    def _on_grown(self, _: int, maximum: int) -> None:
        if self._follows:
            self.verticalScrollBar().setValue(maximum)

    def resizeEvent(self, event: QResizeEvent) -> None:
        follows = self._follows
        super().resizeEvent(event)
        self._follows = follows


class _Welcome(QWidget):
    def __init__(self, choose: object) -> None:
        super().__init__()
        title = QLabel("What can I help with?")
        font = title.font()
        font.setPointSizeF(font.pointSizeF() * 1.9)
        font.setWeight(font.Weight.DemiBold)
        title.setFont(font)
        title.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        below = QLabel("The model runs on this computer. Nothing you write leaves it.")
        below.setObjectName("muted")
        below.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        grid = QGridLayout()
        grid.setSpacing(12)
        for i, (head, text) in enumerate(_SUGGESTIONS):
            grid.addWidget(_Card(head, text, choose), i // 2, i % 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 110, 0, 0)
        layout.setSpacing(10)
        layout.addWidget(title)
        layout.addWidget(below)
        layout.addSpacing(24)
        layout.addLayout(grid)


class _Card(QPushButton):
    def __init__(self, head: str, text: str, choose: object) -> None:
        super().__init__(objectName="card")
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(text)
        title, body = QLabel(head), QLabel(text, wordWrap=True, objectName="muted")
        bold = title.font()
        bold.setWeight(bold.Weight.DemiBold)
        title.setFont(bold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 16, 14)
        layout.setSpacing(4)
        layout.addWidget(title)
        layout.addWidget(body, 1, Qt.AlignmentFlag.AlignTop)
        for label in (title, body):
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setMinimumHeight(92)
        self.clicked.connect(lambda: choose(text))  # type: ignore[operator]


class _ProblemCard(QFrame):
    def __init__(self, problem: Problem, labels: dict[str, str], choose: object) -> None:
        super().__init__(objectName="problem")
        title = QLabel(problem.title, objectName="title")
        text = QLabel(problem.text, wordWrap=True)
        text.setTextFormat(Qt.TextFormat.PlainText)
        text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 12, 16, 12)
        layout.setSpacing(6)
        layout.addWidget(title)
        layout.addWidget(text)
        buttons = QHBoxLayout()
        for remedy in problem.remedies:
            button = QPushButton(labels.get(remedy, remedy))
            button.clicked.connect(lambda _=False, name=remedy: choose(name))  # type: ignore[operator]
            buttons.addWidget(button)
        buttons.addStretch()
        if problem.remedies:
            layout.addSpacing(4)
            layout.addLayout(buttons)
