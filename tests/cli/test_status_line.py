"""How an answer looks in a terminal, as an emulator shows it."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable

import pyte
import pytest

from pyqwen.cli.status_line import StatusLine

WIDTH = 20


class Screen(io.StringIO):
    """A terminal as stdout."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.Screen(WIDTH, 12)
        self.screen.set_mode(pyte.modes.LNM)  # as a terminal driver does with newlines
        self._stream = pyte.Stream(self.screen)

    def write(self, text: str) -> int:
        self._stream.feed(text)
        return len(text)

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]


Show = Callable[[str, int, str], tuple[list[str], list[str]]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """``show(text, size, status)``: the screen before and after the end, written ``size`` at a time."""

    def show(text: str, size: int, status: str = "") -> tuple[list[str], list[str]]:
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((WIDTH, 12)))
        line = StatusLine()
        for start in range(0, len(text), size):
            line.write(text[start : start + size], status)
        before = screen.lines
        line.close()
        return before, screen.lines

    return show


TEXT = "The quick brown fox jumps over the extraordinarily lazy dog, 12345678901 234567 x."
WRAPPED = [
    "The quick brown fox",
    "jumps over the",
    "extraordinarily lazy",
    "dog, 12345678901",
    "234567 x.",
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize("status", ["", "9.9 tokens/s"])
def test_lines_break_between_words(show: Show, size: int, status: str) -> None:
    before, after = show(TEXT, size, status)
    assert before[: len(WRAPPED) + 1] == [*WRAPPED, status]
    assert after[: len(WRAPPED) + 1] == [*WRAPPED, ""]


@pytest.mark.parametrize("size", [1, 4, 100])
def test_a_word_longer_than_the_line_is_cut_by_the_terminal(show: Show, size: int) -> None:
    _, lines = show("a " + "x" * 50, size)
    assert "".join(lines).replace(" ", "") == "a" + "x" * 50


@pytest.mark.parametrize("size", [1, 3, 100])
def test_code_is_left_as_it_is(show: Show, size: int) -> None:
    code = "for x in a_list_of_names: pass"
    text = f"Look:\n```python\n{code}\n```\nAll of this was code."
    _, lines = show(text, size, "1 token/s")
    assert lines[2] + lines[3] == code
    assert lines[5:7] == ["All of this was", "code."]


@pytest.mark.parametrize("size", [1, 100])
def test_wide_characters_count_twice(show: Show, size: int) -> None:
    _, lines = show("ab 漢字漢字漢字漢字漢 字漢字", size)
    rows = ["".join(row.split()) for row in lines if row]
    assert rows == ["ab", "漢字漢字漢字漢字漢", "字漢字"]
