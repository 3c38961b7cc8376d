"""What the user set, and where it is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from PySide6.QtCore import QSettings


@dataclass
class Settings:
    """``temperature`` below 0 leaves it to what the model recommends."""

    context: int = 8192
    temperature: float = -1.0
    system: str = ""
    theme: str = "system"
    model: str = ""
    schema: str = ""


def read_settings(path: Path) -> Settings:
    """The settings of a file; what is not there, or not right, is as if nothing had been set."""
    kept, settings = QSettings(str(path), QSettings.Format.IniFormat), Settings()
    for field in fields(Settings):
        plain = getattr(settings, field.name)
        try:
            setattr(settings, field.name, type(plain)(kept.value(field.name, plain)))
        except (TypeError, ValueError):  # somebody wrote into the file
            continue
    return settings


def save_settings(path: Path, settings: Settings) -> None:
    kept = QSettings(str(path), QSettings.Format.IniFormat)
    for name, value in asdict(settings).items():
        kept.setValue(name, value)
