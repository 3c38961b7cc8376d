"""At a terminal: progress, Ctrl-C, and a chat typed by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

import pty
import select

LONG_PROMPT = "the sea and the shells " * 2000
SECONDS = 60  # for what takes one


class Terminal:
    """The other side of a pseudo-terminal: types keys and reads what is shown."""

    def __init__(self) -> None:
        self._master, self.device = pty.openpty()
        self.shown = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str) -> None:
        """Read until ``pattern`` is shown, and forget everything up to its end."""
        deadline = time.monotonic() + SECONDS
        while (found := re.search(pattern, self.shown)) is None:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(left, 0))
            assert ready, f"{pattern!r} was not shown: {self.shown[-500:]!r}"
            self.shown += os.read(self._master, 65536).decode("utf-8", "replace")
        self.shown = self.shown[found.end() :]

    def close(self) -> None:
        os.close(self._master)
        os.close(self.device)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["run", "-m", "MODEL", "-"], "reading"),
        (["perplexity", "MODEL", "-f", "-", "-c", "1024"], "loading|reading"),
        (["bench", "-m", "MODEL", "-p", "8192", "-n", "0"], "measuring"),
    ],
    ids=["run", "perplexity", "bench"],
)
def test_ctrl_c_ends_a_long_prompt_at_once(
    start, slow_model_path: Path, slow_environment, terminal: Terminal, argv: list[str], shown: str
) -> None:
    argv = [str(slow_model_path) if argument == "MODEL" else argument for argument in argv]
    process = start(
        *argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=terminal.device,
        env=slow_environment | {"TERM": "xterm"},
    )
    process.stdin.write(LONG_PROMPT.encode())
    process.stdin.close()
    terminal.wait_for(shown)
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == -signal.SIGINT
    assert time.monotonic() - begun < 2  # 0.1 s to cancel, the rest to end the process
    assert process.stdout.read() == b""
    assert "Traceback" not in terminal.shown


def test_a_chat_by_hand(start, slow_model_path: Path, terminal: Terminal) -> None:
    """Ctrl-C stops the answer, not the program; Ctrl-D leaves; the messages are remembered."""
    process = start(
        "chat",
        "-m",
        slow_model_path,
        "--temp",
        "0",
        stdin=terminal.device,
        stdout=terminal.device,
        stderr=terminal.device,
        start_new_session=True,
        preexec_fn=terminal_of_the_process,
        env=os.environ
        | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "PYQWEN_ISA": "scalar", "COLUMNS": "80"},
    )
    terminal.wait_for("a message, or /help")
    terminal.type("Tell me a story\r")
    terminal.wait_for(r"tokens/s")
    terminal.type("\x03")
    terminal.wait_for(r"\(stopped\)")
    terminal.wait_for("a message, or /help")
    terminal.type("/stats\r")
    terminal.wait_for(r"answer \d+ tokens.*stopped")
    terminal.wait_for("a message, or /help")
    terminal.type("half a line\x03")
    terminal.wait_for("leaves")
    terminal.wait_for("a message, or /help")
    terminal.type("\x04")
    assert process.wait(SECONDS) == 0
    history = Path(os.environ["PYQWEN_CACHE"], "chat_history")
    assert "Tell me a story" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_a_stopped_answer_is_remembered_as_shown(
    start, slow_model_path: Path, terminal: Terminal, tmp_path: Path
) -> None:
    """And a chat whose messages cannot be kept for the next time says so, and goes on."""
    (tmp_path / "in the way").write_text("")
    process = start(
        "chat",
        "-m",
        slow_model_path,
        "--temp",
        "0",
        stdin=terminal.device,
        stdout=subprocess.PIPE,
        stderr=terminal.device,
        start_new_session=True,
        preexec_fn=terminal_of_the_process,
        env=os.environ
        | {
            "TERM": "xterm",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "PYQWEN_ISA": "scalar",
            "PYQWEN_CACHE": str(tmp_path / "in the way"),
        },
    )
    terminal.wait_for("are not kept for the next time: .*in the way")
    terminal.type("Tell me a story\r")
    shown = process.stdout.read1()  # up to the prompt and from there the answer
    while len(shown) < 500:
        shown += process.stdout.read1()
    terminal.type("\x03")
    terminal.wait_for(r"\(stopped\)")
    terminal.type("/save talk.json\r")
    terminal.wait_for("2 messages saved")
    terminal.type("/bye\r")
    shown += process.stdout.read()
    assert process.wait(SECONDS) == 0
    _, answer = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert answer["content"] in shown.decode()


def terminal_of_the_process() -> None:
    """Make the pseudo-terminal at stdin the one whose Ctrl-C interrupts this process."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
