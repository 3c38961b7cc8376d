"""Filling in the middle: the calls of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyqwen import Model
from pyqwen.errors import UnsupportedModelError

# Tokens of control characters play the roles.
ROLES = {
    "fim_pre": 188,
    "fim_suf": 189,
    "fim_mid": 190,
    "fim_pad": 191,
    "fim_rep": 192,
    "fim_sep": 193,
}
WARM: dict[str, Any] = {"temperature": 1.0, "seed": 3, "max_tokens": 12}


@pytest.fixture(scope="module")
def coder(make_tiny_model: Callable[..., Path]) -> Iterator[Model]:
    keys = {f"tokenizer.ggml.{name}_token_id": token for name, token in ROLES.items()}
    with Model(make_tiny_model(metadata=keys), threads=1) as model:
        yield model


def test_the_prompt(coder: Model) -> None:
    encode = coder.tokenizer.encode
    ids = [188, *encode("The quick"), 189, *encode(" fox"), 190]
    expected = coder.generate(ids, stop_token_ids=list(ROLES.values()), **WARM)
    done = coder.infill("The quick", " fox", **WARM)
    assert (done.text, done.token_ids) == (expected.text, expected.token_ids)
    assert done.usage.prompt_tokens == len(ids)
    head = [192, *encode("r\n"), 193, *encode("a\nsea\n"), 193, *encode("b\n")]
    expected = coder.generate([*head, *ids], stop_token_ids=list(ROLES.values()), **WARM)
    files = {"a": "sea\n"}
    done = coder.infill("The quick", " fox", files=files, filename="b", repository="r", **WARM)
    assert done.token_ids == expected.token_ids


def test_streams_and_asyncio(coder: Model) -> None:
    expected = coder.infill("The quick", " fox", **WARM)
    with coder.stream_infill("The quick", " fox", **WARM) as stream:
        assert "".join(chunk.text for chunk in stream) == expected.text

    async def ask() -> None:
        assert (await coder.ainfill("The quick", " fox", **WARM)).text == expected.text
        stream = coder.astream_infill("The quick", " fox", **WARM)
        assert "".join([chunk.text async for chunk in stream]) == expected.text

    asyncio.run(ask())


@pytest.mark.parametrize("token", ROLES.values())
def test_tokens_of_the_form_end_it(
    coder: Model, spelling: Any, byte_tokens: Any, token: int
) -> None:
    letters = byte_tokens(coder, "abc")
    done = coder.infill("The", "fox", max_tokens=9, **spelling(coder, [*letters, token]))
    assert (done.text, done.finish_reason, done.stop_reason) == ("abc", "stop", None)


@pytest.mark.parametrize("max_tokens", [None, 5, 400])
def test_long_files_are_cut(coder: Model, max_tokens: int | None) -> None:
    text = "She sells sea shells by the sea shore. " * 200
    done = coder.infill(text, text, max_tokens=max_tokens, seed=1)
    assert done.usage.total_tokens <= coder.context
    assert done.usage.prompt_tokens > coder.context * 3 // 8


def test_other_models_are_refused(model: Model) -> None:
    with pytest.raises(UnsupportedModelError, match=r"tiny-\d+\.gguf: this model cannot fill in"):
        model.infill("a", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prefix": 1}, "prefix must be a text, not int"),
        ({"suffix": None}, "suffix must be a text, not NoneType"),
        ({"files": ["a"]}, "files must be a dict of names and texts, not list"),
        ({"files": {"a": 1}}, "files must map names to texts, not str and int"),
        ({"filename": b"a"}, "filename must be a text, not bytes"),
        ({"repository": 1}, "repository must be a text, not int"),
        ({"special": True}, "unknown sampling setting special"),
    ],
)
def test_what_is_no_text(coder: Model, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        coder.infill(**{"prefix": "a", "suffix": "b", **arguments})


@pytest.mark.qwen
def test_a_trained_coder(qwen_path: Path) -> None:
    with Model(qwen_path, context=1024) as model:
        options: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.0, "max_tokens": 40}
        done = model.infill(
            "def add(first, second):\n    return ", "\n\n\nprint(add(1, 2))\n", **options
        )
        assert done.text.startswith("first + second")
        prefix = "from shapes import area_of_"
        plain = model.infill(prefix, "\n\nprint(", **options)
        files = {"shapes.py": "def area_of_pentagram(r):\n    return 1.123 * r * r\n"}
        told = model.infill(prefix, "\n\nprint(", files=files, filename="main.py", **options)
        assert told.text.startswith("pentagram")
        assert not plain.text.startswith("pentagram")
