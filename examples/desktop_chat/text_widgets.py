"""The two widgets that an answer is made of: prose, and code with its colors."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

from highlighting import Spans, color_spans
from PySide6.QtCore import QObject, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QGuiApplication, QSyntaxHighlighter, QTextCharFormat, QWheelEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QSizePolicy,
    QTextBrowser,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from theme import THEME, code_font

_HIGHLIGHTERS = ThreadPoolExecutor(1, "highlighting")


def prose_style() -> str:
    """CSS of the part that Qt's rich text knows."""
    c = THEME.colors
    mono = code_font().family()
    return f"""
    p, ul, ol, blockquote {{ margin-top: 0; margin-bottom: 9px; }}
    p, li {{ line-height: 122%; }}
    li {{ margin-bottom: 3px; }}
    table {{ margin-top: 2px; margin-bottom: 10px; }}
    td, th {{ background-color: {c.window}; padding: 5px 9px; }}
    h1, h2, h3, h4 {{ margin-top: 12px; margin-bottom: 6px; font-weight: 600; }}
    h1 {{ font-size: x-large; }} h2 {{ font-size: large; }} h3, h4 {{ font-size: medium; }}
    a {{ color: {c.accent}; }}
    code {{ font-family: '{mono}'; background-color: {c.code_background}; }}
    pre {{ font-family: '{mono}'; background-color: {c.code_background};
        line-height: 100%; margin: 4px 0 8px 0; }}
    blockquote {{ color: {c.muted}; margin-left: 12px; }}
    th {{ font-weight: 600; text-align: left; }}
    """


class Prose(QTextBrowser):
    """Rich text that is as high as it needs to be; whatever is around it scrolls."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._html = ""
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setOpenExternalLinks(True)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.viewport().setAutoFillBackground(False)
        self.document().setDocumentMargin(0)
        self.document().documentLayout().documentSizeChanged.connect(self._fit)
        THEME.changed.connect(self._show_again)

    def show_html(self, html: str) -> None:
        """Show markup; unlike ``setHtml`` it keeps to the theme when that changes."""
        self._html = html
        self.document().setDefaultStyleSheet(prose_style())
        self.setHtml(_with_table_frames(html))

    def show_plain(self, text: str) -> None:
        self.show_html(f'<div style="white-space: pre-wrap">{_escaped(text)}</div>')

    def ideal_width(self) -> int:
        """The width of the longest line, if none were broken."""
        copy = self.document().clone()
        copy.setTextWidth(-1)
        return math.ceil(copy.idealWidth()) + 4

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def _show_again(self) -> None:
        self.show_html(self._html)

    def _fit(self) -> None:
        self.setFixedHeight(max(1, math.ceil(self.document().size().height())))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _with_table_frames(html: str) -> str:
    # The background shines through between the cells; Qt draws no thin borders of its own.
    frame = f'<table border="0" cellspacing="1" bgcolor="{THEME.colors.border}">'
    return html.replace("<table>", frame)


class _Relay(QObject):
    """Brings what another thread made to the window's thread."""

    done = Signal(str, object)


class _Highlighter(QSyntaxHighlighter):
    """Puts colors on lines; what colors is found out on another thread, as that takes a while."""

    def __init__(self, editor: QPlainTextEdit) -> None:
        super().__init__(editor.document())
        self._spans: Spans = []
        self._wanted: tuple[str, str] | None = None
        self._busy = False
        self._relay = _Relay()
        self._relay.done.connect(self._take)
        THEME.changed.connect(self.rehighlight)

    def want(self, code: str, language: str) -> None:
        """Color this code as soon as the code before it is done."""
        self._wanted = (code, language)
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        if self._wanted is None:
            return
        (code, language), self._wanted, self._busy = self._wanted, None, True
        relay = self._relay

        def work() -> None:
            relay.done.emit(code, color_spans(code, language))

        _HIGHLIGHTERS.submit(work)

    def _take(self, code: str, spans: Spans) -> None:
        before, self._spans, self._busy = self._spans, spans, False
        for i, line in enumerate(spans):
            if i >= len(before) or before[i] != line:
                self.rehighlightBlock(self.document().findBlockByNumber(i))
        self._begin()

    def highlightBlock(self, text: str) -> None:
        number = self.currentBlock().blockNumber()
        if number >= len(self._spans):
            return
        for start, length, kind in self._spans[number]:
            look = QTextCharFormat()
            look.setForeground(QColor(THEME.colors.code[kind]))
            if kind == "comment":
                look.setFontItalic(True)
            self.setFormat(start, length, look)


class CodeBlock(QFrame):
    """Code with its language and a button that copies it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("code")
        self._code, self._language = "", ""
        self._name = QLabel(objectName="muted")
        small = self._name.font()
        small.setPointSizeF(small.pointSizeF() * 0.88)
        self._name.setFont(small)
        self._copy = QToolButton()
        self._copy.setToolTip("Copy this code")
        self._copy.clicked.connect(self._copy_code)
        self._editor = QPlainTextEdit(readOnly=True)
        self._editor.setFont(code_font())
        self._editor.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._editor.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._editor.document().setDocumentMargin(0)
        self._editor.wheelEvent = self._pass_wheel  # type: ignore[method-assign]
        self._highlighter = _Highlighter(self._editor)
        head = QHBoxLayout()
        head.setContentsMargins(14, 5, 6, 0)
        head.addWidget(self._name)
        head.addStretch()
        head.addWidget(self._copy)
        body = QVBoxLayout()
        body.setContentsMargins(14, 2, 8, 8)
        body.addWidget(self._editor)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(head)
        layout.addLayout(body)
        THEME.changed.connect(self._show_icon)
        self._show_icon()

    def show_code(self, code: str, language: str) -> None:
        """Show code; where it only grew, only what is new is put in."""
        if code.startswith(self._code) and self._code:
            cursor = self._editor.textCursor()
            cursor.movePosition(cursor.MoveOperation.End)
            cursor.insertText(code[len(self._code) :])
        elif code != self._code:
            self._editor.setPlainText(code)
        if (code, language) != (self._code, self._language):
            self._code, self._language = code, language
            self._name.setText(language or "text")
            self._highlighter.want(code, language)
        self._fit()

    def _fit(self) -> None:
        lines = self._editor.document().blockCount()
        height = math.ceil(lines * self._editor.fontMetrics().lineSpacing()) + 4
        longest = self._editor.document().idealWidth()
        if longest > self._editor.viewport().width() - 4:
            height += 12  # the bar below
        self._editor.setFixedHeight(height)

    def resizeEvent(self, event: object) -> None:
        self._fit()

    def sizeHint(self) -> QSize:
        return self.minimumSizeHint()

    def _pass_wheel(self, event: QWheelEvent) -> None:
        if abs(event.angleDelta().x()) > abs(event.angleDelta().y()):
            QPlainTextEdit.wheelEvent(self._editor, event)
        else:
            event.ignore()

    def _copy_code(self) -> None:
        QGuiApplication.clipboard().setText(self._code)
        self._copy.setIcon(THEME.icon("check", "accent"))
        QTimer.singleShot(1200, self._show_icon)

    def _show_icon(self) -> None:
        self._copy.setIcon(THEME.icon("copy"))
