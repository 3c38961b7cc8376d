"""An answer that is streamed to a terminal: lines broken between words, a line of status below.

A word that turns out too long for its line is erased and begun again on the next one; code between
fences is left to the terminal, so that it can be copied. The status is drawn and erased with
sequences that every VT100 knows.
"""

from __future__ import annotations

import os
import re
import shutil
import sys

from pyqwen.cli.console import harmless

_ERASE_BELOW = "\x1b[J"
_MAKE_ROOM = "\x1bD\x1b[A"  # index (scrolls at the bottom, keeps the column), then up again
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_PIECES = re.compile(r"\s+|\S+")
_FENCE = "```"


class StatusLine:
    """Writes text to stdout, and a status under it if stdout is a terminal that can do that."""

    def __init__(self) -> None:
        dumb = os.environ.get("TERM", "") in ("", "dumb") and os.name != "nt"
        self._terminal = sys.stdout.isatty()
        self._enabled = self._terminal and not dumb
        self._column = 0
        self._word = ""  # the last word of the line, which may go on
        self._line = ""  # the line of the text, as it came
        self._is_code = False
        self._shown = False

    def write(self, text: str, status: str) -> None:
        """Append text and put the status below it."""
        self._erase()
        width = shutil.get_terminal_size().columns
        text = harmless(text) if self._terminal else text
        for piece in _PIECES.findall(text) if self._enabled else (text,):
            self._write_piece(piece, width)
        self._draw(status, width)
        sys.stdout.flush()

    def close(self) -> None:
        """Erase the status and end the line of the text."""
        self._erase()
        if self._column:
            sys.stdout.write("\n")
        self._column = 0
        self._word = self._line = ""
        sys.stdout.flush()

    def _erase(self) -> None:
        if self._shown:
            sys.stdout.write(_ERASE_BELOW)
            self._shown = False

    def _write_piece(self, piece: str, width: int) -> None:
        """Write a part of a word, or what separates words."""
        if piece.isspace():
            self._word = ""
            if self._enabled and "\n" not in piece and self._column >= width:
                return  # the next line begins with a word
        else:
            self._break_line_before(piece, width)
            self._word += piece
        sys.stdout.write(piece)
        self._column = _advance(self._column, piece, width)
        self._note_fence(piece)

    def _break_line_before(self, piece: str, width: int) -> None:
        """Take the word that ``piece`` ends to the next line, if it fits there and not here."""
        if not self._enabled or self._is_code or self._line.startswith(_FENCE):
            return
        begun = _cells(self._word)
        whole = begun + _cells(piece)
        is_first = self._column <= begun
        if self._column + whole - begun > width and whole <= width and not is_first:
            back = f"\x1b[{begun}D" if begun else ""
            # In the last column the cursor waits on its cell, and one step back is too many.
            if begun and self._column == width:
                back = f"\x1b[{begun - 1}D" if begun > 1 else ""
            sys.stdout.write(f"{back}{_ERASE_BELOW}\n{self._word}")
            self._column = begun

    def _note_fence(self, piece: str) -> None:
        """Know whether the text is inside a fenced block of code."""
        for line_end in piece.splitlines(keepends=True):
            self._line += line_end
            if line_end.endswith(("\n", "\r")):
                if self._line.lstrip().startswith(_FENCE):
                    self._is_code = not self._is_code
                self._line = ""

    def _draw(self, status: str, width: int) -> None:
        # In the last column a terminal waits with the line break; moving the cursor would cancel
        # it.
        if self._enabled and status and self._column < width:
            line = status[: width - 1]
            sys.stdout.write(f"{_MAKE_ROOM}{_SAVE}\r\n{_DIM}{line}{_PLAIN}{_RESTORE}")
            self._shown = True


def _cells(text: str) -> int:
    """How many columns a text takes."""
    from prompt_toolkit.utils import get_cwidth

    return get_cwidth(text)


def _advance(column: int, text: str, width: int) -> int:
    """The column of the cursor after ``text``; ``width`` if the next character begins a line."""
    for character in text[text.rfind("\n") :] if "\n" in text else text:
        if character in "\r\n":
            column = 0
        elif character == "\t":
            column = min((column // 8 + 1) * 8, width - 1)
        else:
            cells = _cells(character)
            column = column + cells if column + cells <= width else cells
    return column
