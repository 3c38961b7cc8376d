"""Tells PyInstaller where the hook for pyqwen is (the entry point ``pyinstaller40``)."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """Return the folders with hooks."""
    return [str(Path(__file__).parent)]
