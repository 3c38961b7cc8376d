"""Reading ahead and writing behind: order, errors of either side, and that threads end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pyqwen.quantize.output.background import ReadAhead, WriteBehind


def running() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("pyqwen-")]


def put_all(write: Callable[[int], None], n: int, fail: Callable[[], None] | None = None) -> None:
    with WriteBehind(write) as behind:
        for i in range(n):
            behind.put(i)
        if fail:
            fail()
            raise KeyError


def test_items_come_in_order() -> None:
    with ReadAhead(range(1000)) as ahead:
        assert list(ahead) == list(range(1000))
    assert running() == []


def test_only_a_few_are_read_ahead() -> None:
    read = []

    def items() -> Iterator[int]:
        for i in range(1000):
            read.append(i)
            yield i

    with ReadAhead(items()) as ahead:
        assert next(iter(ahead)) == 0
    assert len(read) < 10
    assert running() == []


def test_an_error_of_the_reader_comes_after_what_it_read() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    seen: list[int] = []
    with pytest.raises(OSError, match="unreadable"), ReadAhead(items()) as ahead:
        seen.extend(ahead)
    assert seen == [1]
    assert running() == []


def test_everything_is_written_in_order() -> None:
    written: list[int] = []
    with WriteBehind(written.append) as behind:
        for i in range(1000):
            behind.put(i)
    assert written == list(range(1000))
    assert running() == []


def test_an_error_of_the_writer_reaches_the_caller() -> None:
    written = []

    def write(item: int) -> None:
        if item == 3:
            raise OSError("full")
        written.append(item)

    with pytest.raises(OSError, match="full"):
        put_all(write, 1000)
    assert written == [0, 1, 2]
    with pytest.raises(OSError, match="full"):
        put_all(write, 4)  # the last item, too
    assert running() == []


def test_an_error_of_the_caller_drops_what_is_left() -> None:
    go = threading.Event()
    written = []

    def write(item: int) -> None:
        go.wait(10)
        written.append(item)

    with pytest.raises(KeyError):
        put_all(write, 4, fail=lambda: threading.Timer(0.2, go.set).start())
    assert len(written) <= 1
    assert running() == []
