"""Finds the calls in what a model writes, as it comes, and tells them from its text.

Owns the forms in which calls are written: ``<tool_call>`` tags as in Qwen2.5's template, with anything in
them; and for models that were taught other forms, ``<tools>`` tags, a fenced block and a bare answer of JSON,
which count only where they hold nothing but calls of tools that were offered. ``call_object`` reads one call.

The text goes through one character at a time, so that the result does not depend on how it was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import groupby

from pyqwen.results import ToolCall, ToolCallDelta
from pyqwen.tools.call_object import CallObject
from pyqwen.tools.json_text import parse_object

BEGIN, END = "<tool_call>", "</tool_call>"
_TOOLS, _TOOLS_END = "<tools>", "</tools>"
_FENCE = "```"
_SPACE = " \t\r\n"
_BETWEEN = (
    _SPACE + ",;[]}"
)  # what may stand between calls: in arrays, on lines, with a brace too many
_LANGUAGES = ("json", "tool_call", "tool_calls", "xml", "plaintext")

ScannedPiece = tuple[str, list[ToolCallDelta]]


class ToolCallScanner:
    """Splits an answer into text and calls. ``feed`` it the pieces in order, and ``flush`` at the end.

    Both return what is now certain of the text, and of the calls what is new (``ToolCallDelta``); the calls
    that are whole are in ``calls``. Space between text and calls is left out. Nothing else is lost: what
    is malformed is in a call with ``error``, or it is text.
    """

    def __init__(
        self, names: Collection[str], new_id: Callable[[int], str], unheard: Collection[str] = ()
    ) -> None:
        """``names`` of the tools that were offered; ``new_id`` makes the id of the call of an index.

        Calls in tags of the tools ``unheard`` are left out, as if nothing stood there.
        """
        self.calls: list[ToolCall] = []
        self.is_over = False
        """Whether a call in tags is an earlier one word for word: small models then go on without end. It
        and what follows are left out."""
        self.end = 0
        """How many characters there were up to the end of the last tag that holds a call which is heard."""
        self.is_cut = False
        """Whether what stands behind that is left out."""
        self._read = 0
        self._unheard = unheard
        self._names = names
        self._new_id = new_id
        self._state: Callable[[str], None] = self._in_text
        self._text: list[str] = []
        self._deltas: list[ToolCallDelta] = []
        self._held = ""  # may become a marker
        self._space = ""  # may stand before a call
        self._separator = ""  # between the text before a call and what may follow it
        self._has_text = self._is_after_call = False
        self._is_line_start = True
        self._is_fenced = False  # a fence stands around tags
        self._call: CallObject | None = None
        self._announced = 0
        self._was_announced = False
        # Tags: their content as far as it is no call
        self._rest: list[str] = []
        self._calls_in_tag = 0
        self._heard_before = 0
        self._newline_in_string = False
        # Other forms: all of it, until it is certain to be calls
        self._raw: list[str] = []
        self._kind = ""
        self._found: list[tuple[str, str]] = []

    def feed(self, text: str) -> ScannedPiece:
        """Take the next piece."""
        for char in text:
            if self.is_over:
                break
            self._read += 1
            self._state(char)
        return self._taken()

    def flush(self) -> ScannedPiece:
        """Nothing more will come."""
        if self.is_over:
            return self._taken()
        if self._state == self._in_tag or self._state == self._at_end_in_string:
            if self._state == self._in_tag and self._call is not None:
                for char in self._held:
                    self._in_body(char)
            self._held = ""
            self._end_tag(is_closed=False)
        elif self._state == self._in_text:
            held, self._held = self._held, ""
            for char in held:
                self._write(char)
        elif self._state in (self._in_block, self._in_language) and not self._accept():
            self._give_up()
        if not self._is_after_call:
            self._text.append(self._space)
        self._space = ""
        self._state = self._in_text
        return self._taken()

    def _taken(self) -> ScannedPiece:
        text, deltas = "".join(self._text), self._deltas
        self._text, self._deltas = [], []
        return text, [
            ToolCallDelta(
                index, first.id, first.name, "".join(delta.arguments for delta in (first, *more))
            )
            for index, group in groupby(deltas, lambda delta: delta.index)
            for first, *more in [group]
        ]

    # Text

    def _in_text(self, char: str) -> None:
        if not self._held and char not in "<`{[":
            self._write(char)
            return
        self._held += char
        while self._held:
            markers = self._markers()
            if self._held in markers:
                marker, self._held = self._held, ""
                self._begin(marker)
                return
            if any(marker.startswith(self._held) for marker in markers):
                return
            first, self._held = self._held[0], self._held[1:]
            self._write(first)

    def _markers(self) -> list[str]:
        """What would begin a call here."""
        markers = [BEGIN, _TOOLS]
        if self._is_line_start:
            markers.append(_FENCE)
        if not self._has_text or self._is_after_call:
            markers += "{["
        return markers

    def _write(self, char: str) -> None:
        """Text that is certain; space waits for what follows it."""
        if char in _SPACE:
            self._space += char
            self._is_line_start |= char == "\n"
            return
        if self._is_after_call:
            self._space = (self._separator or self._space) if self._has_text else ""
            self._is_after_call = False
        self._text.append(self._space + char)
        self._space = ""
        self._has_text = True
        self._is_line_start = self._is_fenced = False

    def _begin(self, marker: str) -> None:
        if marker == BEGIN:
            self._begin_tag()
            return
        if marker == _FENCE and self._is_fenced:
            self._is_fenced = False
            return
        self._kind, self._found, self._call = marker, [], None
        self._raw = [] if marker in "{[" else [marker]
        self._state = self._in_language if marker == _FENCE else self._in_block
        if marker in "{[":
            self._in_block(marker)

    def _note_call_follows(self) -> None:
        """A call stands here: space before it is none of the text."""
        if not self._is_after_call:
            self._separator = self._space
        self._space = ""
        self._is_after_call = True
        self._is_line_start = True

    # Tags

    def _begin_tag(self) -> None:
        self._call, self._rest, self._calls_in_tag = None, [], 0
        self._heard_before = len(self.calls)
        self._newline_in_string = False
        self._state = self._in_tag

    def _in_tag(self, char: str) -> None:
        self._held += char
        while self._held:
            if self._held == END:
                if self._call is not None and self._call.in_string and not self._newline_in_string:
                    self._state = self._at_end_in_string
                else:
                    self._held = ""
                    self._end_tag(is_closed=True)
                return
            in_string = self._call is not None and self._call.in_string
            if self._held == BEGIN and not in_string:
                self._held = ""
                self._end_tag(is_closed=True, next_begins=True)
                self._begin_tag()
                return
            if any(marker.startswith(self._held) for marker in (BEGIN, END)):
                return
            first, self._held = self._held[0], self._held[1:]
            self._in_body(first)

    def _at_end_in_string(self, char: str) -> None:
        """Behind an end that stands in a string. It is one where a call follows, or nothing."""
        self._held += char
        after = self._held[len(END) :].lstrip(_SPACE)
        if after == BEGIN:
            self._held = ""
            self._end_tag(is_closed=True, next_begins=True)
            self._begin_tag()
        elif not BEGIN.startswith(after):
            text, self._held = self._held, ""
            self._state = self._in_tag
            for literal in text[: len(END)]:
                self._in_body(literal)
            for other in text[len(END) :]:
                self._in_tag(other)

    def _in_body(self, char: str) -> None:
        """The content of tags: calls, and what may stand between them."""
        call = self._call
        if call is None:
            if char == "{" and _is_empty(self._rest):
                self._rest = []
                self._call = call = CallObject()
            else:
                self._rest.append(char)
                return
        call.feed(char)
        self._newline_in_string = call.in_string and char == "\n"
        self._announce(call)
        if call.done:
            self._end_call()

    def _announce(self, call: CallObject) -> None:
        """Tell what is new of a call, once its name is known."""
        if not self._was_announced and call.has_begun and call.name not in self._unheard:
            if self._is_earlier(str(call.name), call.arguments, whole=False):
                return
            self._was_announced = True
            self._deltas.append(self._first_delta(str(call.name)))
        if self._was_announced and (text := call.take()):
            self._deltas.append(ToolCallDelta(len(self.calls), None, None, text))

    def _first_delta(self, name: str) -> ToolCallDelta:
        return ToolCallDelta(len(self.calls), self._new_id(len(self.calls)), name, "")

    def _end_call(self) -> None:
        call = self._call
        assert call is not None
        self._call = None
        name, text, error = call.finish()
        self._calls_in_tag += 1
        if name in self._unheard:
            return
        if not self._was_announced and not error and self._is_earlier(name, text, whole=True):
            self.is_over = self.is_cut = True
            return
        if not self._was_announced:
            self._deltas.append(self._first_delta(name))
        if new := call.take():
            self._deltas.append(ToolCallDelta(len(self.calls), None, None, new))
        self._add_call(name, text, error)

    def _is_earlier(self, name: str, arguments: str, *, whole: bool) -> bool:
        """Whether a call, or what is there of it, is like an earlier one."""
        return any(
            call.name == name
            and (
                call.arguments_json == arguments
                if whole
                else call.arguments_json.startswith(arguments)
            )
            for call in self.calls
        )

    def _add_call(self, name: str, text: str, error: str | None) -> None:
        arguments = {} if error else parse_object(text)[0]
        self.calls.append(ToolCall(self._new_id(len(self.calls)), name, arguments, text, error))
        self._was_announced = False

    def _end_tag(self, *, is_closed: bool, next_begins: bool = False) -> None:
        if self._call is not None:
            self._end_call()
        if self.is_over:
            return
        is_empty, rest = _is_empty(self._rest), "".join(self._rest)
        self._rest = []
        self.is_cut = len(self.calls) == self._heard_before
        if not self.is_cut:
            self.end = self._read - next_begins * len(BEGIN)
        self._state = self._in_text
        if self._calls_in_tag:
            self._note_call_follows()
            if not is_empty:
                self._write_all(rest)
        elif is_closed:
            if not is_empty:
                self._deltas.append(self._first_delta(""))
                self._deltas.append(ToolCallDelta(len(self.calls), None, None, rest))
                self._add_call("", rest, "there is no JSON object between the tags")
            self._note_call_follows()
        else:
            self._write_all(BEGIN + rest)

    # Other forms: nothing is told before all of it is there

    def _in_language(self, char: str) -> None:
        """The word after a fence."""
        self._raw.append(char)
        word = "".join(self._raw[1:]).strip().lower()
        if char in "{[" and word[:-1].strip() in ("", *_LANGUAGES):
            self._raw.pop()
            self._state = self._in_block
            self._in_block(char)
        elif char == "\n" and word in ("", *_LANGUAGES):
            self._state = self._in_block
        elif char == "\n" or not any(language.startswith(word) for language in _LANGUAGES):
            self._give_up(but_last=True)

    def _in_block(self, char: str) -> None:
        self._raw.append(char)
        if self._call is not None:
            self._in_block_call(char)
            return
        if self._held or char in "<`":
            self._held += char
            end = {_TOOLS: _TOOLS_END, _FENCE: _FENCE}.get(self._kind, "")
            ends = [end] if end else [END, BEGIN, _FENCE]
            if self._kind == _FENCE and not self._found:
                ends.append(BEGIN)
            if self._held in ends:
                self._end_block(self._held)
            elif not any(end.startswith(self._held) for end in ends):
                self._give_up(but_last=True)
        elif char == "{":
            self._call = CallObject()
            self._call.feed(char)
        elif char not in _BETWEEN:
            self._give_up(but_last=True)

    def _in_block_call(self, char: str) -> None:
        call = self._call
        assert call is not None
        call.feed(char)
        begun_otherwise = bool(call.take()) and not call.has_object
        unknown = call.name is not None and call.name not in self._names
        if call.problem or call.is_foreign or begun_otherwise or unknown:
            self._give_up(but_last=True)
        elif call.done:
            self._call = None
            name, text, error = call.finish()
            if error or not call.has_object:
                self._give_up(but_last=False)
            else:
                self._found.append((name, text))

    def _end_block(self, end: str) -> None:
        self._held = ""
        if self._kind == _FENCE and end == BEGIN and not self._found:
            self._is_fenced = True
            self._begin_tag()
        elif not self._accept():
            self._give_up(but_last=False)
        elif end == BEGIN:
            self._begin_tag()
        elif end == _FENCE and self._kind not in (_FENCE, _TOOLS):
            self._is_line_start = True

    def _accept(self) -> bool:
        """Take what was found for calls, if it is that."""
        if not self._found or self._call is not None or self._held:
            return False
        for name, text in self._found:
            self._deltas.append(self._first_delta(name))
            self._deltas.append(ToolCallDelta(len(self.calls), None, None, text))
            self._add_call(name, text, None)
        self._found, self._raw = [], []
        self._note_call_follows()
        self._state = self._in_text
        return True

    def _give_up(self, *, but_last: bool = False) -> None:
        """It is text. The last character may begin something else."""
        raw, self._raw = self._raw, []
        self._held, self._call, self._found = "", None, []
        self._state = self._in_text
        last = raw.pop() if but_last else ""
        self._write_all("".join(raw))
        if last:
            self._in_text(last)

    def _write_all(self, text: str) -> None:
        for char in text:
            self._write(char)


def _is_empty(rest: list[str]) -> bool:
    """Whether what stands in tags beside calls is nothing but a fence."""
    return len(rest) < 200 and "".join(rest).replace("`", "").strip(_BETWEEN) in ("", "json")
