"""What a server is told: who may use it, how much they may ask for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import index

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Immutable; ``ValueError`` or ``TypeError`` for what cannot be.

    - ``api_keys``: one of them must come with each request (``Authorization: Bearer``, ``x-api-key``);
      none: nobody is asked.
    - ``cors``: origins of web pages that may call, such as ``https://app.example``; ``*`` for all.
    - ``hosts``: names in the Host header that are right besides IP addresses and ``localhost``.
    - ``queue``: requests that may wait for one model before others are sent away with status 429.
    - ``unload_after``: seconds without requests after which a model that the server loaded is
      unloaded; None: never, unless another one needs its memory.
    - ``request_seconds``: the longest an answer may take; ``body_seconds``: the longest a request may
      take to arrive, and a reader to take what is sent.
    - ``max_body``: bytes of a request; ``keep_alive``: seconds between comments in a stream that has
      nothing to say.
    - ``allow_pull``: whether clients may have models fetched (Ollama's ``/api/pull``).
    - ``ui``: whether there is a web page.
    """

    api_keys: Sequence[str] = ()
    cors: Sequence[str] = ()
    hosts: Sequence[str] = ()
    queue: int = 64
    unload_after: float | None = None
    request_seconds: float = 3600.0
    body_seconds: float = 30.0
    max_body: int = 16 * 2**20
    keep_alive: float = 10.0
    allow_pull: bool = False
    ui: bool = True

    def __post_init__(self) -> None:
        for name in ("api_keys", "cors", "hosts"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        for key in self.api_keys:
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError("an API key must be printable ASCII without spaces, and not empty")
        for origin in self.cors:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"cors: {origin!r} is no origin such as https://app.example")
        _whole("queue", self.queue, 0)
        _whole("max_body", self.max_body, 1024)
        for name in ("request_seconds", "body_seconds", "keep_alive"):
            _seconds(name, getattr(self, name))
        if self.unload_after is not None:
            _seconds("unload_after", self.unload_after)
        for name in ("allow_pull", "ui"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False")


SETTING_NAMES = tuple(field.name for field in fields(ServerSettings))


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise TypeError(f"{name} must be a text or a list of texts, not {type(value).__name__}")
    for text in value:
        if not isinstance(text, str):
            raise TypeError(f"{name} must hold texts, not {type(text).__name__}")
    return tuple(value)


def _whole(name: str, value: object, low: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}")
    if index(value) < low:
        raise ValueError(f"{name} must be {low} or more, not {value}")


def _seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be above 0 and finite, not {value}")
