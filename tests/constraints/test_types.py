"""Types as response formats: instances come back."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
from decimal import Decimal
from typing import Annotated, Any, Literal

import pydantic
import pytest
from typing_extensions import TypedDict

from pyqwen import Constraint, Model
from pyqwen.errors import ConstraintError

Short = Annotated[str, pydantic.Field(max_length=3)]


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class City(pydantic.BaseModel):
    name: Short
    color: Color
    big: bool = False


class Tree(pydantic.BaseModel):
    value: bool
    children: Annotated[list[Tree], pydantic.Field(max_length=1)]


class Never(pydantic.BaseModel):
    number: Annotated[int, pydantic.Field(ge=0, le=9)]

    @pydantic.field_validator("number")
    @classmethod
    def check(cls, number: int) -> int:
        raise ValueError("it is no good number")


@dataclasses.dataclass
class Point:
    x: bool
    y: bool | None = None


class Movie(TypedDict):
    title: Short
    year: Literal[1999, 2000]


FORMATS: list[tuple[Any, Any]] = [
    (City, City),
    (Point, Point),
    (Movie, dict),
    (Color, Color),
    (list[Point], list),
    (Point | Color, (Point, Color)),
    (Literal["a", "b"], str),
    (bool, bool),
    (dict[Literal["k"], bool], dict),
    (tuple[bool, Color], tuple),
    (datetime.date, datetime.date),
    (Annotated[Decimal, pydantic.Field(ge=0, le=1, max_digits=3, decimal_places=2)], Decimal),
    (Annotated[list[Point], pydantic.Field(min_length=1, max_length=2)], list),
]


@pytest.mark.parametrize(("kind", "instance"), FORMATS, ids=lambda value: str(value)[:40])
def test_instances(model: Model, kind: Any, instance: Any) -> None:
    adapter: Any = pydantic.TypeAdapter(kind)
    for seed in range(4):
        completion = model.chat("x", response_format=kind, seed=seed, max_tokens=150)
        if completion.finish_reason == "stop":
            assert isinstance(completion.parsed, instance)
            assert completion.parsed == adapter.validate_json(completion.text)
            break
    else:
        pytest.fail("no answer was finished")


def test_recursive(model: Model) -> None:
    parsed = [
        model.chat("x", response_format=Tree, seed=seed, max_tokens=120).parsed for seed in range(8)
    ]
    assert any(isinstance(tree, Tree) for tree in parsed)


def test_nothing_but_the_fields(model: Model) -> None:
    for seed in range(6):
        completion = model.chat("x", response_format=Point, seed=seed, max_tokens=100)
        assert set(dataclasses.asdict(completion.parsed)) == {"x", "y"}
        assert completion.text.count(":") <= 2


def test_rules_of_the_type_itself(model: Model) -> None:
    """A validator says no: the error has its place and the answer."""
    with pytest.raises(ConstraintError, match="no good number") as refused:
        model.chat("x", response_format=Never)
    assert refused.value.path == "#/number"
    assert refused.value.completion.text.lstrip().startswith("{")
    assert refused.value.completion.parsed is None


def test_streams_have_instances(model: Model) -> None:
    with model.stream_chat("x", response_format=Point, seed=1) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert isinstance(stream.completion.parsed, Point)
    assert stream.completion.text == text


def test_errors_reach_those_who_read_streams(model: Model) -> None:
    with (
        pytest.raises(ConstraintError),
        model.stream_chat("x", response_format=Never) as stream,
    ):
        for _ in stream:
            pass
    assert stream.completion is None


@pytest.mark.parametrize(
    "kind", [5, "json", object(), len, b"{}", [Point], type("Odd", (), {}), lambda: None]
)
def test_what_is_no_type(model: Model, kind: Any) -> None:
    with pytest.raises(TypeError):
        model.chat("x", response_format=kind, max_tokens=3)


def test_without_pydantic(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unseen:
        a: bool

    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(TypeError, match="pip install pydantic"):
        model.chat("x", response_format=dataclasses.make_dataclass("P", [("x", bool)]))
    assert model.chat("x", response_format={"type": "boolean"}).parsed in (True, False)


def test_strict_types(model: Model) -> None:
    class Tags(pydantic.BaseModel):
        names: Annotated[set[Short], pydantic.Field(max_length=2)]

    loose = model.chat("x", response_format=Tags, seed=3, max_tokens=60)
    assert loose.unenforced == ("uniqueItems",)
    with pytest.raises(ConstraintError, match="uniqueItems") as refused:
        model.chat("x", response_format=Tags, strict=True)
    assert refused.value.path == "#/properties/names/uniqueItems"
    assert Constraint.json(Tags.model_json_schema()).kind == "json"
