"""Functions as tools: what a model is told of them, and what they get of what it writes."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict

import pydantic
import pytest

from pyqwen.tools.python_types import ArgumentError, Schemas, converted
from pyqwen.tools.tool import read_tool, read_tools


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Place:
    """A place.

    Args:
        city: Its city.
    """

    city: str
    country: str = "Norway"
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Tree:
    value: int
    children: list[Tree] = dataclasses.field(default_factory=list)


class Options(TypedDict):
    depth: int
    name: NotRequired[str]


class Point(NamedTuple):
    x: float
    y: float = 0.0


class User(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)
    friends: list[User] = []


UserId = NewType("UserId", int)


def google(city: str, unit: Literal["c", "f"] = "c", days: int | None = None) -> str:
    """Weather of a city.

    It is the weather
    of now.

    Args:
        city: The city, such
            as Oslo.
        unit (str): Of the temperature.

    Returns:
        The weather.
    """
    return f"{city} {unit} {days}"


def numpy_style(city: str, n: int = 3) -> None:
    """Weather of a city.

    Parameters
    ----------
    city : str
        The city.
    n : int, optional
        How many.
    """


def rest(city: str, n: int = 3) -> None:
    """Weather of a city.

    :param city: The city.
    :param int n: How many.
    :returns: nothing
    """


def test_a_function_in_openais_form() -> None:
    assert read_tool(google).spec == {
        "type": "function",
        "function": {
            "name": "google",
            "description": "Weather of a city.\n\nIt is the weather\nof now.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "The city, such as Oslo."},
                    "unit": {
                        "type": "string",
                        "enum": ["c", "f"],
                        "description": "Of the temperature.",
                        "default": "c",
                    },
                    "days": {"type": ["integer", "null"]},
                },
                "required": ["city"],
            },
        },
    }


@pytest.mark.parametrize("function", [numpy_style, rest])
def test_other_docstrings(function: Any) -> None:
    tool = read_tool(function)
    assert tool.description == "Weather of a city."
    assert tool.parameters["properties"] == {
        "city": {"type": "string", "description": "The city."},
        "n": {"type": "integer", "description": "How many.", "default": 3},
    }


def test_a_function_without_a_docstring() -> None:
    def bare(a, b=1): ...

    tool = read_tool(bare)
    assert tool.spec["function"] == {
        "name": "bare",
        "parameters": {
            "type": "object",
            "properties": {"a": {}, "b": {"default": 1}},
            "required": ["a"],
        },
    }


@pytest.mark.parametrize(
    ("kind", "schema", "written", "value"),
    [
        (str, {"type": "string"}, "a", "a"),
        (int, {"type": "integer"}, 5, 5),
        (float, {"type": "number"}, 5, 5.0),
        (bool, {"type": "boolean"}, True, True),
        (None, {"type": "null"}, None, None),
        (Any, {}, [1], [1]),
        (list, {"type": "array", "items": {}}, [1, "a"], [1, "a"]),
        (list[int], {"type": "array", "items": {"type": "integer"}}, [1], [1]),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}, ["a"], ["a"]),
        (
            set[int],
            {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
            [1, 1],
            {1},
        ),
        (
            tuple[int, str],
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
            [1, "a"],
            (1, "a"),
        ),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}, [1, 2], (1, 2)),
        (dict, {"type": "object"}, {"a": 1}, {"a": 1}),
        (
            Mapping[str, float],
            {"type": "object", "additionalProperties": {"type": "number"}},
            {"a": 1},
            {"a": 1.0},
        ),
        (
            dict[int, str],
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"1": "a"},
            {1: "a"},
        ),
        (Optional[int], {"type": ["integer", "null"]}, None, None),  # noqa: UP045
        (int | str, {"type": ["integer", "string"]}, "5", "5"),
        (Literal[1, "a"], {"enum": [1, "a"]}, "a", "a"),
        (Color, {"type": "string", "enum": ["red", "blue"]}, "blue", Color.BLUE),
        (Level, {"type": "integer", "enum": [1, 2]}, 2, Level.HIGH),
        (
            datetime.date,
            {"type": "string", "format": "date"},
            "2026-01-31",
            datetime.date(2026, 1, 31),
        ),
        (uuid.UUID, {"type": "string", "format": "uuid"}, str(uuid.UUID(int=7)), uuid.UUID(int=7)),
        (Decimal, {"type": "string"}, "1.50", Decimal("1.50")),
        (Path, {"type": "string"}, "/a", Path("/a")),
        (UserId, {"type": "integer"}, 7, 7),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}, 7, 7),
        (
            Options,
            {
                "type": "object",
                "properties": {"depth": {"type": "integer"}, "name": {"type": "string"}},
                "required": ["depth"],
            },
            {"depth": 1},
            {"depth": 1},
        ),
        (
            Point,
            {
                "type": "object",
                "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0.0}},
                "required": ["x"],
            },
            {"x": 1},
            Point(1.0, 0.0),
        ),
        (
            Place,
            {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its city."},
                    "country": {"type": "string", "default": "Norway"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["city"],
            },
            {"city": "Oslo"},
            Place("Oslo"),
        ),
        (
            list[Place] | None,
            None,
            [{"city": "Oslo", "tags": ["a"]}],
            [Place("Oslo", tags=["a"])],
        ),
        (Annotated[int, pydantic.Field(ge=3)], {"minimum": 3, "type": "integer"}, 4, 4),
    ],
)
def test_types_and_their_values(kind: Any, schema: Any, written: Any, value: Any) -> None:
    made = Schemas().of(kind, "x")
    assert schema is None or made == schema
    result = converted(written, kind, "x")
    assert result == value
    assert type(result) is type(value)


def test_types_that_refer_to_themselves() -> None:
    schemas = Schemas()
    assert schemas.of(Tree, "x") == {"$ref": "#/$defs/Tree"}
    assert schemas.definitions["Tree"]["properties"]["children"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Tree"},
    }
    tree = converted({"value": 1, "children": [{"value": 2}]}, Tree, "x")
    assert tree == Tree(1, [Tree(2)])

    def plant(tree: Tree) -> None: ...

    assert "Tree" in read_tool(plant).parameters["$defs"]


def test_pydantic() -> None:
    def greet(user: User, other: User) -> str:
        return user.name + other.name

    parameters = read_tool(greet).parameters
    refs = {p["$ref"].removeprefix("#/$defs/") for p in parameters["properties"].values()}
    assert refs <= set(parameters["$defs"])
    for definition in parameters["$defs"].values():
        assert (
            definition["properties"]["friends"]["items"]["$ref"].removeprefix("#/$defs/")
            in (parameters["$defs"])
        )
    user = {"name": "Ada", "age": 36, "friends": [{"name": "Bob", "age": 1}]}
    assert read_tool(greet).call({"user": user, "other": user}) == "AdaAda"
    with pytest.raises(ArgumentError, match="age"):
        read_tool(greet).call({"user": {**user, "age": -1}, "other": user})


@pytest.mark.parametrize(
    ("written", "kind", "value"),
    [
        ("5", int, 5),
        (5.0, int, 5),
        ("5.5", float, 5.5),
        (5, str, "5"),
        ("true", bool, True),
        ("RED", Color, Color.RED),
        ("2", Level, Level.HIGH),
        ("null", int | None, None),
        ("7", int | None, 7),
        ([1, "2"], list[int], [1, 2]),
    ],
)
def test_slips_of_small_models_are_put_right(written: Any, kind: Any, value: Any) -> None:
    assert converted(written, kind, "x") == value


@pytest.mark.parametrize(
    ("written", "kind", "place"),
    [
        ("five", int, "x must be integer, not 'five'"),
        (5.5, int, "x must be integer"),
        (True, int, "x must be integer"),
        ("1e999", int, "x must be integer"),
        (None, str, "x must be string"),
        ("green", Color, "x must be one of 'red', 'blue', not 'green'"),
        ({"city": 1, "tags": ["a", None]}, Place, r"x\.tags\[1\] must be string"),
        ({}, Place, "x lacks city"),
        ({"city": "a", "zip": 1}, Place, "x has no zip; it has city, country, tags"),
        ("Oslo", Place, "x must be an object"),
        ([1], tuple[int, int], "x must have 2 items, not 1"),
        ("2026-13-01", datetime.date, "x must be a date"),
        ([[1]], set[list], "x has items that no set can hold"),
        ([], int | str, "integer.*; or .*string"),
    ],
)
def test_values_that_do_not_fit(written: Any, kind: Any, place: str) -> None:
    with pytest.raises(ArgumentError, match=place):
        converted(written, kind, "x")


def test_calling() -> None:
    tool = read_tool(google)
    assert tool.call({"city": "Oslo"}) == "Oslo c None"
    assert tool.call({"city": "Oslo", "unit": "F", "days": "2"}) == "Oslo f 2"
    with pytest.raises(ArgumentError, match="'city' is missing"):
        tool.call({})
    with pytest.raises(ArgumentError, match="no parameter 'town'; there are: city, unit, days"):
        tool.call({"city": "Oslo", "town": "x"})


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, n: int) -> int:
        """Add to it."""
        self.n += n
        return self.n

    def __call__(self, n: int) -> int:
        return n + 100


async def asynchronous(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


def test_all_kinds_of_callables() -> None:
    counter = Counter()
    assert read_tool(counter.add).call({"n": 2}) == counter.n == 2
    tool = read_tool(counter)
    assert (tool.name, tool.description, tool.call({"n": 1})) == ("Counter", "Counts.", 101)
    partial = read_tool(functools.partial(google, unit="f"))
    assert (partial.name, partial.call({"city": "Oslo"})) == ("google", "Oslo f None")
    assert asyncio.run(read_tool(asynchronous).call({"n": 1})) == 2

    def by_position(a: int, b: int = 2, /, *, c: int = 3, **more: int) -> list[Any]:
        return [a, b, c, more]

    tool = read_tool(by_position)
    assert tool.parameters["additionalProperties"] == {"type": "integer"}
    assert tool.call({"a": 1, "c": 5, "d": "6"}) == [1, 2, 5, {"d": 6}]


def test_openais_dicts() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    given = {
        "type": "function",
        "function": {"name": "w", "description": "d", "parameters": schema},
    }
    (tool,) = read_tools([given])
    assert tool.spec == given
    assert tool.function is None
    schema["properties"]["city"]["type"] = "number"
    assert tool.parameters["properties"]["city"]["type"] == "string", "the caller's dict is held"
    flat = read_tool({"name": "w", "parameters": None})
    assert flat.parameters == {"type": "object", "properties": {}}


def varargs(*values: int) -> None: ...
def unknown_type(value: Counter) -> None: ...
def unknown_name(value: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("tools", "error", "message"),
    [
        ("google", TypeError, "tools must be a list"),
        (google, TypeError, "tools must be a list"),
        ({"name": "w"}, TypeError, "tools must be a list"),
        ([1], TypeError, r"tools\[0\] must be a function or a dict, not int"),
        ([int], TypeError, "not int"),
        ([lambda: 1], ValueError, "names have 1 to 64"),
        ([google, google], ValueError, "two tools have the name 'google'"),
        ([{"type": "web_search"}], ValueError, "type 'web_search'"),
        ([{"function": 1}], TypeError, r"tools\[0\]\.function"),
        ([{"name": "a b"}], ValueError, "'a b'"),
        ([{"name": None}], ValueError, "None"),
        ([{"name": "a", "description": 1}], TypeError, "description"),
        ([{"name": "a", "parameters": []}], TypeError, "parameters must be a JSON schema"),
        ([{"name": "a", "parameters": {"x": {1, 2}}}], TypeError, "must be JSON"),
        ([{"name": "a", "parameters": {"x": float("nan")}}], TypeError, "must be JSON"),
        ([varargs], TypeError, r"takes \*values"),
        ([unknown_type], TypeError, "'value' of unknown_type is annotated with .*Counter"),
        ([unknown_name], TypeError, "Nowhere"),
    ],
)
def test_what_is_no_tool(tools: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_tools(tools)
