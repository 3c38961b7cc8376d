"""One row answered by one model: by the handlers of the server, without a server around them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, MutableMapping
from typing import Any, NoReturn

import msgspec

from pyqwen.batches.memory import Room, most_tokens, room_for
from pyqwen.batches.rows import Row, RowError, encode_json, read_request
from pyqwen.model import Model
from pyqwen.serve.core import Core
from pyqwen.serve.embeddings import Embeddings
from pyqwen.serve.errors import ApiError, api_error, openai_shape, status_of
from pyqwen.serve.exchange import Exchange, Handler, decode
from pyqwen.serve.fields import new_id
from pyqwen.serve.metrics import Metrics
from pyqwen.serve.openai_chat import ChatCompletions
from pyqwen.serve.openai_completions import Completions
from pyqwen.serve.registry import ANY_NAME, Registry
from pyqwen.serve.responses import Responses
from pyqwen.serve.settings import ServerSettings

_MANY = 2**31
_OUT_OF_MEMORY = "out_of_memory"
_RETRIES = 2


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a row: its line of the output, without the line break.

    ``tokens`` are those of the prompt, of the prompt that were cached, and those that were written.
    """

    number: int
    line: bytes
    failed: bool
    tokens: tuple[int, int, int] = (0, 0, 0)


class RowAnswers:
    """Answers rows with an open model, any number at a time."""

    def __init__(self, model: Model, name: str) -> None:
        """``name``: what the answers call the model; rows may call it anything."""
        settings = ServerSettings(queue=_MANY)
        registry = Registry({name: model}, settings, {}, aliases=(ANY_NAME,))
        core = Core(registry, settings, Metrics(), streams=False)
        self._settings = settings
        self._model = model
        self._room = Room(room_for(model))
        self._lone = asyncio.Lock()
        self._handlers: dict[str, Handler] = {
            "/v1/chat/completions": ChatCompletions(core),
            "/v1/completions": Completions(core),
            "/v1/embeddings": Embeddings(core).openai,
            "/v1/responses": Responses(core),
        }

    async def answer(self, row: Row) -> Answer:
        """The answer to a row, whatever it is."""
        try:
            request = read_request(row.data)
        except RowError as error:
            return no_request(row.number, row.id, error)
        body = bytes(request.body)
        exchange = _RowExchange(body, self._settings)
        size = most_tokens(body, self._model.context)
        await self._room.enter(size)
        try:
            _check_stream(exchange)
            await self._run(self._handlers[request.url], exchange)
        except ApiError as error:
            status = status_of(error, openai_shape)
            return _failure(row, request.custom_id, status, openai_shape(error))
        finally:
            self._room.leave(size)
        return Answer(
            row.number,
            encode_json(
                {
                    "id": row.id,
                    "custom_id": request.custom_id,
                    "response": _response(200, exchange.answer),
                    "error": None,
                }
            ),
            failed=False,
            tokens=_tokens(exchange.answer),
        )

    async def _run(self, handler: Handler, exchange: Exchange) -> None:
        """Run a handler; where memory is short, again when no other row that met this is running."""
        try:
            await handler(exchange)
        except Exception as failure:
            error = api_error(failure)
        else:
            return
        for _ in range(_RETRIES):
            if error.code != _OUT_OF_MEMORY:
                break
            async with self._lone:
                try:
                    await handler(exchange)
                except Exception as failure:
                    error = api_error(failure)
                else:
                    return
        raise error


class _RowExchange(Exchange):
    """A request whose body is here and whose answer is kept."""

    def __init__(self, body: bytes, settings: ServerSettings) -> None:
        scope = {"method": "POST", "path": "", "headers": []}
        super().__init__(scope, _no_connection, _no_connection, settings, openai_shape)
        self._json = body
        self.answer: Any = None

    def body(self, kind: type[Any]) -> Any:
        return decode(self._json, kind)

    async def reply(
        self, value: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        self.answer = value


async def _no_connection(message: MutableMapping[str, Any] | None = None) -> NoReturn:
    raise AssertionError("a row has no connection")


class _Streaming(msgspec.Struct):
    stream: Any = None


def _check_stream(exchange: Exchange) -> None:
    if exchange.body(_Streaming).stream:
        raise ApiError(400, "a row of a batch cannot be streamed; leave stream out", param="stream")


def _response(status: int, body: Any) -> dict[str, Any]:
    return {"status_code": status, "request_id": new_id("req_"), "body": body}


def _failure(row: Row, custom_id: str, status: int, body: dict[str, Any]) -> Answer:
    """A request that has no answer: OpenAI says why in ``response``, and many look at ``error``."""
    error = body["error"]
    line = {
        "id": row.id,
        "custom_id": custom_id,
        "response": _response(status, body),
        "error": {"code": error["code"] or error["type"], "message": error["message"]},
    }
    return Answer(row.number, encode_json(line), failed=True)


def no_request(number: int, row_id: str, error: RowError, line: int | None = None) -> Answer:
    """The answer to a row that is no request, or that nobody could answer."""
    said: dict[str, Any] = {"code": error.code, "message": error.message, "param": error.param}
    if line is not None:
        said["line"] = line
    row = {"id": row_id, "custom_id": error.custom_id, "response": None, "error": said}
    return Answer(number, encode_json(row), failed=True)


def _tokens(body: Any) -> tuple[int, int, int]:
    usage = body.get("usage") or {}
    read = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    written = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return read, details.get("cached_tokens", 0), written
