"""The application: which path is whose, around it what all requests pass.

``create_app`` makes a pure ASGI application without global state; it may be mounted in another one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack, cast

from starlette.routing import Route, Router

from pyqwen.model import OpenOptions
from pyqwen.serve.adapters import LoraAdapters
from pyqwen.serve.anthropic import AnthropicMessages
from pyqwen.serve.core import Core
from pyqwen.serve.embeddings import Embeddings
from pyqwen.serve.errors import (
    ApiError,
    Shape,
    anthropic_shape,
    llama_shape,
    ollama_shape,
    openai_shape,
)
from pyqwen.serve.exchange import (
    Endpoint,
    Exchange,
    FailStream,
    Handler,
    Receive,
    Scope,
    Send,
    fail_event_stream,
    fail_lines,
    fail_named_event_stream,
)
from pyqwen.serve.llama import LlamaEndpoints
from pyqwen.serve.llama_completion import LlamaCompletion
from pyqwen.serve.metrics import Metrics
from pyqwen.serve.models_list import Models
from pyqwen.serve.ollama import Ollama
from pyqwen.serve.openai_chat import ChatCompletions
from pyqwen.serve.openai_completions import Completions
from pyqwen.serve.pulling import Pulling
from pyqwen.serve.registry import Registry, Sources
from pyqwen.serve.responses import Responses
from pyqwen.serve.settings import SETTING_NAMES, ServerSettings
from pyqwen.serve.trust import Trust, path_of
from pyqwen.serve.web_page import WebPage

_PUBLIC = frozenset({"/health", "/v1/health"})
_READING = frozenset({"GET", "HEAD"})


class Application:
    """What ``create_app`` returns: call it as ASGI says. ``registry`` has the models."""

    def __init__(self, registry: Registry, settings: ServerSettings) -> None:
        self.registry = registry
        self.settings = settings
        self.core = Core(registry, settings, Metrics())
        router = Router(routes=routes(self.core), default=self._not_found)
        router.redirect_slashes = False
        self._app = Trust(router, settings, is_public=_is_public, shape_of=shape_of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self.registry.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def handler(exchange: Exchange) -> None:
            raise ApiError(404, f"there is no {path_of(scope)[:200]!r} here", code="not_found")

        await Endpoint(handler, self.settings, shape_of(path_of(scope)))(scope, receive, send)


class AppOptions(OpenOptions, total=False):
    """The keywords of ``create_app``: those of ``Model``, and the server's own (``ServerSettings``)."""

    aliases: Sequence[str]
    api_key: str | Sequence[str] | None
    adapter_scales: Mapping[str, float]
    cors: Sequence[str]
    hosts: Sequence[str]
    queue: int
    unload_after: float | None
    request_seconds: float
    body_seconds: float
    max_body: int
    keep_alive: float
    allow_pull: bool
    ui: bool


def create_app(models: Sources, **options: Unpack[AppOptions]) -> Application:
    """An ASGI application that answers clients of OpenAI, Anthropic, Ollama and llama.cpp.

    ``models``: a model, or several: names or paths, which are opened when they are first asked for,
    or open ``Model`` objects, which stay their owner's; a mapping gives them names. Options are

    - ``aliases``: further names: of one model all, else one for each in their order; ``"*"`` stands for
      any name;
    - ``api_key``: a key, or several, of which one must come with each request; and what else
      ``ServerSettings`` explains: ``cors``, ``hosts``, ``queue``, ``unload_after`` and limits;
    - ``adapter_scales``: the factors that adapters have when they are asked for as models, by name (1);
    - the keywords of ``Model`` for the models that are opened here (``context``, ``max_sequences``, …).

    What was opened is closed at the end of the application's lifespan, or by ``app.registry.close()``.
    Raises ``ValueError`` and ``TypeError`` for what cannot be; no file is looked at before a request.
    """
    given: dict[str, Any] = dict(options)
    aliases = given.pop("aliases", None) or ()
    keys = given.pop("api_key", None)
    scales = given.pop("adapter_scales", None)
    own = {name: given.pop(name) for name in SETTING_NAMES if name in given}
    if "api_keys" in own:
        raise TypeError("give keys as api_key=")
    settings = ServerSettings(api_keys=() if keys is None else keys, **own)
    unknown = given.keys() - OpenOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown option {', '.join(sorted(unknown))}")
    registry = Registry(models, settings, cast(OpenOptions, given), aliases, scales)
    return Application(registry, settings)


