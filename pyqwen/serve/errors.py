"""What goes wrong with a request, and how each API says it.

An :class:`ApiError` knows facts; what OpenAI, llama.cpp, Ollama and Anthropic would say is made
of it at the border. What is not the client's fault is logged, and told without its inside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyqwen.errors import (
    CancelledError,
    ClosedError,
    ConstraintError,
    ContextOverflowError,
    ModelNotFoundError,
    OutOfMemoryError,
    PyQwenError,
    TemplateError,
    UnsupportedModelError,
)

_log = logging.getLogger("pyqwen.serve")


class ApiError(Exception):
    """A request that cannot be answered.

    ``status`` is HTTP's, ``code`` OpenAI's word for the reason, ``param`` the field of the request
    that is wrong, ``retry_after`` the seconds after which another try may succeed. ``facts`` are further
    fields of the error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.facts = facts or {}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


Shape = Callable[[ApiError], dict[str, Any]]
"""Makes the body of an error in the words of one API."""

_OPENAI_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    501: "invalid_request_error",
}
_LLAMA_KINDS = _OPENAI_KINDS | {501: "not_supported_error", 503: "unavailable_error"}
_ANTHROPIC_KINDS = _OPENAI_KINDS | {413: "request_too_large", 503: "overloaded_error"}


def _kind(error: ApiError, kinds: dict[int, str], server: str) -> str:
    return kinds.get(error.status) or (server if error.status >= 500 else "invalid_request_error")


def openai_shape(error: ApiError) -> dict[str, Any]:
    """The body that OpenAI's clients read."""
    kind = _kind(error, _OPENAI_KINDS, "server_error")
    if error.status == 404:
        kind = "invalid_request_error"
    body = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return {"error": {**body, **error.facts}}


def llama_shape(error: ApiError) -> dict[str, Any]:
    """The body of llama.cpp's own endpoints."""
    kind = _kind(error, _LLAMA_KINDS, "server_error")
    if error.code == "context_length_exceeded":
        kind = "exceed_context_size_error"
    return {"error": {"code": error.status, "message": error.message, "type": kind, **error.facts}}


def status_of(error: ApiError, shape: Shape) -> int:
    """HTTP's status. What is not supported is no server's fault to clients that try those again."""
    if error.status == 501 and shape in (openai_shape, anthropic_shape):
        return 400
    return error.status


def ollama_shape(error: ApiError) -> dict[str, Any]:
    return {"error": error.message}


def anthropic_shape(error: ApiError) -> dict[str, Any]:
    kind = _kind(error, _ANTHROPIC_KINDS, "api_error")
    return {"type": "error", "error": {"type": kind, "message": error.message}}


@contextmanager
def refusals() -> Iterator[None]:
    """What the library says about arguments of a client becomes an answer with status 400."""
    try:
        yield
    except (TemplateError, ConstraintError, ValueError, TypeError) as error:
        if isinstance(error, PyQwenError):
            raise api_error(error) from error
        raise ApiError(400, str(error), code="invalid_value") from error


def api_error(error: BaseException) -> ApiError:
    """The answer to a request that ended with an exception."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ContextOverflowError):
        facts = {"n_prompt_tokens": error.tokens, "n_ctx": error.context}
        return ApiError(
            400,
            f"This model's maximum context length is {error.context} tokens, and the prompt has "
            f"{error.tokens}: {error}",
            code="context_length_exceeded",
            param="messages",
            facts=facts if error.tokens is not None else {},
        )
    if isinstance(error, ConstraintError) and error.completion is not None:
        return ApiError(422, f"the answer is not what was asked for: {error}", code="bad_answer")
    if isinstance(error, TemplateError | ConstraintError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, UnsupportedModelError):
        return ApiError(501, str(error), code="unsupported")
    if isinstance(error, OutOfMemoryError):
        return ApiError(503, str(error), code="out_of_memory", retry_after=10)
    if isinstance(error, ClosedError | CancelledError):
        return ApiError(503, "the model was unloaded meanwhile", code="unloaded", retry_after=1)
    if isinstance(error, ModelNotFoundError):
        return ApiError(404, str(error), code="model_not_found", param="model")
    if isinstance(error, TimeoutError):
        return ApiError(504, "the answer took longer than this server allows", code="timeout")
    if isinstance(error, PyQwenError):
        _log.error("%s", error)
        return ApiError(500, str(error), code=type(error).__name__)
    _log.error("a request failed: a bug in pyqwen", exc_info=error)
    return ApiError(500, f"internal error ({type(error).__name__}); see the log", code="internal")
