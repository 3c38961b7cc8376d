"""What the verbs share to talk to the person at the terminal.

Results go to stdout; everything else (messages, progress, statistics) goes to stderr, and progress
only if stderr is a terminal.
"""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class UsageError(Exception):
    """The command line is wrong: exit code 2."""


def say(line: str) -> None:
    """Print a message for the person, not part of the result."""
    print(line, file=sys.stderr, flush=True)


# Control characters except tab and newline, as the pictures that Unicode has for them.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def harmless(text: str) -> str:
    """Text from a file or a model without what a terminal would obey."""
    return text.translate(_PICTURES)


def print_json(value: Any) -> None:
    """Print a result for a program."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def counted(number: int, noun: str) -> str:
    """``1 model``, ``2 models``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def print_table(rows: list[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """Print left-aligned columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


class ProgressBar:
    """A bar on stderr, from the first update until it is closed; nothing if that is no terminal."""

    def __init__(
        self,
        what: str,
        unit: Literal["bytes", "tokens", "tests", "chunks", "rows", "texts", "%"],
    ) -> None:
        self._what = what
        self._unit = unit
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def update(self, done: int, total: int, what: str | None = None) -> None:
        """Show how much is done; any thread may call this."""
        is_over = self._bar is None and done >= total  # too quick to be worth a bar
        if is_over or not sys.stderr.isatty():
            return
        if self._bar is None:
            self._bar = _make_bar(self._unit)
            self._task = self._bar.add_task(what or self._what, total=total)
            self._bar.start()
        assert self._task is not None
        self._bar.update(self._task, completed=done, total=total, description=what or self._what)

    def say(self, line: str) -> None:
        """Print a message where the bar stands; the bar would wrap it, and break paths in it."""
        self.close()
        say(line)

    def close(self) -> None:
        """Remove the bar; a later update shows a new one."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _make_bar(unit: str) -> Progress:
    from rich import progress
    from rich.console import Console

    amount: progress.ProgressColumn
    speed: progress.ProgressColumn
    if unit == "bytes":
        amount, speed = progress.DownloadColumn(), progress.TransferSpeedColumn()
    elif unit == "%":
        amount, speed = progress.TaskProgressColumn(), progress.TextColumn("")
    else:
        amount = progress.MofNCompleteColumn()
        speed = progress.TextColumn(unit)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        amount,
        speed,
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
