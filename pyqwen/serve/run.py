"""Running the application on a socket: uvicorn with limits on connections, headers and slow clients, and an
end that lets answers finish."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pyqwen.errors import PyQwenError
from pyqwen.serve.app import Application

_log = logging.getLogger("pyqwen.serve")

MAX_CONNECTIONS = 512
MAX_HEADER_BYTES = 32 * 1024
HEADER_SECONDS = 10.0
IDLE_SECONDS = 15
FORCED = 143
"""The exit code after a second signal, as shells show a program that SIGTERM ended."""


class LimitedProtocol(H11Protocol):
    """Closes connections on which no request arrives: uvicorn waits for the first one for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()  # the application limits the rest
        elif self._deadline is None:
            self._watch()  # the beginning of another request

    def on_response_complete(self) -> None:
        self._unwatch()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Ends gracefully: the first signal lets running answers finish, the second one does not."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.signals: list[int] = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but whoever runs the server decides how the process ends."""
        handlers = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                handlers[number] = signal.signal(number, self.handle_exit)
        except ValueError:  # not in the main thread
            pass
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.signals.append(sig)
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def open_socket(host: str, port: int) -> socket.socket:
    """A listening address; ``OSError`` where it is taken."""
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(256)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(sock: socket.socket) -> str:
    """What to type into a browser of this machine."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Application, sock: socket.socket, ready: Callable[[str], Any]) -> int:
    """Serve until a signal ends it; the exit code. ``ready(url)`` is called when requests are answered.

    The first model is loaded before that; ``PyQwenError`` where it cannot be. Raises
    ``KeyboardInterrupt`` after Ctrl-C.
    """
    config = uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_keep_alive=IDLE_SECONDS,
        proxy_headers=False,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    server = Server(config)
    failure = asyncio.run(_serve(server, app, sock, ready))
    if failure is not None:
        raise failure
    if signal.SIGINT in server.signals:
        raise KeyboardInterrupt
    return FORCED if server.force_exit else 0


async def _serve(
    server: Server, app: Application, sock: socket.socket, ready: Callable[[str], Any]
) -> BaseException | None:
    """Load the first model beside the running server, which says until then that it is loading."""
    failure: list[BaseException] = []

    async def preload() -> None:
        try:
            while not server.started:
                await asyncio.sleep(0.005)
            async with app.registry.lease(None):
                ready(url_of(sock))
        except (PyQwenError, OSError, ValueError) as error:
            failure.append(error)
            server.should_exit = True

    loading = asyncio.ensure_future(preload())
    try:
        await server.serve(sockets=[sock])
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    return failure[0] if failure else None
