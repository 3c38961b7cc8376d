"""What is going on: the banner of a model that is fetched or loaded, and the status bar."""

from __future__ import annotations

from typing import Any

from problems import gigabytes
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QStatusBar, QWidget
from worker import Opened


class Banner(QWidget):
    """The progress of an opening, with a button that stops it."""

    stopped = Signal()

    def __init__(self) -> None:
        super().__init__(objectName="banner")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._text = QLabel()
        self._bar = QProgressBar(maximum=1000, textVisible=False)
        stop = QPushButton("Stop")
        stop.clicked.connect(self.stopped)
        row = QHBoxLayout(self)
        row.setContentsMargins(20, 8, 20, 8)
        row.setSpacing(16)
        row.addWidget(self._text)
        row.addWidget(self._bar, 1)
        row.addWidget(stop)
        self.hide()

    def begin(self, text: str) -> None:
        """Show that something began whose length is not known."""
        self._text.setText(text)
        self._bar.setMaximum(0)
        self.show()

    def show_progress(self, what: str, done: int, total: int) -> None:
        self._bar.setMaximum(1000)
        self._bar.setValue(round(1000 * done / max(total, 1)))
        self._text.setText(f"{what} · {gigabytes(done)} of {gigabytes(total)}")


class Status(QStatusBar):
    """The state in words, speed, how full the context is, and the memory of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizeGripEnabled(False)
        self._state = QLabel()
        self._speed, self._context, self._memory = QLabel(), QLabel(), QLabel()
        self._opened: Opened | None = None
        self.addWidget(self._state, 1)
        for label in (self._speed, self._context, self._memory):
            self.addPermanentWidget(label)

    def show_state(self, text: str) -> None:
        self._state.setText(text)

    def show_model(self, opened: Opened | None) -> None:
        """Show the plan of the model that is open."""
        self._opened = opened
        self._speed.clear()
        self.show_context(0)
        if opened is None:
            self._memory.clear()
            return
        plan = opened.plan
        self._memory.setText(f"{gigabytes(plan.total)} of {gigabytes(plan.available)} free memory")
        self._memory.setToolTip(
            "The most this model takes, with a full context:\n"
            f"weights {gigabytes(plan.weights)}, cache {gigabytes(plan.kv)}, "
            f"the rest {gigabytes(plan.total - plan.weights - plan.kv)}"
        )

    def show_context(self, used: int) -> None:
        if self._opened is None:
            self._context.clear()
        else:
            self._context.setText(f"{used:,} of {self._opened.plan.context:,} tokens")

    def show_facts(self, info: dict[str, Any]) -> None:
        """What an answer took."""
        self.show_context(info["context_tokens"])
        self._speed.setText(f"{info['tokens_per_second']:.1f} tokens/s")
        self._speed.setToolTip(
            f"{info['seconds_to_first']:.2f} s to the first token; "
            f"{info['cached_tokens']:,} tokens did not have to be read again"
        )
