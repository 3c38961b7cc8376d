"""The list of conversations at the left, with a search field."""

from __future__ import annotations

from message_view import IconButton
from PySide6.QtCore import QPoint, QSize, Qt, Signal
from PySide6.QtWidgets import (
    QHBoxLayout,
    QInputDialog,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from theme import THEME

_ID = Qt.ItemDataRole.UserRole


class Sidebar(QWidget):
    """Shows titles; what happens to conversations is the window's."""

    chosen = Signal(int)
    searched = Signal(str)
    rename_requested = Signal(int, str)
    delete_requested = Signal(int)
    new_requested = Signal()
    action_requested = Signal(str)

    def __init__(self) -> None:
        super().__init__(objectName="sidebar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setFixedWidth(264)
        new = QPushButton("  New chat", objectName="new")
        new.setIconSize(QSize(16, 16))
        new.clicked.connect(self.new_requested)
        self._new = new
        THEME.changed.connect(self._show_icon)
        self._show_icon()
        self.search = QLineEdit(placeholderText="Search chats", objectName="search")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self.searched)
        self._list = QListWidget()
        self._list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self._list.customContextMenuRequested.connect(self._show_menu)
        self._list.currentItemChanged.connect(self._on_current)
        below = QHBoxLayout()
        for name, action, tip in (
            ("settings", "settings", "Settings (Ctrl+,)"),
            ("moon", "dark_mode", "Dark or light (Ctrl+Shift+D)"),
            ("keyboard", "shortcuts", "Keyboard shortcuts (F1)"),
        ):
            button = IconButton(name, tip, 18)
            button.clicked.connect(lambda _=False, a=action: self.action_requested.emit(a))
            below.addWidget(button)
        below.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(12, 12, 12, 8)
        layout.setSpacing(10)
        layout.addWidget(new)
        layout.addWidget(self.search)
        layout.addWidget(self._list, 1)
        layout.addLayout(below)

    def show_conversations(self, rows: list[tuple[int, str]], current: int | None) -> None:
        """Show ids and titles, and which one is open."""
        self._list.blockSignals(True)
        self._list.clear()
        for number, title in rows:
            item = QListWidgetItem(title)
            item.setData(_ID, number)
            item.setToolTip(title)
            self._list.addItem(item)
            if number == current:
                self._list.setCurrentItem(item)
        self._list.blockSignals(False)

    def _show_icon(self) -> None:
        self._new.setIcon(THEME.icon("plus", "text"))

    def step(self, by: int) -> None:
        """Go to the conversation below or above."""
        row = self._list.currentRow() + by if self._list.currentRow() >= 0 else 0
        if 0 <= row < self._list.count():
            self._list.setCurrentRow(row)

    def _on_current(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.chosen.emit(item.data(_ID))

    def _show_menu(self, place: QPoint) -> None:
        item = self._list.itemAt(place)
        if item is None:
            return
        number, title = item.data(_ID), item.text()
        menu = QMenu(self)
        rename, delete = menu.addAction("Rename …"), menu.addAction("Delete")
        choice = menu.exec(self._list.mapToGlobal(place))
        if choice is rename:
            text, ok = QInputDialog.getText(self, "Rename", "Title", text=title)
            if ok and text.strip():
                self.rename_requested.emit(number, text.strip())
        elif choice is delete:
            self.delete_requested.emit(number)
