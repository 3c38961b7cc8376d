"""Who may use the server: hosts, origins, keys, and limits on what they send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import ServerSettings, create_app


def get(app: Any, path: str = "/v1/models", **headers: str) -> Any:
    return asyncio.run(Client(app).get(path, headers=headers))


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1:9", "[::1]:8080", "192.168.1.5:80", "a.localhost"],
)
def test_own_names_are_let_in(app: Any, host: str) -> None:
    assert get(app, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "x",
        "@",
    ],
)
def test_names_of_others_are_refused_before_anything_else(model: Model, host: str) -> None:
    app = create_app({"tiny": model}, api_key="secret")
    for path in ("/v1/models", "/health", "/", "/nothing"):
        response = get(app, path, host=host)
        assert response.status == 403
        assert "Host" in response.text


def test_a_named_host_is_let_in(model: Model) -> None:
    app = create_app({"tiny": model}, hosts=["llm.example"])
    assert get(app, host="LLM.example:443").status == 200
    assert get(app, host="other.example").status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "https://localhost", "file://"],
)
def test_pages_of_others_are_refused(app: Any, origin: str) -> None:
    response = get(app, origin=origin)
    assert response.status == 403
    assert "access-control-allow-origin" not in response.headers
    preflight = asyncio.run(Client(app).ask("OPTIONS", "/v1/models", headers={"origin": origin}))
    assert preflight.status == 403


def test_the_own_page_may_call(app: Any) -> None:
    response = get(app, host="localhost:8080", origin="http://localhost:8080")
    assert response.status == 200
    assert "access-control-allow-origin" not in response.headers


def test_named_pages_may_call(model: Model) -> None:
    app = create_app({"tiny": model}, cors=["https://app.example"], api_key="k")
    origin = "https://app.example"
    preflight = asyncio.run(
        Client(app).ask(
            "OPTIONS",
            "/v1/chat/completions",
            headers={"origin": origin, "access-control-request-headers": "authorization"},
        )
    )
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    response = get(app, origin=origin, authorization="Bearer k")
    assert response.status == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in response.headers
    assert get(app, origin="https://other.example", authorization="Bearer k").status == 403


def test_keys(model: Model) -> None:
    app = create_app({"tiny": model}, api_key=["one", "two"])
    assert get(app).status == 401
    assert get(app).headers["www-authenticate"] == "Bearer"
    assert get(app).json["error"]["type"] == "authentication_error"
    for wrong in ("Bearer on", "Bearer one two", "Basic one", "one", "Bearer ", "Bearer \xff"):
        assert get(app, authorization=wrong).status == 401, wrong
    for right in ("Bearer one", "bearer two"):
        assert get(app, authorization=right).status == 200
    assert get(app, **{"x-api-key": "two"}).status == 200
    assert get(app, "/health").status == 200
    assert asyncio.run(Client(app).post("/health", {})).status == 401
    assert get(app, "/metrics").status == 401


def test_errors_have_the_shape_of_their_api(app: Any) -> None:
    def post(path: str) -> Any:
        return asyncio.run(Client(app).post(path, b"{")).json

    assert set(post("/v1/chat/completions")["error"]) >= {"message", "type", "param", "code"}
    assert post("/completion")["error"]["code"] == 400
    assert isinstance(asyncio.run(Client(app).get("/api/nothing")).json["error"], str)
    assert asyncio.run(Client(app).get("/v1/messages/nothing")).json["type"] == "error"


def test_large_bodies_and_many_headers(model: Model) -> None:
    app = create_app({"tiny": model}, max_body=2000)

    async def main() -> None:
        client = Client(app)
        body = {"messages": [{"role": "user", "content": "x" * 3000}]}
        assert (await client.post("/v1/chat/completions", body)).status == 413
        declared = await client.post(
            "/v1/chat/completions", b"{}", headers={"content-length": "9" * 400}
        )
        assert declared.status == 413
        many = {f"x-{i}": "a" for i in range(200)}
        assert (await client.get("/health", headers=many)).status == 431

    asyncio.run(main())


def test_a_body_that_does_not_come(model: Model) -> None:
    app = create_app({"tiny": model}, body_seconds=0.1)

    async def main() -> int:
        visit = Client(app).visit("POST", "/v1/chat/completions", b"")
        visit._parts = []  # nothing ever arrives
        await asyncio.wait_for(visit.task, 5)
        return visit.response.status

    assert asyncio.run(main()) == 408


def test_mounted_below_a_path(app: Any) -> None:
    response = asyncio.run(Client(app).get("/v1/models", root_path="/llm"))
    assert response.status == 200


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": ""},
        {"api_key": "with space"},
        {"api_key": 5},
        {"cors": ["example.org"]},
        {"queue": -1},
        {"max_body": True},
        {"keep_alive": 0},
        {"unload_after": float("nan")},
        {"ui": "yes"},
        {"contxt": 5},
        {"aliases": [5]},
    ],
)
def test_settings_that_cannot_be(model: Model, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        create_app({"tiny": model}, **options)
    with pytest.raises((ValueError, TypeError)):
        ServerSettings(cors=b"bytes")  # type: ignore[arg-type]
