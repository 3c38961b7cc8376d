"""A chat for the desktop: ``python examples/desktop_chat``, after ``pip install pyside6-essentials``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from PySide6.QtCore import QStandardPaths
from PySide6.QtWidgets import QApplication
from window import Window


def main() -> int:
    parser = argparse.ArgumentParser(prog="desktop_chat", description="Chat with a local model.")
    parser.add_argument("-m", "--model", help="a name of the catalog, or a GGUF file")
    parser.add_argument("--data", type=Path, help="where chats and settings are kept")
    parser.add_argument(
        "--self-test", action="store_true", help="ask one question, and end: 0 if it was answered"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    application = QApplication(sys.argv[:1])
    application.setApplicationName("pyqwen-chat")
    application.setStyle("Fusion")  # the same on every desktop, and it takes the style sheet
    font = application.font()
    font.setPointSizeF(max(font.pointSizeF(), 10.5))
    application.setFont(font)
    places = QStandardPaths.StandardLocation
    data = options.data or Path(QStandardPaths.writableLocation(places.AppDataLocation))
    data.mkdir(parents=True, exist_ok=True)
    window = Window(data, options.model)
    window.show()
    if options.self_test:
        begin_self_test(window)
    return application.exec()


def begin_self_test(window: Window) -> None:
    """What shows that a frozen program has all it needs."""
    answers: list[object] = []

    def go_on() -> None:
        if answers or window.worker.is_loaded is False:
            window.close()
            QApplication.exit(0 if answers else 1)
        else:
            window.send("Hello")

    window.worker.said.connect(lambda message, _: answers.append(message))
    window.worker.failed.connect(
        lambda problem: print(problem.title, problem.text, file=sys.stderr)
    )
    window.worker.finished.connect(go_on)


if __name__ == "__main__":
    sys.exit(main())
