"""Makes the pictures of examples/desktop_chat in this folder: a real conversation with Qwen2.5-Coder-1.5B.

    python docs/images/make_screenshots.py [MODEL]

No display is needed. The answers are greedy, so the same model says the same again.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(HERE.parents[1] / "examples" / "desktop_chat"))

from PySide6.QtWidgets import QApplication  # noqa: E402
from settings import Settings, save_settings  # noqa: E402
from window import Window  # noqa: E402

EARLIER = (
    "What is the difference between a mutex and a semaphore? One sentence.",
    "Write a friendly reply that moves a meeting to Thursday. Two sentences.",
    "Translate to French: The library opens at nine.",
)
QUESTION = (
    "What does Python's bisect module do? One sentence, then an example of five lines at most, then a "
    "table of bisect_left, bisect_right and insort."
)


def main() -> int:
    application = QApplication(sys.argv[:1])
    application.setStyle("Fusion")
    font = application.font()
    font.setFamilies(["Inter", "Noto Sans", *font.families()])
    font.setPointSizeF(10.5)
    application.setFont(font)

    def wait(condition: Callable[[], object]) -> None:
        while not condition():
            application.processEvents()
            time.sleep(0.005)

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(temperature=0.0, theme="light")
        save_settings(Path(folder) / "settings.ini", settings)
        window = Window(Path(folder), sys.argv[1] if len(sys.argv) > 1 else None)
        window.resize(1180, 990)
        window.show()
        wait(lambda: window._busy)
        wait(lambda: not window._busy)
        for question in (*EARLIER, QUESTION):
            window.new_chat()
            window.send(question)
            wait(lambda: not window._busy)
        for theme in ("light", "dark"):
            window._change_settings(theme=theme)
            end = time.monotonic() + 1
            wait(lambda end=end: time.monotonic() > end)
            bar = window.view.verticalScrollBar()
            bar.setValue(bar.maximum())
            window.composer.field.clearFocus()
            application.processEvents()
            window.grab().save(str(HERE / f"desktop-chat-{theme}.png"))
        window.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
