"""Answers that a session holds afterwards: an open one, or one in a file that is loaded before and saved."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

from pyqwen.engine.session import Session
from pyqwen.os_errors import raising_file_errors
from pyqwen.results import ChatCompletion, Completion

if TYPE_CHECKING:
    from pyqwen.engine.request import Generation

Messages = Sequence[Mapping[str, Any]]


def checked_session(options: Mapping[str, Any]) -> Session | Path | None:
    """The option ``session``; ``TypeError`` where it cannot be."""
    session = options.get("session")
    if session is None or isinstance(session, Session):
        return session
    if not isinstance(session, str | os.PathLike):
        kind = type(session).__name__
        raise TypeError(f"session must be a Session or the path of a file, not {kind}")
    return Path(session)


def use_session(
    request: Generation,
    session: Session | Path,
    open_session: Callable[[], Session],
    messages: Messages | None,
) -> None:
    """Let ``session``, for a file one that is opened here, hold what ``request`` reads and writes.

    The file gets the ``messages`` of a chat, too, and its answer.
    """
    if isinstance(session, Session):
        session.use_for(request)
    else:
        _InFile(request, session, open_session(), messages).prepare(request)


class _InFile:
    """Loads a file before a request begins, and saves it when the answer is complete."""

    def __init__(
        self, request: Generation, path: Path, session: Session, messages: Messages | None
    ) -> None:
        self._path, self._session, self._messages = path, session, messages
        self._request_preparation, self._request_conclusion = (
            request.preparation,
            request.conclusion,
        )
        self._request = ref(request)  # which has this object
        self._guard = threading.Lock()

    @raising_file_errors
    def prepare(self, request: Generation) -> None:
        """Refuse a place where no file can be; have the rest done when its time comes."""
        self._session.check_target(self._path)
        request.preparation, request.conclusion = self._load, self._save

    def _load(self) -> None:
        if self._path.exists():
            self._session.load(self._path)
        request = self._request()
        assert request is not None
        self._session.use_for(request)
        if self._request_preparation is not None:
            self._request_preparation()

    def _save(self, completion: Completion) -> Completion:
        with self._guard:  # several threads may wait for the end of one stream
            if self._session.has_answer and not self._session.closed:
                if self._messages is not None and isinstance(completion, ChatCompletion):
                    messages = [*self._messages, completion.message]
                    self._session.extra = _as_json({"messages": messages})
                self._session.save(self._path)
            self._session.close()  # without an answer the file stays as it is
        if self._request_conclusion is not None:
            completion = self._request_conclusion(completion)
        return completion


def _as_json(extra: dict[str, Any]) -> dict[str, Any] | None:
    """``extra``, or None for what JSON cannot say, such as what a function in a message returned."""
    try:
        json.dumps(extra, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None
    return extra
