"""Who may use the server: checked before anything else of a request is looked at.

The Host header comes first: a web page whose name was made to point here (DNS rebinding) is of the same
origin for its browser, and sends no Origin. Then the origin: pages of others are refused unless named, also
where a browser would send their request without asking. Then the key.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from pyqwen.serve.errors import ApiError, ClientGone, Shape
from pyqwen.serve.exchange import App, Exchange, Message, Receive, Scope, Send
from pyqwen.serve.settings import ServerSettings

MAX_HEADERS = 100
_METHODS = b"GET, POST, DELETE, HEAD, OPTIONS"
_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Trust:
    """Lets through to ``app`` who may come; the rest gets an error in the words of its API."""

    def __init__(
        self,
        app: App,
        settings: ServerSettings,
        *,
        is_public: Callable[[str, str], bool],
        shape_of: Callable[[str], Shape],
    ) -> None:
        """``is_public(method, path)``: whether no key is needed; ``shape_of(path)``: how errors look."""
        self._app = app
        self._settings = settings
        self._keys = [key.encode() for key in settings.api_keys]
        self._hosts = {host.lower() for host in settings.hosts}
        self._is_public = is_public
        self._shape_of = shape_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = path_of(scope)
        request = Exchange(scope, receive, send, self._settings, self._shape_of(path))
        try:
            try:
                self._check_headers(scope)
                self._check_host(scope, request.header(b"host"))
                origin = self._checked_origin(request)
                if scope["method"] == "OPTIONS" and origin:
                    await self._answer_preflight(request, origin)
                    return
                if not self._is_public(scope["method"], path):
                    self._check_key(request)
            except ApiError as error:
                await request.fail(error)
                request.log()
                return
        except ClientGone:
            return
        await self._app(scope, receive, _with_origin(send, origin) if origin else send)

    def _check_headers(self, scope: Scope) -> None:
        if len(scope["headers"]) > MAX_HEADERS:
            raise ApiError(431, f"more than {MAX_HEADERS} headers")
        names = [name for name, _ in scope["headers"]]
        for name in (b"host", b"origin", b"content-length", b"authorization"):
            if names.count(name) > 1:
                raise ApiError(400, f"the header {name.decode()} is there twice")

    def _check_host(self, scope: Scope, header: str) -> None:
        """Refuse names that a stranger's DNS may have made to point here.

        An IP address or a name of this machine cannot be such a name. No browser leaves the header out.
        """
        host = host_of(header)
        if not header or host in self._hosts or is_own_name(host):
            return
        server = scope.get("server")
        if server and isinstance(server[0], str) and host == server[0].lower():
            return  # the address that was connected to
        raise ApiError(
            403,
            f"the Host header names {header[:100]!r}, which is not a name of this server; "
            "--allow-host (hosts=) adds one",
            code="host_not_allowed",
        )

    def _checked_origin(self, request: Exchange) -> str | None:
        """The origin of a page elsewhere that may call; None where there is none."""
        origin = request.header(b"origin")
        if not origin:
            return None
        if origin in self._settings.cors or "*" in self._settings.cors:
            return origin
        if _is_same(origin, request.header(b"host"), str(request.scope.get("scheme", "http"))):
            return None
        raise ApiError(
            403,
            f"pages of {origin[:100]!r} may not use this server; --cors (cors=) names those that may",
            code="origin_not_allowed",
        )

    async def _answer_preflight(self, request: Exchange, origin: str) -> None:
        wanted = request.header(b"access-control-request-headers")
        headers = [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", wanted.encode("latin-1") or b"*"),
            (b"access-control-max-age", b"600"),
            (b"vary", b"Origin"),
        ]
        await request.reply_bytes(b"", "text/plain", 200, headers)

    def _check_key(self, request: Exchange) -> None:
        if not self._keys:
            return
        scheme, _, token = request.header(b"authorization").partition(" ")
        given = token.strip() if scheme.lower() == "bearer" else request.header(b"x-api-key")
        # All keys are compared, each in constant time: neither the time nor its order tells anything.
        matches = [hmac.compare_digest(given.encode("latin-1"), key) for key in self._keys]
        if not any(matches):
            what = "the API key is wrong" if given else "an API key is needed"
            raise ApiError(
                401, f"{what}: send it as Authorization: Bearer KEY", code="invalid_api_key"
            )


def path_of(scope: Scope) -> str:
    """The path below the place where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


def host_of(header: str) -> str:
    """The name in a Host header without its port, in lower case."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    head, colon, port = name.rpartition(":")
    return (head if colon and port.isdigit() else name).rstrip(".")


def is_own_name(host: str) -> bool:
    """Whether no DNS server of a stranger can have given this name: an IP address, or localhost."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str, scheme: str) -> bool:
    try:
        parts = urlsplit(origin)
        port = str(parts.port) if parts.port is not None else _DEFAULT_PORTS.get(parts.scheme, "")
    except ValueError:
        return False
    name = host_of(host)
    _, _, given = host.rpartition("]")[2].rpartition(":")
    own_port = given if given.isdigit() else _DEFAULT_PORTS.get(scheme, "")
    return (parts.hostname or "").lower() == name and port == own_port and bool(name)


def _with_origin(send: Send, origin: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            allow = (b"access-control-allow-origin", origin.encode("latin-1"))
            message = {**message, "headers": [*message["headers"], allow, (b"vary", b"Origin")]}
        await send(message)

    return sending
