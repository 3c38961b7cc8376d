"""Adapters over HTTP: models of their own names, llama.cpp's numbers, and what is refused."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import Client

from pyqwen import Model
from pyqwen.serve import create_app

sys.path.append(str(Path(__file__).parents[1] / "adapters"))
import peft_files as pf

MESSAGES = [{"role": "user", "content": "She sells sea shells."}]
CHAT = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def adapted(
    tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Model]]:
    folder = tmp_path_factory.mktemp("adapters")
    paths = {
        "poems": pf.write_adapter(folder / "poems", pf.factors(1)),
        "code": pf.write_adapter(folder / "code", pf.factors(2)),
    }
    with Model(tiny_model_path, threads=1, adapters=paths) as model:
        yield create_app({"tiny": model}, adapter_scales={"code": 0.5}), model


def post(app: Any, path: str, body: Any) -> Any:
    return asyncio.run(Client(app).post(path, body))


def get(app: Any, path: str) -> Any:
    return asyncio.run(Client(app).get(path))


@pytest.mark.parametrize(
    ("asked", "adapter"),
    [("tiny", None), ("poems", "poems"), ("code", {"code": 0.5})],
)
def test_an_adapter_is_a_model(adapted: tuple[Any, Model], asked: str, adapter: Any) -> None:
    app, model = adapted
    own = model.chat(MESSAGES, max_tokens=8, temperature=0, adapter=adapter)
    response = post(app, "/v1/chat/completions", {**CHAT, "model": asked})
    assert response.json["choices"][0]["message"]["content"] == own.text
    assert response.json["model"] == asked
    body = {"model": asked, "messages": MESSAGES, "max_tokens": 8, "temperature": 0}
    response = post(app, "/v1/messages", body)
    assert response.json["content"][0]["text"] == own.text
    assert response.json["model"] == asked
    options = {"num_predict": 8, "temperature": 0}
    body = {"model": f"{asked}:latest", "messages": MESSAGES, "stream": False, "options": options}
    assert post(app, "/api/chat", body).json["message"]["content"] == own.text


def test_llama_cpps_numbers(adapted: tuple[Any, Model]) -> None:
    app, model = adapted
    for lora, adapter in (
        ([], None),
        ([{"id": 0, "scale": 0.25}], {"poems": 0.25}),
        ([{"id": 1, "scale": -1}, {"id": 0, "scale": 1}], {"code": -1, "poems": 1}),
    ):
        own = model.generate("Hi", max_tokens=6, temperature=0, adapter=adapter)
        body = {"prompt": "Hi", "n_predict": 6, "temperature": 0, "lora": lora}
        assert post(app, "/completion", body).json["content"] == own.text
        chat = model.chat(MESSAGES, max_tokens=8, temperature=0, adapter=adapter)
        answer = post(app, "/v1/chat/completions", {**CHAT, "model": "poems", "lora": lora})
        assert answer.json["choices"][0]["message"]["content"] == chat.text


def test_lists(adapted: tuple[Any, Model]) -> None:
    app, _ = adapted
    data = {entry["id"]: entry for entry in get(app, "/v1/models").json["data"]}
    assert list(data) == ["tiny", "poems", "code"]
    assert "parent" not in data["tiny"]
    assert data["poems"]["parent"] == "tiny"
    assert get(app, "/v1/models/code").json["id"] == "code"
    listed = get(app, "/lora-adapters").json
    assert [(entry["id"], entry["path"], entry["scale"]) for entry in listed] == [
        (0, "poems", 0.0),
        (1, "code", 0.0),
    ]


def test_what_is_refused(adapted: tuple[Any, Model], tiny_model_path: Path) -> None:
    app, model = adapted
    for lora, status in (
        ([{"id": 2, "scale": 1}], 400),
        ([{"id": -1, "scale": 1}], 400),
        ([{"id": 0}], 400),
        ("poems", 400),
        ([{"id": 0, "scale": 1e300}], 400),
    ):
        assert post(app, "/v1/chat/completions", {**CHAT, "lora": lora}).status == status, lora
    response = post(app, "/v1/chat/completions", {**CHAT, "model": "prose"})
    assert response.status == 404
    assert "tiny, poems, code" in response.text
    assert post(app, "/lora-adapters", [{"id": 0, "scale": 1}]).status == 501
    assert post(app, "/v1/embeddings", {"model": "poems", "input": "a"}).status == 400
    with pytest.raises(ValueError, match="there is no adapter 'prose'"):
        create_app({"tiny": model}, adapter_scales={"prose": 1.0})
    with pytest.raises(ValueError, match="two models have the name 'poems'"):
        create_app({"tiny": model, "poems": tiny_model_path})
    with pytest.raises(ValueError, match="several"):
        create_app([tiny_model_path, "other.gguf"], adapters={"a": "b"})


def test_a_model_that_the_server_opens(tiny_model_path: Path, tmp_path: Path) -> None:
    path = pf.write_adapter(tmp_path / "own", pf.factors(3))
    app = create_app({"tiny": tiny_model_path}, adapters={"own": path}, threads=1)
    assert [entry["id"] for entry in get(app, "/v1/models").json["data"]] == ["tiny", "own"]
    answers = [
        post(app, "/v1/chat/completions", {**CHAT, "model": name}).json["choices"][0]["message"]
        for name in ("tiny", "own")
    ]
    app.registry.close()
    with Model(tiny_model_path, adapters={"own": path}, threads=1) as model:
        for message, adapter in zip(answers, (None, "own"), strict=True):
            own = model.chat(MESSAGES, max_tokens=8, temperature=0, adapter=adapter)
            assert message["content"] == own.text
