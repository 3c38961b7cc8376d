"""Conversations in session files: what was said, and what the model has read of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from pyqwen import Session

SUFFIX = ".session"
_MAGIC = b"PQSESS\r\n"


def add_session_option(parser: argparse.ArgumentParser) -> None:
    """``--session``, with which a conversation goes on another day."""
    parser.add_argument(
        "--session",
        type=Path,
        metavar="FILE",
        help="go on with the conversation in FILE, which is made if it is missing, and keep it there "
        "with what the model has read of it: nothing is read again next time",
    )


def is_session_file(path: Path) -> bool:
    """Whether a file begins as those of sessions do."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def load_conversation(session: Session, path: Path) -> dict[str, Any]:
    """Load a file into ``session``; return the messages and settings in it, unchecked."""
    from pyqwen.errors import SessionFileError

    session.load(path)
    if session.extra is None or "messages" not in session.extra:
        raise SessionFileError(f"{path} holds no conversation: a program made it of tokens alone")
    return session.extra


def save_conversation(
    session: Session, path: Path, messages: list[dict[str, Any]], settings: dict[str, Any]
) -> None:
    """Write ``session`` to a file, with the conversation that it has read."""
    session.extra = {"messages": messages, "settings": settings}
    session.save(path)
