"""A client that drives an ASGI application in this process, and can leave when it wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Response:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def events(self) -> list[Any]:
        """The data of server-sent events, comments left out."""
        found = []
        for block in self.text.split("\n\n"):
            data = [line[6:] for line in block.split("\n") if line.startswith("data: ")]
            if data and data != ["[DONE]"]:
                found.append(json.loads("\n".join(data)))
        return found

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]


class Visit:
    """One request on its way; ``leave`` closes the connection."""

    def __init__(
        self,
        app: App,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        root_path: str = "",
    ) -> None:
        self.response = Response()
        self.started = asyncio.Event()
        self.got_data = asyncio.Event()
        self._gone = asyncio.Event()
        self._parts = [body]
        path, _, query = path.partition("?")
        sent = {"host": "localhost", **headers}
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": root_path + path,
            "raw_path": path.encode(),
            "root_path": root_path,
            "query_string": query.encode(),
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in sent.items()],
            "client": ("127.0.0.1", 1234),
            "server": ("127.0.0.1", 8080),
        }
        self.task = asyncio.ensure_future(app(self.scope, self._receive, self._send))

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if self._parts:
            body = self._parts.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._parts)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            self.response.status = message["status"]
            self.response.headers = {
                name.decode(): value.decode("latin-1") for name, value in message["headers"]
            }
            self.started.set()
        else:
            self.response.body += message.get("body", b"")
            self.response.complete = not message.get("more_body", False)
            self.got_data.set()


class Client:
    """Asks an application; every call may be awaited beside others."""

    def __init__(self, app: App, headers: Mapping[str, str] | None = None) -> None:
        self.app = app
        self.headers = dict(headers or {})

    def visit(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Visit:
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        sent = {**self.headers, **(headers or {})}
        return Visit(self.app, method, path, data, sent, **options)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Response:
        visit = self.visit(method, path, body, headers, **options)
        await asyncio.wait_for(visit.task, 60)
        return visit.response

    async def get(self, path: str, **options: Any) -> Response:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Response:
        return await self.ask("POST", path, body, **options)
