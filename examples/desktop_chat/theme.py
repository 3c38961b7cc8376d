"""How it looks: colors for light and dark, the style sheet made of them, and icons drawn from paths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from PySide6.QtCore import QByteArray, QObject, QSize, Qt, Signal
from PySide6.QtGui import QFont, QFontDatabase, QGuiApplication, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer


@dataclass(frozen=True)
class Colors:
    """The colors of one scheme; ``code`` is by the kinds in ``highlighting.py``."""

    window: str
    sidebar: str
    border: str
    text: str
    muted: str
    accent: str
    on_accent: str
    bubble: str
    code_background: str
    hover: str
    selected: str
    danger: str
    danger_background: str
    code: dict[str, str]


LIGHT = Colors(
    window="#ffffff",
    sidebar="#f6f6f8",
    border="#e3e3e8",
    text="#1d1d22",
    muted="#6b6b76",
    accent="#5a55d2",
    on_accent="#ffffff",
    bubble="#efeefb",
    code_background="#f7f7f9",
    hover="#ececf0",
    selected="#e4e3f5",
    danger="#b3261e",
    danger_background="#fdf0ef",
    code={
        "keyword": "#8a3ffc",
        "string": "#0f7b54",
        "number": "#b35900",
        "comment": "#7a7a86",
        "function": "#1a5fd0",
        "class": "#a3476b",
        "builtin": "#0a7590",
        "operator": "#5b5b66",
    },
)
DARK = Colors(
    window="#1c1c20",
    sidebar="#151518",
    border="#313138",
    text="#ececf1",
    muted="#9c9ca8",
    accent="#8f8bf4",
    on_accent="#16161a",
    bubble="#2d2c41",
    code_background="#141417",
    hover="#2a2a30",
    selected="#34334a",
    danger="#ff8a80",
    danger_background="#3a2020",
    code={
        "keyword": "#c09bff",
        "string": "#7fd6a8",
        "number": "#f0b27a",
        "comment": "#85858f",
        "function": "#83b4ff",
        "class": "#f09ab5",
        "builtin": "#6fd0e4",
        "operator": "#b4b4bf",
    },
)

# Paths on a grid of 24, drawn with a line of 1.8.
_ICONS = {
    "plus": "M12 5v14M5 12h14",
    "send": "M12 19V5M6 11l6-6 6 6",
    "stop": "M8 8h8v8H8z",
    "copy": "M9 9h10v10H9zM5 15V5h10",
    "check": "M5 12.5l4.5 4.5L19 7.5",
    "edit": "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
    "retry": "M20 12a8 8 0 1 1-2.3-5.7L20 8.5M20 4v4.5h-4.5",
    "trash": "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
    "settings": "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
    "moon": "M19 14.5A7.5 7.5 0 0 1 9.5 5 7.5 7.5 0 1 0 19 14.5z",
    "keyboard": "M3 7h18v10H3zM7 10.5h.1M11 10.5h.1M15 10.5h.1M18 10.5h.1M8 14h8",
    "braces": "M9 4C6 4 7 7 7 9s-1 3-3 3c2 0 3 1 3 3s-1 5 2 5M15 4c3 0 2 3 2 5s1 3 3 3c-2 0-3 1-3 3s1 5-2 5",
    "tools": "M14.5 6.5a4 4 0 0 0-5.3 5.2L4 17l3 3 5.300-5.200a4 4 0 0 0 5.200-5.300L15 12l-3-3z",
    "down": "M7 10l5 5 5-5",
    "panel": "M4 5h16v14H4zM10 5v14",
    "search": "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM20 20l-4.500-4.500",
}


def icon(name: str, color: str) -> QIcon:
    """One of the icons in a color, sharp at twice its size."""
    return QIcon(_pixmap(name, color))


@cache
def _pixmap(name: str, color: str) -> QPixmap:
    filled = color if name == "stop" else "none"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="{_ICONS[name]}" '
        f'fill="{filled}" stroke="{color}" stroke-width="1.8" stroke-linecap="round" '
        'stroke-linejoin="round"/></svg>'
    )
    pixmap = QPixmap(QSize(48, 48))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(svg.encode())).render(painter)
    painter.end()
    return pixmap


class Theme(QObject):
    """The scheme in use. ``changed`` tells widgets that paint by themselves."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.is_dark = False
        self.colors = LIGHT

    def apply(self, choice: str) -> None:
        """``"light"``, ``"dark"``, or ``"system"``, what the desktop says."""
        hints = QGuiApplication.styleHints()
        schemes = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}
        hints.setColorScheme(schemes.get(choice, Qt.ColorScheme.Unknown))
        self.is_dark = (
            choice == "dark" if choice in schemes else hints.colorScheme() == Qt.ColorScheme.Dark
        )
        self.colors = DARK if self.is_dark else LIGHT
        application = QGuiApplication.instance()
        application.setStyleSheet(style_sheet(self.colors))
        self.changed.emit()

    def icon(self, name: str, role: str = "muted") -> QIcon:
        """An icon in one of the scheme's colors."""
        return icon(name, getattr(self.colors, role))


THEME = Theme()


