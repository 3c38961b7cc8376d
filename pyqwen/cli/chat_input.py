"""Where the messages of ``pyqwen chat`` come from: a person at a terminal, or lines of a pipe.

A message is one line, unless it ends with a backslash (then the next line belongs to it) or begins
with three quotes (then it goes on to the closing ones).
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyqwen.cli.console import say
from pyqwen.cli.inputs import decode_utf8

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_QUOTES = '"""'
_LEAVE_HINT = "(Ctrl-D or /bye leaves)"


def is_complete(text: str) -> bool:
    """Whether nothing of the message is missing."""
    if text.lstrip().startswith(_QUOTES):
        body = text.strip()
        return len(body) >= 2 * len(_QUOTES) and body.endswith(_QUOTES)
    return not text.endswith("\\")


def unquote(text: str) -> str:
    """The message without quotes around it, else unchanged: it may be pasted code."""
    body = text.strip()
    if body.startswith(_QUOTES):
        return body.removeprefix(_QUOTES).removesuffix(_QUOTES).strip("\n")
    return text.rstrip()


class Message(NamedTuple):
    """What was typed, without quotes around it; a quoted text is never a command."""

    text: str
    is_command: bool


def ask(question: str) -> str:
    """Ask the person at the terminal one thing; leaving the question is no."""
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession()
    try:
        return session.prompt(question)
    except (KeyboardInterrupt, EOFError):
        return "no"


def read_messages(history: Path | None) -> Iterator[Message]:
    """Yield the messages until the end of the input; empty ones are left out.

    ``history`` is the file where those that are typed are kept, or None.
    """
    texts = _ask(history) if sys.stdin.isatty() else _read_pipe()
    for text in texts:
        if message := unquote(text):
            yield Message(message, text.startswith("/"))


def _read_pipe() -> Iterator[str]:
    text = ""
    for number, line in enumerate(sys.stdin.buffer, 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        text += decode_utf8(line, f"line {number:,} of standard input").rstrip("\r\n")
        if is_complete(text):
            yield text
            text = ""
        else:
            text = text.removesuffix("\\") + "\n"
    if text:
        yield text


def _ask(history: Path | None) -> Iterator[str]:
    session = _make_session(history)
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            print(_LEAVE_HINT)
        except EOFError:
            return


def _make_session(history: Path | None) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.formatted_text import HTML

    return PromptSession(
        message=HTML("<ansigreen><b>&gt;&gt;&gt; </b></ansigreen>"),
        prompt_continuation="... ",
        history=_open_history(history),
        multiline=True,
        key_bindings=_bindings(),
        placeholder=HTML("<ansibrightblack>a message, or /help</ansibrightblack>"),
    )


def _open_history(path: Path | None) -> History:
    """The messages of earlier chats; where they cannot or may not be kept, those of this one."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        path.touch(mode=0o600)
        path.open("r+b").close()
        if is_new:
            say(f"what you type is kept for the next time, in {path} (--no-history: it is not)")
    except OSError as error:
        say(f"your messages are not kept for the next time: {path}: {error.strerror}")
        return InMemoryHistory()
    return FileHistory(str(path))


@contextmanager
def keys_unseen() -> Iterator[None]:
    """Keep what is typed now for the next message, instead of showing it in the middle of an answer."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    without_echo = [*before]
    without_echo[3] &= ~termios.ECHO
    try:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, without_echo)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _bindings() -> KeyBindings:
    """Enter sends what is complete; Alt-Enter, or Enter in an incomplete message, begins a line."""
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    def _send_or_continue(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_complete(buffer.text):
            buffer.validate_and_handle()
            return
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
        buffer.insert_text("\n")

    @bindings.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings
