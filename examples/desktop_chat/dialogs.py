"""The dialogs: which model, settings, the schema of JSON mode, keyboard shortcuts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from problems import gigabytes
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QButtonGroup,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)
from settings import Settings
from text_widgets import Prose
from theme import code_font

from pyqwen import catalog

_BUTTONS = QDialogButtonBox.StandardButton


class ModelDialog(QDialog):
    """Models that are here first, then those that can be fetched; or any file."""

    def __init__(self, parent: QWidget, current: str) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose a model")
        self.resize(680, 500)
        self.choice = ""
        self._tree = QTreeWidget(rootIsDecorated=False, columnCount=3)
        self._tree.setHeaderLabels(["Model", "On this computer", "License"])
        header = self._tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column in (1, 2):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        self._fill(current)
        self._tree.itemActivated.connect(self.accept)
        self._tree.currentItemChanged.connect(self._on_current)
        self._note = QLabel(wordWrap=True, objectName="muted")
        buttons = QDialogButtonBox(_BUTTONS.Cancel)
        browse = QPushButton("Open a file …", autoDefault=False)
        buttons.addButton(browse, QDialogButtonBox.ButtonRole.ResetRole)
        browse.clicked.connect(self._browse)
        self._open = buttons.addButton("Open", QDialogButtonBox.ButtonRole.AcceptRole)
        self._open.setDefault(True)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 16)
        layout.setSpacing(12)
        layout.addWidget(self._tree)
        layout.addWidget(self._note)
        layout.addWidget(buttons)
        self._on_current()

    def _fill(self, current: str) -> None:
        here = {model.name: model for model in catalog.list_models()}
        rows = [(m.name, gigabytes(m.size), m.license) for m in here.values()]
        rows += [(e.name, "", e.license) for e in catalog.entries() if e.name not in here]
        for name, size, terms in rows:
            item = QTreeWidgetItem([name, size or "–", terms.name if terms else "unknown"])
            item.setData(0, Qt.ItemDataRole.UserRole, (bool(size), terms))
            if terms and terms.restriction:
                item.setToolTip(2, terms.restriction)
            self._tree.addTopLevelItem(item)
            if name == current or self._tree.currentItem() is None:
                self._tree.setCurrentItem(item)

    def _on_current(self) -> None:
        item = self._tree.currentItem()
        is_here, terms = item.data(0, Qt.ItemDataRole.UserRole)
        text = (
            "Ready to open."
            if is_here
            else "It is downloaded first; that can be stopped and goes on later."
        )
        if terms is not None and terms.restriction:
            text += f" Its license: {terms.restriction}."
        self._note.setText(text)
        self._open.setText("Open" if is_here else "Download and open")

    def accept(self) -> None:
        item = self._tree.currentItem()
        if item is not None and not self.choice:
            self.choice = item.text(0)
        super().accept()

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a model", str(Path.home()), "GGUF (*.gguf)"
        )
        if path:
            self.choice = path
            super().accept()


_THEMES = ("system", "light", "dark")


class SettingsDialog(QDialog):
    """Edits ``Settings``."""

    def __init__(self, parent: QWidget, settings: Settings) -> None:
        super().__init__(parent)
        self.setWindowTitle("Settings")
        self.resize(520, 420)
        self._system = QPlainTextEdit(settings.system, objectName="field")
        self._system.setPlaceholderText("How the model should answer, for example: Be brief.")
        self._context = QSpinBox(minimum=512, maximum=1_000_000, singleStep=1024)
        self._context.setGroupSeparatorShown(True)
        self._context.setSuffix(" tokens")
        self._context.setValue(settings.context)
        self._temperature = QDoubleSpinBox(decimals=1)
        self._temperature.setRange(-0.1, 2.0)
        self._temperature.setSingleStep(0.1)
        self._temperature.setSpecialValueText("as the model recommends")
        self._temperature.setValue(settings.temperature)
        for box in (self._context, self._temperature):
            box.lineEdit().setTextMargins(7, 0, 7, 0)
        self._theme = QButtonGroup(self)
        themes = QHBoxLayout()
        for i, name in enumerate(_THEMES):
            text = "As the desktop" if name == "system" else name.capitalize()
            button = QToolButton(text=text, checkable=True, objectName="chip")
            button.setChecked(name == settings.theme)
            self._theme.addButton(button, i)
            themes.addWidget(button)
        themes.addStretch()
        form = QFormLayout()
        form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
        form.setHorizontalSpacing(18)
        form.setVerticalSpacing(12)
        form.addRow("Instructions", self._system)
        form.addRow("Longest conversation", self._context)
        form.addRow("Temperature", self._temperature)
        form.addRow("Appearance", themes)
        buttons = QDialogButtonBox(_BUTTONS.Ok | _BUTTONS.Cancel)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 16)
        layout.setSpacing(14)
        layout.addLayout(form)
        layout.addWidget(buttons)

    def changes(self) -> dict[str, Any]:
        """What stands in the fields, by the names in ``Settings``."""
        return {
            "context": self._context.value(),
            "temperature": round(self._temperature.value(), 1),
            "system": self._system.toPlainText().strip(),
            "theme": _THEMES[max(self._theme.checkedId(), 0)],
        }


_EXAMPLE_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "year": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
    },
    "required": ["name", "year", "tags"],
}


class SchemaDialog(QDialog):
    """The JSON schema that answers are to follow; empty for any JSON."""

    def __init__(self, parent: QWidget, schema: str) -> None:
        super().__init__(parent)
        self.setWindowTitle("JSON mode")
        self.resize(560, 480)
        self._editor = QPlainTextEdit(objectName="field")
        self._editor.setFont(code_font())
        self._editor.setPlainText(schema or json.dumps(_EXAMPLE_SCHEMA, indent=2))
        self._note = QLabel(wordWrap=True, objectName="muted")
        buttons = QDialogButtonBox(_BUTTONS.Cancel)
        self._ok = buttons.addButton("Answer as JSON", QDialogButtonBox.ButtonRole.AcceptRole)
        self._ok.setDefault(True)
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 16)
        layout.setSpacing(12)
        text = "Every answer will be JSON that follows this schema. Empty: any JSON object."
        layout.addWidget(QLabel(text, wordWrap=True))
        layout.addWidget(self._editor)
        layout.addWidget(self._note)
        layout.addWidget(buttons)
        self._editor.textChanged.connect(self._check)
        self._check()

    def schema(self) -> str:
        return self._editor.toPlainText().strip()

    def _check(self) -> None:
        problem = ""
        try:
            if self.schema() and not isinstance(json.loads(self.schema()), dict):
                problem = "A schema is an object, in braces."
        except ValueError as error:
            problem = f"Not JSON yet: {error}"
        self._note.setText(problem)
        self._ok.setEnabled(not problem)


class ShortcutsDialog(QDialog):
    """All shortcuts of the window."""

    def __init__(self, parent: QWidget, shortcuts: list[tuple[str, str]]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.resize(420, 0)
        rows = "".join(
            f"<tr><td width='150' style='padding: 4px 0'><b>{keys}</b></td>"
            f"<td style='padding: 4px 0'>{what}</td></tr>"
            for keys, what in shortcuts
        )
        text = Prose()
        text.show_html(f"<table cellspacing='0'>{rows}</table>")
        buttons = QDialogButtonBox(_BUTTONS.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(22, 18, 22, 16)
        layout.addWidget(text)
        layout.addWidget(buttons)
