"""The smaller programs of examples/: the Tk chat in a window, the table extractor as a command."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.desktop


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def display(unavailable: Callable[[str], None]) -> Iterator[str]:
    """A virtual display; Tk has no other way to do without one."""
    if shutil.which("Xvfb") is None:
        unavailable("Xvfb (apt install xvfb)")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as numbers:
        number = numbers.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait(10)


@pytest.fixture
def tk_window(display: str, unavailable: Callable[[str], None]) -> Iterator[Any]:
    try:
        import tkinter
    except ImportError:
        unavailable("tkinter (apt install python3-tk)")
    root = tkinter.Tk(display)
    yield root
    with suppress(tkinter.TclError):  # the program has done it
        root.destroy()


class Driver:
    """What a user of the Tk chat does and sees."""

    def __init__(self, chat: Any, heartbeat: Any) -> None:
        self.chat, self.heartbeat = chat, heartbeat

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            self.chat.root.update()
            self.heartbeat.beat()
            time.sleep(0.002)
            assert time.monotonic() < end, "it does not happen"

    def seen(self) -> str:
        return str(self.chat.view.get("1.0", "end")).strip()

    def ask(self, text: str) -> None:
        self.chat.entry.insert("1.0", text)
        self.chat.send_or_stop()


@pytest.mark.smollm
def test_tk_chat(tk_window: Any, smollm_path: Path, heartbeat: Any) -> None:
    chat = load_example("tk_chat").Chat(tk_window, str(smollm_path))
    driver = Driver(chat, heartbeat)
    tk_window.update()  # fonts, once
    heartbeat.begin()
    driver.wait(lambda: not chat.busy)
    heartbeat.check("Tk, loading")
    assert "is ready" in chat.status["text"]
    driver.ask("Tell me a long story.")
    heartbeat.begin()
    driver.wait(lambda: len(driver.seen()) > 400)
    heartbeat.check("Tk, streaming")
    start = time.monotonic()
    chat.send_or_stop()
    driver.wait(lambda: not chat.busy)
    assert time.monotonic() - start < 1.0
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]
    assert driver.seen().endswith(chat.messages[-1]["content"].strip())
    assert "tokens/s" in chat.status["text"]
    chat.new_chat()
    assert driver.seen() == ""
    driver.ask("word " * 9000)  # SmolLM2 was trained for 8,192 tokens
    driver.wait(lambda: not chat.busy)
    assert "do not fit the context" in driver.seen()
    chat.new_chat()
    driver.ask("Hello")
    driver.wait(lambda: len(driver.seen()) > 10)
    start = time.monotonic()
    chat.close()  # in the middle of an answer
    assert time.monotonic() - start < 2.0
    assert chat.model.closed


def test_tk_chat_is_small_and_needs_nothing_else() -> None:
    text = (EXAMPLES / "tk_chat.py").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    imported = {
        line.split()[1].partition(".")[0]
        for line in text.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported - {"pyqwen"} <= sys.stdlib_module_names


def test_tk_chat_starts_by_one_command(display: str, tiny_model_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "tk_chat.py", tiny_model_path]
    environment = os.environ | {"DISPLAY": display}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as program:
        time.sleep(4)
        assert program.poll() is None, program.communicate()[1]
        program.terminate()
        program.wait(10)


def extract(model: Path, columns: str, *arguments: Any, text: str = "") -> list[dict[str, str]]:
    command = [
        sys.executable,
        EXAMPLES / "extract_table.py",
        "-m",
        model,
        "-c",
        columns,
        *arguments,
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


TEXT = """\
Acme Ltd of London owes us 1,200 euros since March and has not paid. On Tuesday Borealis AS from Oslo
paid its invoice of 350.50 euros.

The letter from Canto SA (Lisbon) says that they will pay 99 euros next week.
"""


@pytest.mark.qwen
def test_a_table_from_text(qwen_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "letters.txt"
    file.write_text(TEXT)
    rows = extract(qwen_path, "company, city, amount:number, state:paid|open", file)
    assert [row["city"] for row in rows] == ["London", "Oslo", "Lisbon"]
    assert [float(row["amount"]) for row in rows] == [1200, 350.5, 99]
    assert rows[1]["state"] == "paid"


def test_the_table_of_any_model_has_its_columns(tiny_model_path: Path) -> None:
    """A model that knows nothing still writes rows of the schema, or is cut off and says so."""
    command = [
        sys.executable,
        EXAMPLES / "extract_table.py",
        "-m",
        tiny_model_path,
        "-c",
        "a,b:integer",
    ]
    done = subprocess.run(command, input="Some text.", capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "a,b"
    assert done.stderr in ("", "a piece has more rows than fit the context; some are missing\n")


def test_wrong_columns_and_files(tiny_model_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "extract_table.py", "-m", tiny_model_path]
    for arguments, code, said in (
        (["-c", "a:text"], 2, "types are string"),
        (["-c", "a", "no such file"], 1, "no such file"),
    ):
        done = subprocess.run(
            [*command, *arguments], input="", capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code
        assert said in done.stderr
        assert "Traceback" not in done.stderr
