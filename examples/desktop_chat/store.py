"""Conversations in SQLite. Knows nothing of Qt or of models; used by the window's thread alone.

A message is kept as pyqwen takes and gives it, ``token_ids`` and tool calls included, so that a
conversation that is opened again next week makes the same prompt. ``info`` is what is shown beside it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversation (
    id INTEGER PRIMARY KEY, title TEXT NOT NULL, updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY, message TEXT NOT NULL, info TEXT NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversation(id) ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS message_of ON message(conversation, id);
"""


@dataclass
class Entry:
    """One message of a conversation: what the model sees, and what is told about it."""

    message: dict[str, Any]
    info: dict[str, Any] = field(default_factory=dict)
    id: int = 0


class Store:
    """An open database; close it."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path)
        # Written ahead and not waited for: a crash of the machine loses seconds, never the file.
        self._db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;" + _SCHEMA
        )

    def close(self) -> None:
        self._db.close()

    def conversations(self, containing: str = "") -> list[tuple[int, str]]:
        """Ids and titles, the latest first; with a text only those where it occurs."""
        pattern = (
            "%" + containing.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
        )
        rows = self._db.execute(
            r"""SELECT id, title FROM conversation AS c
                WHERE title LIKE ?1 ESCAPE '\' OR EXISTS (
                    SELECT 1 FROM message WHERE conversation = c.id
                    AND json_extract(message, '$.content') LIKE ?1 ESCAPE '\')
                ORDER BY updated DESC, id DESC""",
            (pattern,),
        )
        return [(int(number), str(title)) for number, title in rows]

    def create(self, title: str) -> int:
        """Begin a conversation; return its id."""
        with self._db:
            row = self._db.execute(
                "INSERT INTO conversation (title, updated) VALUES (?, ?)", (title, time.time())
            )
        return int(row.lastrowid or 0)

    def rename(self, conversation: int, title: str) -> None:
        with self._db:
            self._db.execute(
                "UPDATE conversation SET title = ? WHERE id = ?", (title, conversation)
            )

    def delete(self, conversation: int) -> None:
        with self._db:
            self._db.execute("DELETE FROM conversation WHERE id = ?", (conversation,))

    def messages(self, conversation: int) -> list[Entry]:
        rows = self._db.execute(
            "SELECT message, info, id FROM message WHERE conversation = ? ORDER BY id",
            (conversation,),
        )
        return [
            Entry(json.loads(message), json.loads(info), number) for message, info, number in rows
        ]

    def add(self, conversation: int, entry: Entry) -> Entry:
        """Append a message; the entry gets its id."""
        with self._db:
            row = self._db.execute(
                "INSERT INTO message (message, info, conversation) VALUES (?, ?, ?)",
                (_json(entry.message), _json(entry.info), conversation),
            )
            self._db.execute(
                "UPDATE conversation SET updated = ? WHERE id = ?", (time.time(), conversation)
            )
        entry.id = int(row.lastrowid or 0)
        return entry

    def cut(self, conversation: int, first: int) -> None:
        """Delete the messages from id ``first`` on: before an edited or regenerated one."""
        with self._db:
            self._db.execute(
                "DELETE FROM message WHERE conversation = ? AND id >= ?", (conversation, first)
            )


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
