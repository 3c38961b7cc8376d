"""Strings that know which of their characters a user wrote.

``Text`` is a ``str`` with the places of user text in it. Every operation of the interpreter that
makes strings of strings goes through here, so that the places arrive in the prompt: a control token
is one only where the template wrote all of it, and an answer that arrives whole can be replaced by
the tokens it was written with. An operation that cannot say where a character came from says that
the user wrote all of its result, which is always safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyqwen.text.jinja.budget import OBJECT, SPAN, Budget

Span = tuple[int, int, int]
"""Start, end, and the number of the answer that lies there in one piece, or -1."""


class Text(str):
    """A string with at least one character of a user."""

    __slots__ = ("spans",)
    spans: tuple[Span, ...]  # ascending, not empty, not overlapping


class Markup(Text):
    """What ``safe`` and ``escape`` make. It escapes what is added to it, even without autoescape.

    Its ``spans`` may be empty.
    """

    __slots__ = ()


def user_text(text: str, answer: int = -1) -> str:
    """``text`` as written by a user; ``answer`` is its number if it is one."""
    return with_spans(text, ((0, len(text), answer),)) if text else ""


def with_spans(text: str, spans: Iterable[Span]) -> str:
    """``text`` with these places of user text, if there are any."""
    spans = tuple(spans)
    if not spans:
        return text if type(text) is str else str.__str__(text)
    made = Text(text)
    made.spans = spans
    return made


def markup(text: str) -> Markup:
    """``text`` as what needs no escaping."""
    made = Markup(text)
    made.spans = text.spans if isinstance(text, Text) else ()
    return made


def without_markup(text: str) -> str:
    """``text`` as an ordinary string."""
    return with_spans(str.__str__(text), text.spans) if isinstance(text, Markup) else text


def cost_of(text: str) -> int:
    """Units for another string like ``text``."""
    if type(text) is str:
        return len(text) + OBJECT
    assert isinstance(text, Text)
    return 2 * (len(text) + OBJECT) + SPAN * len(text.spans)


def joined(parts: Sequence[str], budget: Budget) -> str:
    """The parts as one string."""
    size = OBJECT
    plain = True
    for part in parts:
        size += len(part)
        if type(part) is not str:
            plain = False
    budget.spend(size)
    if plain:
        return "".join(parts)
    spans: list[Span] = []
    start = 0
    for part in parts:
        if isinstance(part, Text):
            budget.spend(SPAN * len(part.spans))
            for begin, end, answer in part.spans:
                begin += start
                if answer < 0 and spans and spans[-1][1] == begin and spans[-1][2] < 0:
                    spans[-1] = (spans[-1][0], end + start, -1)
                else:
                    spans.append((begin, end + start, answer))
        start += len(part)
    budget.spend(size)  # once more, for ``Text`` copies what was joined
    return with_spans("".join(parts), spans)


def cut(text: str, start: int, stop: int, budget: Budget) -> str:
    """``text[start:stop]`` for ``0 <= start <= stop <= len(text)``."""
    if start == 0 and stop == len(text):
        return text
    if start == stop:
        return ""
    budget.spend(OBJECT + 2 * (stop - start))
    piece = text[start:stop]
    if not isinstance(text, Text):
        return piece
    spans = text.spans
    first, last = 0, len(spans)
    if last > 8:  # pieces of a long list of places, one after the other
        first = _first_ending_after(spans, start)
    kept: list[Span] = []
    for begin, end, answer in spans[first:] if first else spans:
        if begin >= stop:
            break
        if end > start:
            budget.spend(SPAN)
            if begin < start or end > stop:
                answer = -1
            kept.append((max(begin, start) - start, min(end, stop) - start, answer))
    return with_spans(piece, kept)


def _first_ending_after(spans: Sequence[Span], position: int) -> int:
    low, high = 0, len(spans)
    while low < high:
        middle = (low + high) // 2
        if spans[middle][1] <= position:
            low = middle + 1
        else:
            high = middle
    return low


def recased(text: str, result: str, budget: Budget) -> str:
    """``result``, which a change of case made of ``text``; its size is paid for."""
    if not isinstance(text, Text) or not text.spans:
        return result
    if result == text:
        return without_markup(text)
    if len(result) != len(text):  # then nobody can say which character became two
        return user_text(result)
    budget.spend(OBJECT + len(result) + SPAN * len(text.spans))
    return with_spans(result, [(start, end, -1) for start, end, _ in text.spans])


def located_pieces(text: str, pieces: Sequence[str], gap: int | None, budget: Budget) -> list[str]:
    """``pieces``, which were cut out of ``text`` in this order, with their places.

    ``gap``: characters between two pieces; None for any number of them.
    """
    if not isinstance(text, Text) or not text.spans:
        return list(pieces)
    found: list[str] = []
    position = 0
    for piece in pieces:
        budget.spend(2 * OBJECT)
        if gap is None:
            position = text.index(piece, position)
        found.append(cut(text, position, position + len(piece), budget))
        position += len(piece) + (gap or 0)
    return found


def spliced(text: str, old: str, new: str, times: int, budget: Budget) -> str:
    """``text`` with its first ``times`` occurrences of ``old`` replaced by ``new``."""
    budget.spend(OBJECT + 2 * len(text) + 2 * times * len(new))
    result = str(text).replace(old, new, times)
    spans = text.spans if isinstance(text, Text) else ()
    if old and sum(end - start for start, end, _ in spans) == len(text):
        return with_spans(result, _spliced_user_text(text, old, new, times, budget))
    budget.spend(OBJECT * times)
    new_spans = new.spans if isinstance(new, Text) else ()
    made: list[Span] = []
    i = 0  # the first place that may reach beyond ``start``
    start = place = shift = 0
    for n in range(times + 1):
        if n == times:
            place = len(text)
        elif old:
            place = text.index(old, start)
        else:
            place = n
        before = len(made)
        while start < place and i < len(spans) and spans[i][0] < place:
            begin, end, answer = spans[i]
            if end > start:
                whole = start <= begin and end <= place
                made.append(
                    (max(begin, start) + shift, min(end, place) + shift, answer if whole else -1)
                )
            if end > place:
                break
            i += 1
        budget.spend(SPAN * (len(made) - before + len(new_spans)))
        if n < times:
            made.extend((a + place + shift, b + place + shift, c) for a, b, c in new_spans)
            start = place + len(old)
            shift += len(new) - len(old)
    return with_spans(result, made)


def _spliced_user_text(text: str, old: str, new: str, times: int, budget: Budget) -> list[Span]:
    """The places in a text that users wrote all of."""
    budget.spend(OBJECT * times + len(text))
    pieces = str(text).split(old, times)
    new_spans = new.spans if isinstance(new, Text) else ()
    budget.spend(SPAN * (len(pieces) - pieces.count("") + len(new_spans) * times))
    made: list[Span] = []
    position = 0
    for n, piece in enumerate(pieces):
        if n and new_spans:
            at = position - len(new)
            made.extend((a + at, b + at, c) for a, b, c in new_spans)
        if piece:
            made.append((position, position + len(piece), -1))
        position += len(piece) + len(new)
    return made