def shape_of(path: str) -> Shape:
    """How errors of a path look."""
    if path.startswith("/api/"):
        return ollama_shape
    if path.startswith("/v1/messages"):
        return anthropic_shape
    if path.startswith("/v1/"):
        return openai_shape
    return llama_shape


def _is_public(method: str, path: str) -> bool:
    """Whether no key is needed: to see that the server lives, and to load the page that asks for one."""
    if method not in _READING:
        return False
    return path in _PUBLIC or path == "/" or path.startswith("/ui/")


class _Table:
    """Collects routes."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self.routes: list[Route] = []

    def add(
        self,
        methods: str,
        paths: str,
        handler: Handler,
        fail_stream: FailStream = fail_event_stream,
    ) -> None:
        """Give several paths, separated by spaces, to one handler."""
        for path in paths.split():
            endpoint = Endpoint(handler, self._settings, shape_of(path), fail_stream)
            self.routes.append(Route(path, endpoint, methods=methods.split()))


def _add_ollama(table: _Table, core: Core) -> None:
    ollama = Ollama(core)
    page = WebPage(ollama, is_on=core.settings.ui)
    table.add("GET HEAD", "/", page.root)
    table.add("GET HEAD", "/ui/{name:path}", page.part)
    table.add("GET HEAD", "/api/version", ollama.version)
    table.add("GET HEAD", "/api/tags", ollama.tags)
    table.add("GET", "/api/ps", ollama.ps)
    table.add("POST", "/api/show", ollama.show)
    table.add("POST", "/api/chat", ollama.chat, fail_lines)
    table.add("POST", "/api/generate", ollama.generate, fail_lines)
    table.add("POST", "/api/pull", Pulling(core), fail_lines)
    embeddings = Embeddings(core)
    table.add("POST", "/api/embed", embeddings.ollama)
    table.add("POST", "/api/embeddings", embeddings.old_ollama)


def routes(core: Core) -> list[Route]:
    """All paths of the server."""
    table = _Table(core.settings)
    llama, completion, models = LlamaEndpoints(core), LlamaCompletion(core), Models(core)
    table.add("GET", "/health /v1/health", llama.health)
    table.add("GET", "/models /v1/models", models.list)
    table.add("GET", "/models/{name:path} /v1/models/{name:path}", models.one)
    table.add("POST", "/chat/completions /v1/chat/completions", ChatCompletions(core))
    table.add("POST", "/v1/completions", Completions(core))
    table.add(
        "POST",
        "/chat/completions/input_tokens /v1/chat/completions/input_tokens",
        llama.count_chat_tokens,
    )
    table.add("POST", "/responses /v1/responses", Responses(core), fail_named_event_stream)
    embeddings = Embeddings(core)
    table.add("POST", "/v1/embeddings", embeddings.openai)
    table.add("POST", "/embeddings", embeddings.openai_or_llama)
    table.add("POST", "/embedding", embeddings.llama)
    messages = AnthropicMessages(core)
    table.add("POST", "/v1/messages", messages.create, fail_named_event_stream)
    table.add("POST", "/v1/messages/count_tokens", messages.count)
    _add_ollama(table, core)
    table.add("GET", "/props", llama.props)
    table.add("GET", "/slots", llama.slots)
    adapters = LoraAdapters(core.registry)
    table.add("GET", "/lora-adapters", adapters.list)
    table.add("POST", "/lora-adapters", adapters.set)
    table.add("GET", "/metrics", llama.metrics)
    table.add("POST", "/tokenize", llama.tokenize)
    table.add("POST", "/detokenize", llama.detokenize)
    table.add("POST", "/apply-template", llama.apply_template)
    table.add("POST", "/completion /completions", completion.complete)
    table.add("POST", "/infill", completion.infill)
    return table.routes
