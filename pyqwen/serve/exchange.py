"""One HTTP request and its answer: reading under limits, writing whole or in a stream, and noticing that
the client left.

Every handler runs as a task of its own beside one that waits for the client's leaving, which cancels it;
so a generation stops whether its answer is streamed or not. Knows no API.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from pyqwen.serve.errors import ApiError, ClientGone, Shape, api_error, status_of
from pyqwen.serve.settings import ServerSettings

_log = logging.getLogger("pyqwen.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

encode_json = msgspec.json.Encoder().encode

JSON_TYPE = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"
NDJSON = "application/x-ndjson"


class Exchange:
    """A request that is answered by one handler."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settings: ServerSettings, shape: Shape
    ) -> None:
        self.scope = scope
        self.settings = settings
        self.shape = shape
        self._receive, self._send = receive, send
        self._body = b""
        self.started = False
        self.ended = False
        self.status = 0
        self.note = ""  # what the log says of it
        self._begin = perf_counter()

    def header(self, name: bytes) -> str:
        """The first header of a name (in lower case), or an empty text."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value).decode("latin-1")
        return ""

    # Reading

    async def read_body(self) -> None:
        """Read the whole body; ``ApiError`` where it is too large or too slow."""
        limit = self.settings.max_body
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared[:20]) > limit:
            raise self._too_large()
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise self._too_large()
                    parts.append(part)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise ApiError(408, "the request did not arrive in time") from error
        self._body = b"".join(parts)

    def _too_large(self) -> ApiError:
        limit = self.settings.max_body
        return ApiError(413, f"the body is larger than {limit:,} bytes", code="body_too_large")

    def body(self, kind: type[T]) -> T:
        """The body as JSON of a type; unknown fields are ignored, ``ApiError`` says what is wrong."""
        return decode(self._body or b"{}", kind)

    async def disconnected(self) -> None:
        """Wait until the client leaves."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # Writing

    async def start(
        self, status: int, content_type: str, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        self.started, self.status = True, status
        kind = (b"content-type", content_type.encode())
        await self._give(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [kind, (b"x-content-type-options", b"nosniff"), *headers],
            }
        )

    async def write(self, data: bytes) -> None:
        await self._give({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        self.ended = True
        await self._give({"type": "http.response.body", "body": data, "more_body": False})

    async def reply(
        self, value: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Answer with JSON."""
        await self.reply_bytes(encode_json(value), JSON_TYPE, status, headers)

    async def reply_bytes(
        self,
        data: bytes,
        content_type: str,
        status: int = 200,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        length = (b"content-length", str(len(data)).encode())
        await self.start(status, content_type, [length, *headers])
        await self.end(b"" if self.scope["method"] == "HEAD" else data)

    async def fail(self, error: ApiError) -> None:
        """Answer with an error, in the words of the API."""
        headers = []
        if error.retry_after is not None:
            headers.append((b"retry-after", str(error.retry_after).encode()))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if error.status in (408, 413):
            headers.append((b"connection", b"close"))  # what is left of the body is not read
        await self.reply(self.shape(error), status_of(error, self.shape), headers)

    async def _give(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                await self._send(message)
        except TimeoutError:
            raise ClientGone from None  # it does not read
        except OSError:
            raise ClientGone from None

    def log(self) -> None:
        """One line about the request; no text of anybody."""
        seconds = perf_counter() - self._begin
        path = str(self.scope["path"])[:200]
        _log.info("%s %r %d %.3f s%s", self.scope["method"], path, self.status, seconds, self.note)


Handler = Callable[[Exchange], Awaitable[None]]
FailStream = Callable[[Exchange, ApiError], Awaitable[None]]


class Endpoint:
    """A handler as an ASGI application, with the shape of its API's errors."""

    def __init__(
        self,
        handler: Handler,
        settings: ServerSettings,
        shape: Shape,
        fail_stream: FailStream | None = None,
    ) -> None:
        """``fail_stream`` tells of an error in a stream that has begun."""
        self._handler = handler
        self._settings = settings
        self._shape = shape
        self._fail_stream = fail_stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._settings, self._shape)
        try:
            try:
                await exchange.read_body()
                await self._run(exchange)
            except ClientGone:
                exchange.note += ", the client left"
            except Exception as error:
                await self._fail(exchange, api_error(error))
        except ClientGone:
            exchange.note += ", the client left"
        finally:
            exchange.log()

    async def _run(self, exchange: Exchange) -> None:
        """Run the handler until it ends, the client leaves or the time is over."""
        job = asyncio.ensure_future(self._handler(exchange))
        watch = asyncio.ensure_future(exchange.disconnected())
        try:
            await asyncio.wait(
                (job, watch),
                timeout=self._settings.request_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if job.done():
                return job.result()
            if watch.done():
                raise ClientGone
            raise TimeoutError
        finally:
            job.cancel()
            watch.cancel()
            await asyncio.gather(job, watch, return_exceptions=True)

    async def _fail(self, exchange: Exchange, error: ApiError) -> None:
        exchange.note += f", {error.code or 'refused'}"
        if not exchange.started:
            await exchange.fail(error)
        elif not exchange.ended:
            if self._fail_stream is not None:
                await self._fail_stream(exchange, error)
            await exchange.end()


def decode(data: bytes, kind: type[T]) -> T:
    """JSON of a type; ``ApiError`` says where it is wrong."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        path = text.rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in text else None
        message = text.replace("`$.", "`")
        raise ApiError(400, f"the request is wrong: {message}", param=path) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from error
    except RecursionError as error:
        raise ApiError(400, "the body is nested too deeply", code="invalid_json") from error


class EventStream:
    """Server-sent events."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def start(self) -> None:
        headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await self._exchange.start(200, EVENT_STREAM, headers)

    async def data(self, value: Any) -> None:
        await self._exchange.write(b"data: " + encode_json(value) + b"\n\n")

    async def event(self, name: str, value: Any) -> None:
        """An event with a name, as Anthropic's clients and those of /v1/responses read it."""
        head = b"event: " + name.encode() + b"\ndata: "
        await self._exchange.write(head + encode_json(value) + b"\n\n")

    async def keep_alive(self) -> None:
        await self._exchange.write(b": keep-alive\n\n")

    async def end(self, last: bytes = b"") -> None:
        await self._exchange.end(last)


DONE = b"data: [DONE]\n\n"


async def fail_event_stream(exchange: Exchange, error: ApiError) -> None:
    """An error in the middle of a stream of events."""
    await exchange.write(b"data: " + encode_json(exchange.shape(error)) + b"\n\n")


async def fail_named_event_stream(exchange: Exchange, error: ApiError) -> None:
    await exchange.write(b"event: error\ndata: " + encode_json(exchange.shape(error)) + b"\n\n")


async def fail_lines(exchange: Exchange, error: ApiError) -> None:
    """An error in the middle of lines of JSON."""
    await exchange.write(encode_json(exchange.shape(error)) + b"\n")
