"""Every kind of schema: what the grammar lets through is valid, the rest is checked and named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from schema_kinds import CHECKED, ENFORCED

from pyqwen import Constraint, Model
from pyqwen.constraints.answers import read_json
from pyqwen.constraints.rewriting import modernized, narrowed
from pyqwen.errors import ConstraintError


def validate(text: str, schema: Any) -> None:
    """By an independent library, numbers as they are written."""
    exact = json.loads(json.dumps(modernized(schema)), parse_float=Decimal)
    jsonschema.Draft202012Validator(exact).validate(read_json(text, exact=True))


def answers(model: Model, schema: Any, n: int) -> Iterator[Any]:
    """What a model with random weights writes: any way through the grammar."""
    for seed in range(n):
        yield model.generate(
            "x",
            response_format=Constraint.json(schema, whitespace="compact"),
            seed=seed,
            max_tokens=80,
            temperature=1.5,
            top_k=0,
            top_p=1,
        )


@pytest.mark.parametrize("name", ENFORCED)
def test_enforced(model: Model, name: str) -> None:
    schema = ENFORCED[name]
    finished = 0
    for answer in answers(model, schema, 12):
        assert answer.unenforced == ()
        if answer.finish_reason == "stop":
            finished += 1
            validate(answer.text, schema)
            assert answer.parsed == json.loads(answer.text)
    assert finished > 0
    strict = Constraint.json(schema, strict=True)  # which can be enforced in full
    assert model.generate("x", response_format=strict, max_tokens=2).unenforced == ()


def attempt(model: Model, constraint: Constraint, seed: int) -> tuple[Any, ConstraintError | None]:
    try:
        return model.generate("x", response_format=constraint, seed=seed, max_tokens=80), None
    except ConstraintError as error:
        return None, error


@pytest.mark.parametrize("name", CHECKED)
def test_checked(model: Model, name: str) -> None:
    schema, unenforced = CHECKED[name]
    constraint = Constraint.json(schema)
    for seed in range(12):
        answer, error = attempt(model, constraint, seed)
        if error is not None:
            assert str(error.path).startswith("#")
            assert error.completion.parsed is None
            with pytest.raises(jsonschema.ValidationError):
                validate(error.completion.text, schema)
        else:
            assert answer.unenforced == unenforced
            if answer.finish_reason == "stop":
                validate(answer.text, schema)
    with pytest.raises(ConstraintError) as refused:
        model.generate("x", response_format=schema, strict=True)
    assert refused.value.path == f"#/{unenforced[0]}"


@pytest.mark.parametrize("name", [*ENFORCED, *CHECKED])
def test_rewriting_changes_only_what_it_must(name: str) -> None:
    schema = ENFORCED.get(name, CHECKED.get(name, (None,))[0])
    before = json.dumps(schema)
    modern = modernized(schema)
    assert modernized(modern) == modern
    narrowed(modern)
    assert json.dumps(schema) == before
    json.dumps(narrowed(modern))


def test_properties_keep_their_order(model: Model) -> None:
    names = ["zeta", "alpha", "mid", "a", "b10", "b9"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names},
        "required": sorted(names),
        "additionalProperties": False,
    }
    assert list(model.generate("x", response_format=schema).parsed) == names


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "strin"}, "#/type"),
        ({"type": []}, "#/type"),
        ({"properties": {"a": {"type": 3}}}, "#/properties/a/type"),
        ({"properties": {"a/b~c": {"enum": []}}}, "#/properties/a~1b~0c/enum"),
        ({"properties": [1]}, "#/properties"),
        ({"items": "x"}, "#/items"),
        ({"anyOf": []}, "#/anyOf"),
        ({"anyOf": [{"minLength": -1}]}, "#/anyOf/0/minLength"),
        ({"multipleOf": 0}, "#/multipleOf"),
        ({"required": "name"}, "#/required"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "#/properties/a/$ref"),
        ({"items": {"$ref": "https://example.com/x.json"}}, "#/items/$ref"),
        ({"pattern": 3}, "#/pattern"),
    ],
)
def test_mistakes_are_found_at_once(schema: Any, path: str) -> None:
    with pytest.raises(ConstraintError, match="schema is wrong at") as wrong:
        Constraint.json(schema)
    assert wrong.value.path == path


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"properties": {"a": {"type": "string", "pattern": "(a"}}}, "#/properties/a/pattern"),
        (
            {
                "type": "array",
                "items": {"allOf": [{"type": "string"}, {"type": "null"}]},
                "minItems": 1,
            },
            None,
        ),
        ({"$ref": "#"}, "#"),
    ],
)
def test_mistakes_found_by_compiling(model: Model, schema: Any, path: str | None) -> None:
    with pytest.raises(ConstraintError) as wrong:
        model.generate("x", response_format=Constraint.json(schema, strict=True))
    assert path is None or wrong.value.path == path
