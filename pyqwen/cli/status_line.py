"""A line of status below text that is being streamed to a terminal.

The text itself is written as it is: nothing is wrapped or repainted, so that it can be copied and
scrolled. Only the line under it is drawn and erased, with sequences that every VT100 knows.
"""

from __future__ import annotations

import os
import shutil
import sys

from pyqwen.cli.console import harmless

_ERASE_BELOW = "\x1b[J"
_MAKE_ROOM = "\x1bD\x1b[A"  # index (scrolls at the bottom, keeps the column), then up again
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class StatusLine:
    """Writes text to stdout, and a status under it if stdout is a terminal that can do that."""

    def __init__(self) -> None:
        dumb = os.environ.get("TERM", "") in ("", "dumb") and os.name != "nt"
        self._terminal = sys.stdout.isatty()
        self._enabled = self._terminal and not dumb
        self._column = 0
        self._shown = False

    def write(self, text: str, status: str) -> None:
        """Append text and put the status below it."""
        self._erase()
        sys.stdout.write(harmless(text) if self._terminal else text)
        self._draw(text, status)
        sys.stdout.flush()

    def close(self) -> None:
        """Erase the status and end the line of the text."""
        self._erase()
        if self._column:
            sys.stdout.write("\n")
        self._column = 0
        sys.stdout.flush()

    def _erase(self) -> None:
        if self._shown:
            sys.stdout.write(_ERASE_BELOW)
            self._shown = False

    def _draw(self, text: str, status: str) -> None:
        width = shutil.get_terminal_size().columns
        self._column = _advance(self._column, text, width)
        # In the last column a terminal waits with the line break; moving the cursor would cancel
        # it.
        if self._enabled and status and self._column < width:
            line = status[: width - 1]
            sys.stdout.write(f"{_MAKE_ROOM}{_SAVE}\r\n{_DIM}{line}{_PLAIN}{_RESTORE}")
            self._shown = True


def _advance(column: int, text: str, width: int) -> int:
    """The column of the cursor after ``text``; ``width`` if the next character begins a line."""
    from prompt_toolkit.utils import get_cwidth

    for character in text[text.rfind("\n") :] if "\n" in text else text:
        if character in "\r\n":
            column = 0
        elif character == "\t":
            column = min((column // 8 + 1) * 8, width - 1)
        else:
            cells = get_cwidth(character)
            column = column + cells if column + cells <= width else cells
    return column
