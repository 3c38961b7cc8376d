"""A hub on 127.0.0.1 that speaks the protocol of the Hugging Face hub, and caches of their own."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Request:
    method: str
    path: str
    token: str | None
    range: str | None
    host: str


@dataclass
class FakeHub:
    """Repositories served over HTTP; the attributes below make it misbehave."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict[str, str]] = field(default_factory=dict)
    token: str | None = None  # required on the hub, never wanted on the storage host
    cut_after: int | None = None  # bytes of a body after which the connection is closed
    cuts_left: int = 0  # how many bodies are cut; after that, the storage answers 503 ...
    down_after_cut: bool = False  # ... if this is set
    page: bytes | None = None  # what a captive portal answers instead of the listing
    corrupt: bool = False  # serve other bytes than the checksum says
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repo: str, path: str, content: bytes) -> bytes:
        self.repos.setdefault(repo, {})[path] = content
        return content

    def blob(self, digest: str) -> bytes | None:
        contents = (content for files in self.repos.values() for content in files.values())
        return next((c for c in contents if hashlib.sha256(c).hexdigest() == digest), None)

    def downloads(self) -> list[Request]:
        return [r for r in self.requests if r.method == "GET" and r.path.startswith("/storage/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the requests are recorded."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        host = (self.headers.get("Host") or "").partition(":")[0]
        self.hub.requests.append(
            Request(self.command, path, token, self.headers.get("Range"), host)
        )
        if match := re.fullmatch(r"/storage/([0-9a-f]{64})", path):
            self._storage(match[1])
        elif self.hub.token is not None and token != self.hub.token:
            self._send(401, b"{}")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            self._listing(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[3])
        else:
            self._send(404, b"{}")

    def _listing(self, repo: str) -> None:
        if self.hub.page is not None:
            self._send(200, self.hub.page)
            return
        if repo not in self.hub.repos:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = [
            {
                "rfilename": path,
                "size": len(content),
                "blobId": hashlib.sha1(content).hexdigest(),
                "lfs": {
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "size": len(content),
                    "pointerSize": 130,
                },
            }
            for path, content in self.hub.repos[repo].items()
        ]
        card = self.hub.cards.get(repo, {})
        answer = {"id": repo, "sha": COMMIT, "siblings": siblings, "cardData": card}
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo: str, path: str) -> None:
        content = self.hub.repos.get(repo, {}).get(path)
        if content is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-ETag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            # Another host name, as the real hub redirects to its storage.
            "Location": f"http://localhost:{self.hub.port}/storage/{digest}",
        }
        self._send(302, b"", headers)

    def _storage(self, digest: str) -> None:
        content = self.hub.blob(digest)
        if self.hub.down_after_cut and self.hub.cuts_left == 0:
            self._send(503, b"")
            return
        if content is None:
            self._send(404, b"")
            return
        if self.hub.corrupt:
            content = bytes(reversed(content))
        headers, status = {"ETag": f'"{digest}"'}, 200
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        self._send(status, content, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if status in (200, 206) and self.hub.cuts_left and "/storage/" in self.path:
            self.hub.cuts_left -= 1
            self.wfile.write(body[: self.hub.cut_after])
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has empty caches, no network beyond this machine, and no settings of the user."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # It writes in steps of 10 MB; the files here are smaller.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "pyqwen"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheelhouse"))
    (tmp_path / "wheelhouse").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub, which ``HF_ENDPOINT`` names."""
    fake = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()
