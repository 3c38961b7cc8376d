"""Reasoning and answer are told apart, however the text is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyqwen.text.reasoning import ReasoningStream, is_open, is_thinking


def split(pieces: list[str], *, is_open: bool = False) -> tuple[str, str]:
    stream = ReasoningStream(is_open=is_open)
    parts = [*map(stream.feed, pieces), stream.flush()]
    return "".join(r for r, _ in parts), "".join(a for _, a in parts)


CASES = [
    ("<think>\nHm.\n</think>\n\nYes.", ("Hm.", "Yes.")),
    ("\n<think>Hm.</think>Yes.\n", ("Hm.", "Yes.\n")),
    ("<think>\n\n</think>\n\nYes.", ("", "Yes.")),
    ("<think>\nOne.\n\nTwo: a < b </thin>\n</think>\nYes.", ("One.\n\nTwo: a < b </thin>", "Yes.")),
    ("<think>\nStill at it\n", ("Still at it", "")),
    ("<think>\nStill at it </thi", ("Still at it </thi", "")),
    ("Yes. <think>no</think>", ("", "Yes. <think>no</think>")),
    ("  Yes.", ("", "  Yes.")),
    ("<thin", ("", "<thin")),
    ("", ("", "")),
    ("<think>a</think>\n<think>b</think>", ("a", "<think>b</think>")),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_whole_and_letter_by_letter(text: str, expected: tuple[str, str]) -> None:
    assert split([text]) == expected
    assert split(list(text)) == expected


def test_reasoning_that_the_prompt_began() -> None:
    assert split(["\nHm.\n</think>\n\nYes."], is_open=True) == ("Hm.", "Yes.")
    assert split(["Hm", "."], is_open=True) == ("Hm.", "")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "\n", "<", "think", ">", "a", "é"])),
    st.data(),
    st.booleans(),
)
def test_cuts_change_nothing(words: list[str], data: st.DataObject, is_open: bool) -> None:
    text = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(pieces, is_open=is_open) == split([text], is_open=is_open)


def test_where_the_answer_begins() -> None:
    for text in ("<think>\nHm.\n</think>\n\nYes.", "Yes."):
        stream = ReasoningStream()
        answer = "".join(stream.feed(char)[1] for char in text) + stream.flush()[1]
        assert text[stream.answer_start :] == answer


def test_nothing_is_held_back_for_long() -> None:
    stream = ReasoningStream()
    assert stream.feed("<think>\nOne") == ("One", "")
    assert stream.feed("\n") == ("", "")
    assert stream.feed("two <") == ("\ntwo ", "")
    assert stream.feed("b") == ("<b", "")
    assert stream.feed("</think>") == ("", "")
    assert stream.feed("\n\nYes") == ("", "Yes")
    assert stream.feed("\n") == ("", "\n")


def test_templates_and_prompts() -> None:
    assert is_thinking("{{ '<think>\\n\\n</think>\\n\\n' }}")
    assert not is_thinking("{{ message.content }}")
    assert is_open("<|im_start|>assistant\n<think>\n")
    assert not is_open("<|im_start|>assistant\n<think>\n\n</think>\n\n")
