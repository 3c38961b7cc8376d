"""The parts of the PySide6 chat that need no window, and the program as a whole: started, frozen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.desktop, pytest.mark.usefixtures("chat_modules")]

TEXT = (Path(__file__).parent / "answer.md").read_text("utf-8")


@pytest.mark.parametrize("size", [1, 3, 17, 200])
def test_markdown_in_pieces_is_that_of_the_whole(size: int) -> None:
    from markdown_blocks import MarkdownBlocks

    plain = lambda code, language: f"[{language}]{code}"  # noqa: E731
    whole = MarkdownBlocks(plain)
    whole.update(TEXT)
    assert [part.code is None for part in whole.parts] == [True, False, True, False, True]
    assert "&lt;b&gt;2&lt;/b&gt;" in whole.parts[0].html
    pieces, text = MarkdownBlocks(plain), ""
    for i in range(0, len(TEXT), size):
        text += TEXT[i : i + size]
        before = list(pieces.parts)
        first = pieces.update(text)
        assert pieces.parts[:first] == before[:first]
    assert pieces.parts == whole.parts


def test_markdown_stays_quick() -> None:
    """A long answer costs no more per token at its end than at its beginning."""
    from markdown_blocks import MarkdownBlocks

    blocks, text = MarkdownBlocks(lambda code, _: code), ""
    times = []
    for i in range(400):
        text += f"Paragraph {i} of a long answer that goes on and on.\n\n"
        start = time.process_time()
        blocks.update(text)
        times.append(time.process_time() - start)
    assert sum(times[-100:]) < 6 * sum(times[:100])


def test_colors_of_code() -> None:
    from highlighting import color_spans, colored_html

    spans = color_spans('def f(x):\n    return "a"  # b\n', "python")
    assert spans[0][0] == (0, 3, "keyword")
    assert [kind for _, _, kind in spans[1]] == ["keyword", *["string"] * 3, "comment"]
    assert color_spans("x", "no such language") == [[]]
    colors = dict.fromkeys(("keyword", "operator", "number"), "#123")
    assert colored_html("a<b", "", colors) == "a&lt;b"


def test_tools() -> None:
    from tools import answer_call, calculate

    assert calculate("2 * (3 + sqrt(16)) ** 2") == 98
    for bad in ("__import__('os')", "a.b", "9 ** 9 ** 9", "'a' * 3"):
        with pytest.raises((ValueError, SyntaxError)):
            calculate(bad)
    call = SimpleNamespace(id="1", name="calculate", arguments={"expression": "1/0"}, error=None)
    answer = answer_call(call)
    assert answer["tool_call_id"] == "1"
    assert "ZeroDivisionError" in json.loads(answer["content"])["error"]


def _problems(stderr: str) -> list[str]:
    """What was said but for Qt's remarks about fonts: a tiny model writes in every script."""
    return [line for line in stderr.splitlines() if not line.startswith("qt.text.font")]


def test_started_by_one_command(tiny_model_path: Path, tmp_path: Path) -> None:
    """It starts, opens the model, answers, and ends when it is told to."""
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, EXAMPLES / "desktop_chat", "--self-test", "-m", tiny_model_path]
    done = subprocess.run(
        [*command, "--data", tmp_path / "data"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, _problems(done.stderr)) == (0, [])
    assert (tmp_path / "data" / "chats.db").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frozen(tiny_model_path: Path, tmp_path: Path) -> None:
    """PyInstaller makes a folder of it that runs in an empty home without a network."""
    pytest.importorskip("PyInstaller", reason="pip install pyinstaller")
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"]
    program = EXAMPLES / "desktop_chat" / "__main__.py"
    subprocess.run([*command, "--name", "chat", program], cwd=tmp_path, check=True, timeout=900)
    frozen = tmp_path / "elsewhere"
    shutil.move(tmp_path / "dist" / "chat", frozen)
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "HOME": str(home),
        "PATH": os.defpath,
        "LC_ALL": "C.UTF-8",
        "QT_QPA_PLATFORM": "offscreen",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [frozen / "chat", "--self-test", "-m", tiny_model_path],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (done.returncode, _problems(done.stderr)) == (0, [])
    assert list(home.rglob("chats.db"))
