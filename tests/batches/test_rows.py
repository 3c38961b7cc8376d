"""Reading rows: what is one, what is wrong, and in which order they are answered."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from batch_rows import row

from pyqwen.batches.prefixes import by_prefix, prefix_key
from pyqwen.batches.rows import RowFile

Write = Callable[..., Path]

# A line, the code that OpenAI has for it, and what the message says.
NO_REQUESTS: list[tuple[Any, str, str]] = [
    (b"{", "invalid_json_line", "not JSON"),
    (b"[1]", "invalid_request", "object"),
    (b'{"custom_id": "\xff"}', "invalid_json_line", "not JSON"),
    (b"{" * 100_000, "invalid_json_line", "not JSON"),
    ({"method": "POST", "url": "/v1/completions", "body": {}}, "missing_required_parameter", "id"),
    ({**row("a"), "custom_id": 7}, "missing_required_parameter", "must be a text"),
    ({**row("a"), "custom_id": ""}, "missing_required_parameter", "not empty"),
    ({**row("a"), "method": "GET"}, "invalid_method", "POST"),
    ({"custom_id": "a", "url": "/v1/completions", "body": {}}, "invalid_method", "missing"),
    ({**row("a"), "url": "/v1/moderations"}, "invalid_url", "/v1/embeddings"),
    ({**row("a"), "url": ["x"]}, "invalid_url", "none of"),
    ({**row("a"), "body": [1]}, "missing_required_parameter", "body"),
    ({"custom_id": "a", "method": "POST", "url": "/v1/responses"}, "missing_required", "body"),
]


@pytest.mark.parametrize(("line", "code", "message"), NO_REQUESTS, ids=range(len(NO_REQUESTS)))
def test_what_is_no_request_says_why(write: Write, line: Any, code: str, message: str) -> None:
    with RowFile(write([row("good"), line])) as rows:
        assert list(rows.errors) == [1]
        assert rows.errors[1].code.startswith(code)
        assert message in rows.errors[1].message


def test_lines(write: Write, tmp_path: Path) -> None:
    path = write([b"\xef\xbb\xbf" + b'  {"custom_id": "a"} \r', b"", b"  ", row("b"), row("c")])
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    with RowFile(path) as rows:
        assert rows.custom_ids == ["a", "b", "c"]
        assert list(rows.lines) == [1, 4, 5]
        assert rows.read(0).data == b'{"custom_id": "a"}'
        assert rows.read(2).number == 2
        assert len(set(rows.ids)) == 3


def test_files_that_cannot_be(write: Write, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ValueError, match=r"'a' stands in line 1 and again in line 3"):
        RowFile(write([row("a"), row("b"), row("a", "other")]))
    with pytest.raises(ValueError, match="no rows"):
        RowFile(write([b"", b" "]))
    with pytest.raises(
        ValueError, match=r"no row that is a request .*; line 1: the line is not JS"
    ):
        RowFile(write([b"GGUF\0\0\x01", b"\xff"]))
    with pytest.raises(ValueError, match="not a regular file"):
        RowFile(tmp_path)
    with pytest.raises(FileNotFoundError):
        RowFile(tmp_path / "missing")
    monkeypatch.setattr("pyqwen.batches.rows.MAX_LINE", 1000)
    with RowFile(write([row("a"), row("b", "x" * 2500), row("c")])) as rows:
        assert "longer than 1,000 bytes" in rows.errors[1].message
        assert list(rows.lines) == [1, 2, 3]
        assert b'"c"' in rows.read(2).data


def test_a_file_that_changes_is_noticed(write: Write) -> None:
    path = write([row("a"), row("b")])
    with RowFile(path) as rows:
        path.write_bytes(path.read_bytes().replace(b"Hello", b"Holla"))
        with pytest.raises(ValueError, match=r"was changed .* line 2"):
            rows.read(1)


def test_ids_tell_requests_apart(write: Write) -> None:
    with RowFile(write([row("a"), row("b")])) as rows:
        first = list(rows.ids)
    with RowFile(write([row("b"), row("a"), row("c")])) as rows:
        assert rows.ids[:2] == first[::-1]
    with RowFile(write([row("a", "other"), row("b")])) as rows:
        assert [one == other for one, other in zip(rows.ids, first, strict=True)] == [False, True]
    with RowFile(write([row("a"), b"{", b"{"])) as rows:  # which differ by their place only
        assert len(set(rows.ids)) == 3


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_begin_alike_follow_each_other(seed: int) -> None:
    """With any number of beginnings that go on differently, each group is in one piece."""
    chance = random.Random(seed)
    texts = [
        [letter * 70 for letter in chance.choices([b"a", b"b"], k=chance.randrange(5))]
        for _ in range(chance.randrange(40))
    ]
    order = by_prefix(range(len(texts)), [prefix_key(text) for text in texts])
    assert sorted(order) == list(range(len(texts)))
    whole = [b"\0".join(texts[i]) for i in order]
    for size in (64, 128, 256):
        groups = [start for start, _ in groupby(text[:size] for text in whole)]
        assert len(groups) == len(set(groups)), size


def test_unrelated_rows_keep_their_order() -> None:
    texts = [b"a" * 100 + b"1", b"b" * 100, b"a" * 100 + b"2", b"", b"c", b"b" * 100]
    order = by_prefix(range(6), [prefix_key([text]) for text in texts])
    assert order == [0, 2, 1, 5, 3, 4]


def test_the_prompt_is_what_counts(write: Write) -> None:
    """Fields before the messages, and the order of a message's keys, do not tear a group apart."""
    start = "The same long story, " * 20
    rows = []
    for i in range(6):
        message = {"role": "user", "content": f"{start if i % 2 else ''}{i}"}
        message = dict(reversed(message.items())) if i % 3 else message
        rows.append(row(str(i), temperature=i / 10, messages=[message]))
    with RowFile(write(rows)) as file:
        assert file.ordered(range(6)) == [0, 1, 3, 5, 2, 4]


def test_memory_does_not_grow_with_the_rows(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    body = b'"method":"POST","url":"/v1/completions","body":{"prompt":"' + b"x" * 4000 + b'"}}\n'
    with path.open("wb") as file:
        for i in range(1500):
            file.write(b'{"custom_id":"%d",' % i + body)
    tracemalloc.start()
    try:
        with RowFile(path) as rows:
            assert len(rows.ordered(range(len(rows)))) == 1500
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1500 * 1000 < path.stat().st_size / 3
