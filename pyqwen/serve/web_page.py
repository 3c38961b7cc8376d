"""The web page: files of this package under a strict policy, so that nothing else can run or be fetched."""

from __future__ import annotations

from pathlib import Path

from pyqwen.serve.errors import ApiError
from pyqwen.serve.exchange import Exchange
from pyqwen.serve.ollama import Ollama

_FOLDER = Path(__file__).parent / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
]


class WebPage:
    """The page at ``/`` for browsers, and its parts below ``/ui/``."""

    def __init__(self, ollama: Ollama, *, is_on: bool) -> None:
        self._ollama = ollama
        self._files: dict[str, tuple[bytes, str]] = {}
        if is_on:
            for path in sorted(_FOLDER.rglob("*")):
                if path.is_file() and path.suffix in _KINDS:
                    name = path.relative_to(_FOLDER).as_posix()
                    self._files[name] = (path.read_bytes(), _KINDS[path.suffix])

    async def root(self, exchange: Exchange) -> None:
        """Browsers get the page; others are clients of Ollama that look whether it is there."""
        if self._files and "text/html" in exchange.header(b"accept"):
            await self._send(exchange, "index.html")
        else:
            await self._ollama.root(exchange)

    async def part(self, exchange: Exchange) -> None:
        await self._send(exchange, exchange.scope["path_params"]["name"])

    async def _send(self, exchange: Exchange, name: str) -> None:
        if name not in self._files:
            raise ApiError(404, "the page has no such part", code="not_found")
        data, kind = self._files[name]
        await exchange.reply_bytes(data, kind, 200, _HEADERS)
