"""The promise about errors: whatever a caller hands over, what comes back is a PyQwenError, a ValueError
or a TypeError. Every public callable meets every hostile argument; nothing may crash, hang or leak
another exception.
"""

from __future__ import annotations

import asyncio
import inspect as introspection
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pyqwen
from pyqwen import Model, PyQwenError, SamplingParams
from pyqwen.batches.public import BatchOptions
from pyqwen.options import ChatOptions, GenerateOptions
from pyqwen.quantize import compare, convert, imatrix, quantize, read_imatrix

PROMISED = (PyQwenError, ValueError, TypeError)


DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]
LOOP: list[Any] = []
LOOP.append(LOOP)

HOSTILE: dict[str, Any] = {
    "none": None,
    "true": True,
    "minus one": -1,
    "zero": 0,
    "two to the 31": 2**31,
    "two to the 64": 2**64,
    "huge": 10**400,
    "huge negative": -(10**5000),
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "largest float": 1.7e308,
    "empty text": "",
    "nul": "a\0b",
    "half a character": "\ud800",
    "a byte that is no text": "caf\udce9",
    "a long name": "x" * 5000,
    "a long path": "/".join(["y" * 200] * 40),
    "control token": "<|im_start|>",
    "bytes": b"bytes",
    "empty list": [],
    "list of None": [None],
    "list of huge": [10**30],
    "list of negative": [-1],
    "list of floats": [1.5],
    "list of texts": ["a", 1],
    "list of itself": LOOP,
    "deep": DEEP,
    "empty dict": {},
    "dict": {"a": 1},
    "dict of huge": {10**30: 10**400},
    "dict of nan": {1: math.nan},
    "object": object(),
    "a class": int,
    "a function": len,
    "complex": 1j,
    "set": {1, 2},
    "generator": (i for i in ()),
    "a folder": Path("/"),
    "a device": Path("/dev/null"),
}


def keywords(function: Callable[..., Any]) -> list[str]:
    """The names of all that can be given by keyword."""
    parameters = introspection.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]


@pytest.fixture(autouse=True)
def _broken() -> Iterator[None]:
    """Fail with all that broke the promise, not with the first alone."""
    BROKEN.clear()
    yield
    assert not BROKEN, "\n".join(BROKEN)


BROKEN: list[str] = []


def attempt(call: Callable[[], Any], what: str) -> None:
    try:
        result = call()
        if introspection.iscoroutine(result) or isinstance(result, Model | pyqwen.Stream):
            result.close()
    except PROMISED:
        pass
    except Exception as error:
        BROKEN.append(f"{what} raised {type(error).__name__}: {error}"[:200])


@pytest.fixture(scope="module")
def model(tiny_model_path: Path) -> Iterator[Model]:
    with Model(tiny_model_path, context=128, threads=1) as model:
        yield model


@pytest.mark.parametrize("name", keywords(SamplingParams))
def test_sampling_params(name: str) -> None:
    for kind, value in HOSTILE.items():
        attempt(lambda value=value: SamplingParams(**{name: value}), f"{name} = {kind}")


MODEL_CALLS = ["generate", "stream", "chat", "stream_chat", "logits", "logprobs"]
SEVERAL = ["generate_n", "chat_n", "stream_n", "stream_chat_n"]


