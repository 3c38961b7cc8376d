"""Several models: found by name, opened when asked for, closed when nobody needs them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import create_app, registry

ASK = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}


def ask(app: Any, **body: Any) -> Any:
    return asyncio.run(Client(app).post("/v1/chat/completions", {**ASK, **body}))


@pytest.fixture
def paths(make_tiny_model: Any) -> list[Path]:
    return [make_tiny_model(), make_tiny_model(seed=5)]


def test_models_open_when_they_are_asked_for(paths: list[Path]) -> None:
    app = create_app(paths, threads=1)
    first, second = app.registry.all
    assert first.model is None
    assert ask(app).json["model"] == first.name == paths[0].stem
    assert first.model is not None
    assert second.model is None
    assert ask(app, model=second.name).json["model"] == second.name
    for spelling in (str(paths[1]), paths[1].name, f"{second.name}:latest"):
        assert ask(app, model=spelling).json["model"] == second.name
    assert ask(app, model="other").status == 404
    models = [served.model for served in app.registry.all]
    app.registry.close()
    assert all(model is not None and model.closed for model in models)
    assert first.model is None


def test_many_at_once_open_a_model_once(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    really = registry.Registry._open

    def opening(self: Any, served: Any) -> Model:
        opened.append(served.name)
        return really(self, served)

    monkeypatch.setattr(registry.Registry, "_open", opening)
    app = create_app({"a": paths[0]}, threads=1)

    async def main() -> list[int]:
        client = Client(app)
        answers = [client.post("/v1/chat/completions", ASK) for _ in range(10)]
        return [response.status for response in await asyncio.gather(*answers)]

    assert asyncio.run(main()) == [200] * 10
    assert len(opened) == 1
    app.registry.close()


def test_aliases(model: Model, paths: list[Path]) -> None:
    app = create_app({"tiny": model}, aliases=["gpt-4o", "*"])
    for name in ("gpt-4o", "tiny", "anything"):
        assert ask(app, model=name).json["model"] == "tiny"
    listed = asyncio.run(Client(app).get("/v1/models")).json["data"]
    assert [entry["id"] for entry in listed] == ["tiny", "gpt-4o"]
    two = create_app(paths, aliases=["one", "two"])
    assert two.registry.find("two") is two.registry.all[1]
    with pytest.raises(ValueError, match="3 aliases"):
        create_app(paths, aliases=["a", "b", "c"])
    with pytest.raises(ValueError, match="name"):
        create_app(paths, aliases=["a", "a"])


@pytest.mark.parametrize("models", [[], {}, 5, [5], {5: "x"}, {"": "x"}, b"x", [b"x"]])
def test_what_cannot_be_served(models: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        create_app(models)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    app = create_app(tmp_path / "none.gguf")
    response = ask(app)
    assert response.status == 404
    assert "none.gguf" in response.json["error"]["message"]
    assert app.registry.all[0].users == 0


def test_a_lent_model_is_left_to_its_owner(model: Model) -> None:
    app = create_app(model)
    assert ask(app).status == 200
    app.registry.close()
    assert not model.closed


def test_too_many_requests_are_sent_away(model: Model) -> None:
    app = create_app({"tiny": model}, queue=2)

    async def main() -> list[Any]:
        client = Client(app)
        body = {**ASK, "max_tokens": 200, "ignore_eos": True}
        asks = [client.post("/v1/chat/completions", body) for _ in range(12)]
        return list(await asyncio.gather(*asks))

    responses = asyncio.run(main())
    assert sorted({response.status for response in responses}) == [200, 429]
    refused = next(response for response in responses if response.status == 429)
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert sum(response.status == 200 for response in responses) == model.max_sequences + 2
    assert ask(app).status == 200


def test_a_model_that_nobody_uses_is_unloaded(paths: list[Path]) -> None:
    app = create_app(paths[0], unload_after=0.1, threads=1)

    async def main() -> None:
        client = Client(app)
        assert (await client.post("/v1/chat/completions", ASK)).status == 200
        (served,) = app.registry.all
        model = served.model
        assert model is not None
        for _ in range(200):
            if served.model is None:
                break
            await asyncio.sleep(0.02)
        assert served.model is None
        assert (await client.post("/v1/chat/completions", ASK)).status == 200
        assert served.model is not model

    asyncio.run(main())
    app.registry.close()


def test_the_oldest_model_makes_room_for_another(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(paths, threads=1)
    first, second = app.registry.all
    whole = registry.plan

    def crowded(source: str, **options: Any) -> Any:
        planned = whole(source, **options)
        free = 0 if first.model is not None else planned.available
        return type(planned)(
            **{n: getattr(planned, n) for n in planned.__slots__ if n != "available"},
            available=free,
        )

    monkeypatch.setattr(registry, "plan", crowded)
    assert ask(app, model=first.name).status == 200
    assert ask(app, model=second.name).status == 200
    assert first.model is None
    assert second.model is not None
    app.registry.close()


def test_memory_that_is_not_there(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = registry.plan

    def none(source: str, **options: Any) -> Any:
        planned = whole(source, **options)
        return type(planned)(
            **{n: getattr(planned, n) for n in planned.__slots__ if n != "available"},
            available=1000,
        )

    monkeypatch.setattr(registry, "plan", none)
    response = ask(create_app(paths[0]))
    assert response.status == 503
    assert "bytes" in response.json["error"]["message"]
    assert response.headers["retry-after"]
