"""Answers by schemas and grammars, of a model with random weights: it obeys like any other."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pyqwen import Constraint, Model
from pyqwen.errors import ConstraintError

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "<|im_end|>"]}, "maxItems": 3},
        "kind": {"const": "<|im_end|>\n<tool_call>"},
    },
    "required": ["name", "age", "tags", "kind"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("whitespace", ["flexible", "compact"])
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_object(model: Model, whitespace: Any, temperature: float) -> None:
    constraint = Constraint.json(PERSON, whitespace=whitespace)
    for seed in range(5):
        completion = model.chat(
            "Who?", response_format=constraint, temperature=temperature, seed=seed
        )
        assert completion.finish_reason == "stop"
        assert completion.parsed == json.loads(completion.text)
        assert list(completion.parsed) == PERSON["required"]
        jsonschema.validate(completion.parsed, PERSON)
        assert completion.unenforced == ()
        if whitespace == "compact":
            assert not re.search(r"\s", re.sub(r'"(\\.|[^"\\])*"', "", completion.text))


def test_what_openai_takes(model: Model) -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    a = model.chat("Who?", response_format=wrapped, seed=1)
    b = model.chat("Who?", response_format=PERSON, seed=1)
    assert a.text == b.text
    assert model.chat("Who?", response_format={"type": "text"}, seed=1, max_tokens=3).parsed is None
    free = model.chat("Who?", response_format={"type": "json_object"}, seed=1, max_tokens=300)
    assert free.parsed is None or isinstance(free.parsed, dict)
    assert free.text.startswith("{")
    with pytest.raises(ConstraintError, match=r"json_schema\.schema"):
        model.chat("Who?", response_format={"type": "json_schema"})


def test_other_grammars(model: Model) -> None:
    def answer(constraint: Constraint) -> str:
        completion = model.generate("Say", response_format=constraint, seed=3, max_tokens=200)
        assert completion.finish_reason == "stop"
        assert completion.parsed == completion.text
        return completion.text

    assert re.fullmatch(r"[A-C]{3}-\d\d", answer(Constraint.regex(r"[A-C]{3}-[0-9]{2}")))
    choices = ["yes", "no", "may(be)", "a.b", "Ja, gern", "<|im_end|>"]
    for choice in choices:
        assert answer(Constraint.choice([choice])) == choice
    assert answer(Constraint.choice(choices)) in choices
    assert answer(Constraint.lark('start: <tool_call> "x"{2,3} "y"')) in (
        "<tool_call>xxy",
        "<tool_call>xxxy",
    )
    assert answer(Constraint.gbnf('root ::= "a" ("b" | [0-9])\n')) in ["ab"] + [
        f"a{i}" for i in range(10)
    ]


def test_cut_answers_have_no_parsed(model: Model) -> None:
    completion = model.chat("Who?", response_format=PERSON, max_tokens=5)
    assert (completion.finish_reason, completion.parsed) == ("length", None)


def test_streams(model: Model) -> None:
    whole = model.chat("Who?", response_format=PERSON, seed=1)
    with model.stream_chat("Who?", response_format=PERSON, seed=1) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text == whole.text
    assert stream.completion.parsed == whole.parsed

    async def chat() -> None:
        assert (await model.achat("Who?", response_format=PERSON, seed=1)).parsed == whole.parsed
        stream = model.astream_chat("Who?", response_format=PERSON, seed=1)
        assert "".join([chunk.text async for chunk in stream]) == whole.text
        assert stream.completion.parsed == whole.parsed

    asyncio.run(chat())


def test_partial(model: Model) -> None:
    seen: list[Any] = []
    with model.stream_chat("Who?", response_format=PERSON, seed=1) as stream:
        assert stream.partial is None
        for _ in stream:
            seen.append(stream.partial)
    assert seen[-1] == stream.completion.parsed
    sizes = [len(json.dumps(part)) for part in seen if part is not None]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 5
    assert all(list(part) == PERSON["required"][: len(part)] for part in seen if part is not None)


def test_together_as_alone(tiny_model_path: Path) -> None:
    """64 threads, then 64 tasks, half of them free: each answer is the one alone, whatever runs beside it."""
    formats = [None, PERSON, None, Constraint.choice(["one", "two"]), None, {"type": "object"}]
    jobs = [
        {"response_format": formats[i % 6], "seed": i, "max_tokens": 25, "temperature": 1}
        for i in range(64)
    ]

    def facts(done: Any) -> Any:
        return done.text, done.token_ids, done.finish_reason, done.parsed

    with Model(tiny_model_path, threads=2, max_sequences=8) as model:
        alone = [facts(model.chat(f"Question {i}", **job)) for i, job in enumerate(jobs)]
        with ThreadPoolExecutor(64) as pool:
            together = pool.map(lambda i: facts(model.chat(f"Question {i}", **jobs[i])), range(64))
            assert list(together) == alone

        async def tasks() -> list[Any]:
            calls = [model.achat(f"Question {i}", **job) for i, job in enumerate(jobs)]
            return [facts(done) for done in await asyncio.gather(*calls)]

        assert asyncio.run(tasks()) == alone
    with Model(tiny_model_path, threads=1, batch=9, max_sequences=3) as narrow:  # other borders
        for i in (1, 3, 5, 7):
            assert facts(narrow.chat(f"Question {i}", **jobs[i])) == alone[i]


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint.json({"$ref": "#"}),
        Constraint.regex("(a"),
        Constraint.lark("no rules"),
        Constraint.lark("start: <no_such_token>"),
    ],
)
def test_impossible_ones_are_errors(model: Model, constraint: Constraint) -> None:
    with pytest.raises(ConstraintError):
        model.chat("Who?", response_format=constraint)
    assert model.chat("Who?", max_tokens=1).usage.completion_tokens