@pytest.mark.parametrize("method", MODEL_CALLS)
def test_what_a_model_is_asked(
    model: Model, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where sessions of these names are written
    call = getattr(model, method)
    generates = method not in ("logits", "logprobs")
    for kind, value in HOSTILE.items():
        limit = {"max_tokens": 2} if generates else {}
        attempt(lambda v=value, k=limit: call(v, **k), f"{method}({kind})")
        options_of = ChatOptions if "chat" in method else GenerateOptions
        for name in [*keywords(call)[1:], *(options_of.__annotations__ if generates else [])]:
            options: dict[str, Any] = {**limit, name: value}
            if name == "max_tokens" and isinstance(value, int) and value > 100:
                continue  # as many tokens as fit: valid, and long
            attempt(
                lambda o=options: call([1, 2, 3] if "chat" not in method else "Hi", **o),
                f"{method}(..., {name}={kind})",
            )


@pytest.mark.parametrize("method", ["sync", "eval", "rewind", "save", "load"])
def test_sessions(
    model: Model, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with model.session() as session:
        session.sync([1, 2, 3])
        for kind, value in HOSTILE.items():
            attempt(lambda v=value: getattr(session, method)(v), f"session.{method}({kind})")
            attempt(lambda: session.eval([1]) if len(session) < 100 else None, f"eval after {kind}")
        for kind, value in HOSTILE.items():
            session.extra = value
            attempt(lambda: session.save("a"), f"session.extra = {kind}")


@pytest.mark.parametrize("method", SEVERAL)
def test_how_many_answers(model: Model, method: str) -> None:
    call = getattr(model, method)
    for kind, value in HOSTILE.items():
        attempt(lambda v=value: call("Hi", v, max_tokens=1), f"{method}(n={kind})")
        attempt(lambda v=value: call(v, 2, max_tokens=1), f"{method}({kind})")


@pytest.mark.parametrize("method", ["embed", "aembed", "embed_prompt"])
def test_what_is_embedded(model: Model, method: str) -> None:
    def call(*args: Any, **options: Any) -> Any:
        result = getattr(model, method)(*args, **options)
        return asyncio.run(result) if introspection.iscoroutine(result) else result

    names = ("pooling", "normalize", "instruction", "dimensions")
    for kind, value in HOSTILE.items():
        for texts in (value, [value], ["a", value]):
            attempt(lambda t=texts: call(t), f"{method}({kind})")
        for name in keywords(getattr(model, method)):
            if name in names:
                attempt(lambda o={name: value}: call("Hi", **o), f"{method}({name}={kind})")


@pytest.mark.parametrize("method", ["infill", "stream_infill"])
def test_filling_in(make_tiny_model: Callable[..., Path], method: str) -> None:
    roles = {
        f"tokenizer.ggml.fim_{role}_token_id": i
        for i, role in enumerate(["pre", "suf", "mid", "sep"])
    }
    with Model(make_tiny_model(metadata=roles), context=128, threads=1) as model:
        call = getattr(model, method)
        for kind, value in HOSTILE.items():
            attempt(lambda v=value: call(v, "b", max_tokens=2), f"{method}({kind}, ...)")
            attempt(lambda v=value: call("a", v, max_tokens=2), f"{method}(..., {kind})")
            for name in ("files", "filename", "repository"):
                for options in ({name: value}, {name: {"a": value}, "filename": "b"}):
                    attempt(
                        lambda o=options: call("a", "b", **{"max_tokens": 2, **o}),
                        f"{method}(..., {name}={kind})",
                    )


def test_messages(model: Model) -> None:
    for kind, value in HOSTILE.items():
        for message in (
            value,
            {"role": value, "content": "a"},
            {"role": "user", "content": value},
            {"role": "assistant", "content": "a", "token_ids": value},
            {"role": "assistant", "content": "a", "tool_calls": value},
            {"role": "user", "content": "a", "extra": value},
        ):
            attempt(lambda m=message: model.chat([m], max_tokens=1), f"a message of {kind}")


@pytest.mark.parametrize(
    "method", ["encode", "decode", "encode_segments", "token_bytes", "id_to_piece", "is_control"]
)
def test_the_tokenizer(model: Model, method: str) -> None:
    for kind, value in HOSTILE.items():
        attempt(lambda v=value: getattr(model.tokenizer, method)(v), f"{method}({kind})")


@pytest.mark.parametrize(
    ("function", "skip"),
    [(Model, ()), (pyqwen.plan, ()), (pyqwen.inspect, ()), (pyqwen.pull, ())],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_opening(
    function: Callable[..., Any],
    skip: tuple[str, ...],
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    first, *others = keywords(function)
    for kind, value in HOSTILE.items():
        attempt(lambda v=value: function(v), f"{first} = {kind}")
        for name in others:
            if name not in skip and function is not pyqwen.pull:
                attempt(
                    lambda n=name, v=value: function(tiny_model_path, **{n: v}), f"{name} = {kind}"
                )


def test_batches(model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "in"
    source.write_text(
        '{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}}'
    )
    names = [*keywords(pyqwen.batch), *BatchOptions.__annotations__]
    for name in names:
        for kind, value in HOSTILE.items():
            if name in ("ray", "ray_address") and isinstance(value, bool | str):
                continue  # a cluster, which is looked for or started
            given = {"source": source, "out": tmp_path / f"{name} {kind}", "model": "missing.gguf"}
            attempt(
                lambda g={**given, name: value}: pyqwen.batch(**g), f"batch(..., {name}={kind})"
            )
    for kind, value in HOSTILE.items():
        attempt(
            lambda v=value: pyqwen.batch(source, tmp_path / "out", model, progress=v),
            f"batch(..., progress={kind})",
        )


@pytest.mark.parametrize(
    "function", [quantize, convert, imatrix, compare, read_imatrix], ids=lambda f: f.__name__
)
def test_quantizing(
    function: Callable[..., Any],
    tiny_model_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    right: dict[str, dict[str, Any]] = {
        "quantize": {"source": tiny_model_path, "out": tmp_path / "o.gguf", "type": "Q4_0"},
        "convert": {"source": tmp_path, "out": tmp_path / "o.gguf"},
        "imatrix": {"model": tiny_model_path, "text": "a text", "out": tmp_path / "i.gguf"},
        "compare": {"reference": tiny_model_path, "model": tiny_model_path, "text": "a text"},
        "read_imatrix": {},
    }
    given = right[function.__name__]
    positional = list(introspection.signature(function).parameters)[: max(len(given), 1)]
    arguments = [
        given.get(name, value) for name, value in zip(positional, given.values(), strict=False)
    ]
    for kind, value in HOSTILE.items():
        for name in keywords(function):
            if name in positional:
                chosen = [
                    value if p == name else a for p, a in zip(positional, arguments, strict=False)
                ]
                chosen = chosen or [value]
                options = {}
            else:
                chosen, options = arguments, {name: value}
            attempt(
                lambda c=tuple(chosen), o=options: function(*c, **o),
                f"{function.__name__}(..., {name}={kind})",
            )


@pytest.mark.parametrize("method", ["json", "regex", "choice", "lark", "gbnf"])
def test_constraints(model: Model, method: str) -> None:
    make = getattr(pyqwen.Constraint, method)
    for kind, value in HOSTILE.items():

        def use(value: Any = value) -> Any:
            return model.chat("Hi", response_format=make(value), max_tokens=2)

        attempt(use, f"Constraint.{method}({kind})")
        attempt(lambda v=value: make([v]), f"Constraint.{method}([{kind}])")
        if method == "json":
            for name in ("whitespace", "strict"):
                attempt(
                    lambda n=name, v=value: make({}, **{n: v}), f"Constraint.json({name}={kind})"
                )
            for keyword in (
                "type",
                "properties",
                "items",
                "enum",
                "const",
                "$ref",
                "pattern",
                "required",
            ):
                attempt(lambda k=keyword, v=value: make({k: v}), f"a schema with {keyword}={kind}")


def test_response_formats(model: Model) -> None:
    for kind, value in HOSTILE.items():
        for wanted in (value, {"type": value}, {"type": "json_schema", "json_schema": value}):
            attempt(
                lambda w=wanted: model.chat("Hi", response_format=w, max_tokens=2),
                f"response_format={kind}",
            )
        attempt(
            lambda v=value: model.chat("Hi", response_format={}, strict=v, max_tokens=2),
            f"strict={kind}",
        )
