"""Streamed text: whatever the cuts, the chunks make the text, and no stop string ever shows."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqwen.text.text_stream import TextStream


def stream(chunks: list[bytes], stop: list[str]) -> tuple[str, str | None, list[str]]:
    text_stream = TextStream(stop)
    shown = [text_stream.feed(chunk) for chunk in chunks]
    shown.append(text_stream.flush())
    return "".join(shown), text_stream.matched_stop, shown


def reference(data: bytes, stop: list[str]) -> tuple[str, str | None]:
    """Character by character: the stop string that is complete first, then the longest."""
    text = data.decode("utf-8", "replace")
    for end in range(1, len(text) + 1):
        ending = [s for s in stop if text[:end].endswith(s)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.binary(), st.lists(st.integers(0)))
def test_any_bytes_cut_anywhere_make_the_same_text(data: bytes, places: list[int]) -> None:
    assert stream(cut(data, places), [])[:2] == (data.decode("utf-8", "replace"), None)


@given(st.text(), st.lists(st.integers(0)))
def test_whole_characters_only(text: str, places: list[int]) -> None:
    shown = stream(cut(text.encode(), places), [])[2]
    assert "".join(shown) == text
    assert "\ufffd" in text or not any("\ufffd" in chunk for chunk in shown)


# A small alphabet makes stop strings that overlap, contain each other and share beginnings.
ALPHABET = "ab\n語😀"


@given(
    st.text(ALPHABET, max_size=40),
    st.lists(st.integers(0)),
    st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=6),
)
def test_stop_strings_equal_the_naive_reference(
    text: str, places: list[int], stop: list[str]
) -> None:
    data = text.encode()
    assert stream(cut(data, places), stop)[:2] == reference(data, stop)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"\xf0", b"\x9f", b"\x98", b"\x80", b"\xe8\xaa"])),
    st.lists(st.text("ab\ufffd😀", min_size=1, max_size=3), max_size=4),
)
def test_stop_strings_in_broken_utf8(tokens: list[bytes], stop: list[str]) -> None:
    assert stream(tokens, stop)[:2] == reference(b"".join(tokens), stop)


def test_text_is_held_back_no_longer_than_needed() -> None:
    text_stream = TextStream(["END"])
    assert text_stream.feed(b"one E") == "one "
    assert text_stream.feed(b"N") == ""
    assert text_stream.feed(b"E") == "EN"  # the new E may begin "END" again
    assert text_stream.feed(b"ND and more") == ""
    assert text_stream.matched_stop == "END"
    assert text_stream.feed(b"more") == ""
    assert text_stream.flush() == ""


def test_beginning_of_a_stop_string_is_shown_at_the_end() -> None:
    text_stream = TextStream("###")
    assert text_stream.feed(b"a##") == "a"
    assert text_stream.flush() == "##"
    assert text_stream.matched_stop is None


def test_character_in_four_tokens() -> None:
    text_stream = TextStream()
    assert [text_stream.feed(bytes([b])) for b in "🦙".encode()] == ["", "", "", "🦙"]


def test_unfinished_character_at_the_end_is_replaced() -> None:
    text_stream = TextStream()
    assert text_stream.feed("🦙".encode()[:3]) == ""
    assert text_stream.flush() == "\ufffd"


def test_bad_stop_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        TextStream(["a", ""])
    with pytest.raises(TypeError, match="bytes"):
        TextStream([b"a"])  # type: ignore[list-item]


def test_a_thousand_stop_strings_take_linear_time() -> None:
    stop = ["a" * n + "b" for n in range(1, 1001)]
    text_stream = TextStream(stop)
    started = time.thread_time()
    shown = [text_stream.feed(b"a" * 4) for _ in range(50_000)]
    assert time.thread_time() - started < 5
    assert "".join([*shown, text_stream.flush()]) == "a" * 200_000


def test_a_stop_string_is_found_in_what_is_not_shown() -> None:
    stream = TextStream(["<|im_start|>", "b<|x|>c"])
    assert stream.feed(b"a<|im_") == "a"
    assert stream.feed_unseen("<|im_end|>") == "<|im_"
    assert stream.feed(b"b") == ""
    assert stream.feed_unseen("<|x|>") == ""
    assert stream.feed(b"d") == "bd"
    assert stream.feed_unseen("<|im_start|>") == ""
    assert stream.matched_stop == "<|im_start|>"


def test_the_shown_part_of_a_stop_string_with_a_control_token_is_not_shown() -> None:
    stream = TextStream("end<|x|>")
    assert stream.feed(b"the end") == "the "
    assert stream.feed_unseen("<|x|>") == ""
    assert stream.matched_stop == "end<|x|>"
    assert stream.flush() == ""


def test_what_is_not_shown_never_shows_without_a_stop() -> None:
    stream = TextStream()
    assert stream.feed(b"a") + stream.feed_unseen("<|x|>") + stream.feed(b"b") == "ab"
