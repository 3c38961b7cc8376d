"""JSON that is still written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyqwen.text.partial_json import parse_partial

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def is_part_of(part: Any, whole: Any) -> bool:
    """Whether a value is what is there of another one."""
    if isinstance(whole, str) and isinstance(part, str):
        return whole.startswith(part)
    if isinstance(whole, list) and isinstance(part, list):
        return len(part) <= len(whole) and all(map(is_part_of, part, whole))
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and is_part_of(value, whole[name]) for name, value in part.items())
    return part == whole


@settings(deadline=None, max_examples=60)
@given(VALUES, st.sampled_from([None, 2]), st.booleans())
def test_every_beginning(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    for end in range(len(text) + 1):
        part = parse_partial(text[:end])
        assert part is None or is_part_of(part, value)
    if isinstance(value, list | dict | str):
        assert parse_partial(text) == value
    assert parse_partial(text + "\n") == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("  ", None),
        ("tru", None),
        ("12", None),
        ("12 ", 12),
        ("{", {}),
        ('{"a', {}),
        ('{"a"', {}),
        ('{"a": ', {}),
        ('{"a": 1', {}),
        ('{"a": 1,', {"a": 1}),
        ('{"a": "x', {"a": "x"}),
        ('{"a": "x\\', {"a": "x"}),
        ('{"a": "x\\u12', {"a": "x"}),
        ('{"a": "x\\n', {"a": "x\n"}),
        ('{"a": [1, {"b": [tr', {"a": [1, {"b": []}]}),
        ('[[], "c"', [[], "c"]),
        ("]", None),
        ("Hello", None),
        ("[" * 3000, None),
    ],
)
def test_examples(text: str, expected: Any) -> None:
    assert parse_partial(text) == expected