def code_font() -> QFont:
    """The desktop's font of fixed width, a little smaller than text."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPointSizeF(QGuiApplication.font().pointSizeF() * 0.95)
    return font


def style_sheet(c: Colors) -> str:
    """The whole look, for the application."""
    return f"""
    QWidget {{ color: {c.text}; }}
    QMainWindow, QDialog, #main, #column, QScrollArea, #scroll {{ background: {c.window}; }}
    QToolTip {{ background: {c.text}; color: {c.window}; border: 0; padding: 4px 7px; }}
    #sidebar {{ background: {c.sidebar}; border-right: 1px solid {c.border}; }}
    #sidebar QListWidget {{ background: transparent; border: 0; outline: 0; }}
    #sidebar QListWidget::item {{ padding: 8px 10px; border-radius: 8px; margin: 1px 0; }}
    #sidebar QListWidget::item:hover {{ background: {c.hover}; }}
    #sidebar QListWidget::item:selected {{ background: {c.selected}; color: {c.text}; }}
    #search, QSpinBox, QDoubleSpinBox, #field {{ padding: 6px 9px;
        background: {c.window}; border: 1px solid {c.border}; border-radius: 8px;
        selection-background-color: {c.accent}; selection-color: {c.on_accent}; }}
    #search:focus, QSpinBox:focus, QDoubleSpinBox:focus, #field:focus {{ border-color: {c.accent}; }}
    QSpinBox::up-button, QSpinBox::down-button, QDoubleSpinBox::up-button,
    QDoubleSpinBox::down-button {{ border: 0; width: 0; }}
    QPushButton {{ background: {c.window}; border: 1px solid {c.border}; border-radius: 8px;
        padding: 6px 14px; }}
    QPushButton:hover {{ background: {c.hover}; }}
    QPushButton:disabled {{ color: {c.muted}; }}
    QPushButton:default, QPushButton#primary {{ background: {c.accent}; color: {c.on_accent};
        border-color: {c.accent}; }}
    QPushButton:default:disabled, QPushButton#primary:disabled {{ background: {c.border};
        border-color: {c.border}; color: {c.muted}; }}
    QPushButton#new {{ text-align: left; padding: 8px 12px; font-weight: 600; }}
    QToolButton {{ border: 0; border-radius: 7px; padding: 5px; background: transparent;
        color: {c.muted}; }}
    QToolButton:hover {{ background: {c.hover}; color: {c.text}; }}
    QToolButton:checked {{ background: {c.selected}; color: {c.accent}; }}
    QToolButton:disabled {{ color: {c.muted}; }}
    QToolButton#chip {{ padding: 5px 10px; border: 1px solid {c.border}; border-radius: 14px; }}
    QToolButton#chip:checked {{ border-color: {c.accent}; }}
    QToolButton#go {{ background: {c.accent}; border-radius: 16px; padding: 6px; }}
    QToolButton#go:disabled {{ background: {c.border}; }}
    #composer {{ background: {c.window}; border: 1px solid {c.border}; border-radius: 18px; }}
    #composer[active="true"] {{ border-color: {c.accent}; }}
    #composer QPlainTextEdit {{ background: transparent; border: 0;
        selection-background-color: {c.accent}; selection-color: {c.on_accent}; }}
    QTextBrowser {{ background: transparent; border: 0;
        selection-background-color: {c.accent}; selection-color: {c.on_accent}; }}
    #bubble {{ background: {c.bubble}; border-radius: 16px; }}
    #code {{ background: {c.code_background}; border: 1px solid {c.border}; border-radius: 10px; }}
    #code QPlainTextEdit {{ background: transparent; border: 0;
        selection-background-color: {c.accent}; selection-color: {c.on_accent}; }}
    #card {{ background: {c.window}; border: 1px solid {c.border}; border-radius: 12px; }}
    #card:hover {{ background: {c.hover}; }}
    #tool {{ background: {c.code_background}; border: 1px solid {c.border}; border-radius: 10px; }}
    #problem {{ background: {c.danger_background}; border: 1px solid {c.danger};
        border-radius: 12px; }}
    #problem #title {{ color: {c.danger}; font-weight: 600; }}
    #muted {{ color: {c.muted}; }}
    #banner {{ background: {c.sidebar}; border-bottom: 1px solid {c.border}; }}
    QProgressBar {{ background: {c.border}; border: 0; border-radius: 3px; max-height: 6px; }}
    QProgressBar::chunk {{ background: {c.accent}; border-radius: 3px; }}
    QStatusBar {{ background: {c.sidebar}; border-top: 1px solid {c.border}; color: {c.muted}; }}
    QStatusBar::item {{ border: 0; }}
    QStatusBar QLabel {{ color: {c.muted}; padding: 3px 8px; }}
    QMenu {{ background: {c.window}; border: 1px solid {c.border}; padding: 5px; }}
    QMenu::item {{ padding: 6px 22px; border-radius: 6px; }}
    QMenu::item:selected {{ background: {c.selected}; }}
    QTreeWidget {{ background: {c.window}; border: 1px solid {c.border}; border-radius: 10px;
        outline: 0; }}
    QTreeWidget::item {{ padding: 7px 4px; }}
    QTreeWidget::item:selected {{ background: {c.selected}; color: {c.text}; }}
    QHeaderView::section {{ background: {c.window}; color: {c.muted}; border: 0; padding: 7px 4px;
        border-bottom: 1px solid {c.border}; }}
    QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
    QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 0; }}
    QScrollBar::handle {{ background: {c.border}; border-radius: 4px; margin: 1px; }}
    QScrollBar::handle:vertical {{ min-height: 30px; }}
    QScrollBar::handle:horizontal {{ min-width: 30px; }}
    QScrollBar::handle:hover {{ background: {c.muted}; }}
    QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
    QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
    """
