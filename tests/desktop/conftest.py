"""Fixtures for desktop programs: an application without a display, and a heartbeat of its event loop."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def qt(unavailable: Callable[[str], None]) -> Any:
    """The application; tests run its event loop themselves."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        unavailable(f"PySide6 (pip install -r examples/desktop_chat/requirements.txt): {error}")
    application = QApplication.instance() or QApplication(["test"])
    application.setApplicationName("pyqwen-chat")
    application.setStyle("Fusion")
    return application


@pytest.fixture
def chat_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of examples/desktop_chat can be imported, as when the folder is run."""
    folder = EXAMPLES / "desktop_chat"
    monkeypatch.syspath_prepend(str(folder))
    yield
    for name in {path.stem for path in folder.glob("*.py")} & sys.modules.keys() - {"__main__"}:
        del sys.modules[name]


class Heartbeat:
    """How long the event loop did not come round since ``begin``: by the clock, and computing itself."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._gaps: list[tuple[float, float]] = []
        self._last = time.perf_counter(), time.thread_time()

    def beat(self) -> None:
        now = time.perf_counter(), time.thread_time()
        self._gaps.append((now[0] - self._last[0], now[1] - self._last[1]))
        self._last = now

    def check(self, what: str) -> None:
        """50 ms at most: of computing on any machine, by the clock on one that is not overloaded."""
        assert len(self._gaps) > 5, f"{what}: too short to be measured"
        wall, busy = (sorted(gaps)[-1] for gaps in zip(*self._gaps, strict=True))
        print(f"{what}: at most {wall * 1000:.0f} ms by the clock, {busy * 1000:.0f} ms computing")
        assert busy <= 0.05, f"{what}: the event loop was busy for {busy:.3f} s"
        if os.getloadavg()[0] <= (os.cpu_count() or 1):
            assert wall <= 0.05, f"{what}: the event loop stood still for {wall:.3f} s"


@pytest.fixture
def heartbeat() -> Heartbeat:
    return Heartbeat()


class Driver:
    """A window and what a user does with it."""

    def __init__(self, qt: Any, window: Any, heartbeat: Any) -> None:
        self.qt, self.window, self.heartbeat = qt, window, heartbeat

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            self.qt.processEvents()
            self.heartbeat.beat()
            time.sleep(0.002)
            assert time.monotonic() < end, "it does not happen"

    def until_idle(self) -> None:
        self.wait(lambda: not self.window._busy)
        self.qt.processEvents()  # what was added is shown now

    def roles(self) -> list[str]:
        return [entry.message["role"] for entry in self.window._entries]

    def last_answer(self) -> str:
        return str(self.window._entries[-1].message["content"])

    def problems(self) -> list[Any]:
        from conversation_view import _ProblemCard

        return [card for card in self.window.view.findChildren(_ProblemCard) if not card.isHidden()]


@pytest.fixture
def open_window(qt: Any, tmp_path: Path, heartbeat: Any) -> Iterator[Callable[..., Driver]]:
    """Open a window with a model, as often as needed, on the same data."""
    from window import Window

    opened: list[Driver] = []
    options = Window._options
    # A tiny model writes anything, and ends anywhere.
    Window._options = lambda self: {"ignore_eos": True, "seed": 1} | options(self)

    def open_(model: Path | str, **settings: Any) -> Driver:
        from settings import read_settings, save_settings

        place = tmp_path / "settings.ini"
        save_settings(place, dataclasses.replace(read_settings(place), **settings))
        driver = Driver(qt, Window(tmp_path, str(model)), heartbeat)
        opened.append(driver)
        window = driver.window
        window.show()
        driver.wait(lambda: window._busy or window._opened or driver.problems())
        return driver

    yield open_
    for driver in opened:
        driver.window.close()
    qt.processEvents()


@pytest.fixture
def long_winded(make_tiny_model: Callable[..., Path]) -> Path:
    """A model that has room for a long answer."""
    return make_tiny_model(context=32_768, seed=3)
