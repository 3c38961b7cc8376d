"""Several servers behind one address: a proxy that sends what begins alike to the same one. For example

    python examples/prefix_proxy.py -n 2 --port 8080 -- -m qwen2.5-coder-1.5b --parallel 8

starts two ``pyqwen serve`` with the arguments after ``--``, starts them again if they end, and answers at
http://127.0.0.1:8080. On one machine that pays where it has several NUMA nodes (``--numa`` binds server i to
node i by numactl). Servers of other hosts are named instead: ``--server http://10.0.0.5:8080 --server ...``;
they need ``--allow-host`` with the name that clients use for the proxy, unless that is an IP address.

A conversation, and all that share its first messages, go to one server, which has read them: the server with
the highest hash of its name and those messages (rendezvous hashing), so that one that goes or comes moves
only what was or will be its own. A server that is much busier than another gives way to the next one. Needs
``pyqwen[serve]`` and httpx (or httpx2).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

try:
    import httpx2 as httpx  # which huggingface_hub brings
except ImportError:
    import httpx  # type: ignore[no-redef]

MUCH_BUSIER = 4  # requests more than the least busy server has
PREFIX_CHARACTERS = 2000  # of a prompt without messages
RETRY_SECONDS = 2.0  # after which a server that could not be reached is tried again
MAX_BODY = 16 * 2**20  # as the servers themselves
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)


@dataclass(eq=False)
class Server:
    """``name`` decides what it gets, and stays when it is started again at another ``url``."""

    name: str
    url: str = ""
    running: int = 0
    away_until: float = 0.0


def beginning(body: Any) -> str:
    """What a request has in common with those that should be answered by the same server."""
    if not isinstance(body, dict):
        return ""
    messages = body.get("messages")
    if not isinstance(messages, list):
        messages = body.get("input")  # /v1/responses
    parts = [body.get("tools"), body.get("system"), body.get("instructions")]
    if isinstance(messages, list):
        users = [
            i
            for i, one in enumerate(messages)
            if isinstance(one, dict) and one.get("role") == "user"
        ]
        parts += messages[: users[0] + 1 if users else 1]
    else:
        parts.append(str(messages or body.get("prompt") or body.get("input_prefix") or ""))
    return json.dumps([p for p in parts if p is not None], sort_keys=True)[:PREFIX_CHARACTERS]


def choose(servers: Sequence[Server], key: str, now: float) -> list[Server]:
    """The servers in the order in which they should be tried."""

    def rank(server: Server) -> bytes:
        return blake2b(f"{server.name}\0{key}".encode(), digest_size=8).digest()

    ranked = sorted(servers, key=rank, reverse=True)
    reachable = [server for server in ranked if server.away_until <= now] or ranked
    most = min(server.running for server in reachable) + MUCH_BUSIER
    return sorted(reachable, key=lambda server: server.running > most)


class Proxy:
    """The application."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5), trust_env=False)

    def app(self) -> Starlette:
        methods = ["GET", "HEAD", "POST", "DELETE", "OPTIONS"]
        routes = [Route("/{path:path}", self.answer, methods=methods)]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        await self._client.aclose()

    async def answer(self, request: Request) -> Response:
        data = b""
        async for part in request.stream():
            data += part
            if len(data) > MAX_BODY:
                return _error(413, f"the body is larger than {MAX_BODY:,} bytes")
        try:
            key = beginning(json.loads(data)) if data else request.url.path
        except (ValueError, RecursionError):
            key = ""  # the server will say what is wrong
        loop = asyncio.get_running_loop()
        for server in choose(self.servers, key, loop.time()):
            try:
                return await self._forward(server, request, data)
            except httpx.ConnectError:
                server.away_until = loop.time() + RETRY_SECONDS
            except httpx.TransportError as error:  # it may have begun to answer
                return _error(502, f"a server ended before it had answered: {type(error).__name__}")
        return _error(503, "no server can be reached; try again soon")

    async def _forward(self, server: Server, request: Request, data: bytes) -> Response:
        """Pass a request on and its answer back; a client that leaves ends both.

        The Host header stays as it was: servers refuse names that are not theirs, and must see them.
        """
        url = httpx.URL(server.url).copy_with(
            path=request.url.path, query=request.url.query.encode() or None
        )
        sent = self._client.build_request(
            request.method, url, headers=_passed_on(request.headers.raw), content=data
        )
        server.running += 1
        try:
            got = await self._client.send(sent, stream=True)
        except BaseException:
            server.running -= 1
            raise

        return _Answer(server, got)


class _Answer(StreamingResponse):
    """What a server answers, passed on as it comes."""

    def __init__(self, server: Server, got: Any) -> None:
        super().__init__(got.aiter_raw(), got.status_code)
        self.raw_headers = _passed_on(got.headers.raw)
        self._server, self._got = server, got

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._server.running -= 1
            await self._got.aclose()


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers if name.lower() not in HOP_BY_HOP]


def _error(status: int, message: str) -> JSONResponse:
    error = {"message": message, "type": "server_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status)


# ------------------------------------------------------------------------------- servers of this machine


async def keep_running(server: Server, command: Sequence[str], ready: asyncio.Event) -> None:
    """Start a server, and again when it ends; its address is known when it says so."""
    while True:
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        assert process.stderr is not None
        try:
            async for line in process.stderr:
                text = line.decode(errors="replace")
                if found := re.search(r"listening on (http://\S+)", text):
                    server.url = found[1]
                    ready.set()
                else:
                    sys.stderr.write(text)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
        if not ready.is_set():
            raise SystemExit(f"a server could not be started: {shlex.join(command)}")
        await asyncio.sleep(1)


async def run(args: argparse.Namespace) -> None:
    servers = [Server(url, url.rstrip("/")) for url in args.server]
    async with asyncio.TaskGroup() as group:
        keepers = []
        for i in range(0 if servers else args.n):
            command = [sys.executable, "-m", "pyqwen", "serve", "--port", "0", *args.arguments]
            if args.numa:
                command = ["numactl", f"--cpunodebind={i}", f"--membind={i}", *command]
            server, ready = Server(f"server {i}"), asyncio.Event()
            keepers.append(group.create_task(keep_running(server, command, ready)))
            await_ready = group.create_task(ready.wait())
            servers.append(server)
            await asyncio.wait((await_ready, keepers[-1]), return_when=asyncio.FIRST_COMPLETED)
        app = Proxy(servers).app()
        config = uvicorn.Config(app, host=args.host, port=args.port, log_level="warning")
        proxy = uvicorn.Server(config)
        serving = group.create_task(proxy.serve())
        while not (proxy.started or serving.done()):
            await asyncio.sleep(0.01)
        if proxy.started:
            port = proxy.servers[0].sockets[0].getsockname()[1]
            print(f"listening on http://{args.host}:{port}", file=sys.stderr, flush=True)
        await serving
        for keeper in keepers:
            keeper.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=2, help="servers to start here (default: 2)")
    parser.add_argument(
        "--server", action="append", default=[], metavar="URL", help="one that runs"
    )
    parser.add_argument("--numa", action="store_true", help="bind server i to NUMA node i")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("arguments", nargs="*", help="of each server, after --")
    # uvicorn passes signals on when it has ended: then the servers are ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
