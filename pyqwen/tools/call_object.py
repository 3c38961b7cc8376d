"""One call as models write it, ``{"name": ..., "arguments": {...}}``, read one character after the other.

Owns what the keys mean and when a call is whole. Where calls stand in a text is the matter of ``scanner``.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from pyqwen.tools.json_text import JsonText, parse_object

_SPACE = " \t\r\n"
_ARGUMENTS = frozenset(["arguments", "parameters"])
_KEYS = _ARGUMENTS | {"name", "function", "id", "type"}


class CallObject:
    """The reader of one call. ``feed`` it from the opening brace on, until it is ``done``.

    ``name`` is None until it is known. ``take`` gives the text of the arguments as it comes: what the model
    wrote between their braces, with the repairs of ``JsonText``. Arguments that are a string, as in OpenAI's
    messages, come when they are whole, and ``{}`` where there are none.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.done = False
        self.problem = ""
        """What is wrong with it, once something is. What comes then is taken for arguments."""
        self.is_foreign = False
        """Whether it has keys that no call has."""
        self.has_object = False
        """Whether the arguments have begun and look like an object."""
        self._step = self._begin
        self._levels: list[int] = []  # braces that opened each object around the keys
        self._surplus = 0
        self._raw: list[str] = []
        self._key = ""
        self._then: Callable[[], None]
        self._value: JsonText | None = None
        self._text: list[str] = []  # of the value that is being read
        self._arguments: list[str] = []
        self._has_arguments = False
        self._end_of_arguments: int | None = None  # in what was fed
        self._taken = 0

    @property
    def in_string(self) -> bool:
        """Whether the next character stands in a string."""
        return self._value is not None and self._value.in_string and not self.problem

    @property
    def has_begun(self) -> bool:
        """Whether there are a name and the beginning of arguments."""
        return self.name is not None and bool(self._arguments)

    @property
    def arguments(self) -> str:
        """The text of the arguments as far as it has come."""
        return "".join(self._arguments)

    def feed(self, char: str) -> None:
        """Take the next character."""
        self._raw.append(char)
        if not self.problem:
            self._step(char)
        elif self._arguments:
            self._arguments.append(char)

    def take(self) -> str:
        """The text of the arguments since the last time."""
        new = self._arguments[self._taken :]
        self._taken = len(self._arguments)
        return "".join(new)

    def finish(self) -> tuple[str, str, str | None]:
        """No more is to come: name, arguments as text, and what is wrong with the call, if anything."""
        is_whole = self.done or (bool(self._arguments) and self._value is None)
        if not self.problem and not is_whole:
            self._fail("the call ends in the middle")
        elif not self.problem and self.name is None:
            self._fail("the call has no name")
        if self.problem and not self.has_begun:
            self._arguments = list(self._raw)
        elif not self._arguments:
            self._arguments.append("{}")
        text = "".join(self._arguments)
        error = self.problem or parse_object(text)[1]
        return self.name or "", text, error

    # Steps: each takes one character of a place in the object

    def _begin(self, char: str) -> None:
        """The opening brace, and more of them where they are doubled."""
        if char == "{":
            if not self._levels or self._levels[-1] == 0:
                self._levels = [*self._levels[:-1], 1]
            else:
                self._levels[-1] += 1
            return
        self._step = self._before_key
        self._before_key(char)

    def _before_key(self, char: str) -> None:
        if char == "}":
            self._close()
        elif char == '"':
            self._read(char, self._end_key)
        elif char not in _SPACE and char != ",":
            self._fail("a key should stand here")

    def _end_key(self) -> None:
        self._key = _decoded("".join(self._text))
        self.is_foreign |= self._key not in _KEYS
        self._step = self._before_value

    def _before_value(self, char: str) -> None:
        if char in _SPACE or (char == ":" and not self._text):
            return
        if char == ":":
            self._text = []  # of the key: its value may begin
        elif self._text:
            self._fail("a colon should stand here")
        elif self._key in _ARGUMENTS and not self._has_arguments:
            self._begin_arguments(char)
        elif self._key == "function" and char == "{":
            self._levels.append(0)
            self._step = self._begin
            self._begin(char)
        elif char in '{["':
            self._read(char, self._end_value)
        elif self._key in ("name", "function") and self.name is None:
            self._fail("the name must be a string")
        else:
            self._step = self._scalar
            self._scalar(char)

    def _begin_arguments(self, char: str) -> None:
        self._has_arguments = True
        if char == "{":
            self.has_object = True
            self._value = JsonText()
            self._step = self._in_arguments
            self._in_arguments(char)
        elif char in '["':
            self._read(char, self._end_arguments)
        else:
            self._step = self._scalar
            self._scalar(char)

    def _in_arguments(self, char: str) -> None:
        value = self._value
        assert value is not None
        self._arguments.append(value.feed(char))
        if value.problem:
            self._fail(value.problem)
        elif value.done:
            self._end(value)
            self._end_of_arguments = len(self._raw)

    def _end_arguments(self) -> None:
        text = "".join(self._text)
        self._arguments.append(_decoded(text) if text.startswith('"') else text)
        self._end_of_arguments = len(self._raw)

    def _end_value(self) -> None:
        text = "".join(self._text)
        if self._key in ("name", "function") and self.name is None and text.startswith('"'):
            self.name = _decoded(text)

    def _scalar(self, char: str) -> None:
        """A number or a word: it ends where the object goes on."""
        if char in ",}" or (char in _SPACE and self._text):
            text = "".join(self._text)
            if self._key in _ARGUMENTS and not self._arguments:
                self._arguments.append("{}" if text in ("null", "None") else text)
                self._end_of_arguments = len(self._raw) - 1
            self._text = []
            self._step = self._after_value
            self._after_value(char)
        else:
            self._text.append(char)

    def _after_value(self, char: str) -> None:
        if self._surplus and char == "}":
            self._surplus -= 1
            return
        self._surplus = 0
        if char == "}":
            self._close()
        elif char == ",":
            self._step = self._before_key
        elif char not in _SPACE:
            self._fail("a comma should stand here")

    def _close(self) -> None:
        self._surplus = self._levels.pop() - 1
        self._step = self._after_value
        if not self._levels:
            self.done = True

    # Values that are read as a whole

    def _read(self, char: str, end: Callable[[], None]) -> None:
        self._value, self._text, self._then = JsonText(), [], end
        self._step = self._in_value
        self._in_value(char)

    def _in_value(self, char: str) -> None:
        value = self._value
        assert value is not None
        self._text.append(value.feed(char))
        if value.problem:
            self._fail(value.problem)
        elif value.done:
            self._end(value)
            self._then()

    def _end(self, value: JsonText) -> None:
        self._surplus = value.surplus
        self._value = None
        self._step = self._after_value

    def _fail(self, problem: str) -> None:
        """It is malformed: what came behind the arguments, if anything, is kept with them."""
        self.problem = problem
        if self._end_of_arguments is not None:
            self._arguments += self._raw[self._end_of_arguments :]


def _decoded(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        return text.strip('"')
