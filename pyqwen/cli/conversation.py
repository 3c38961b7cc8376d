"""The state of ``pyqwen chat``: what was said, the settings, and the commands that change them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import UsageError, counted
from pyqwen.cli.inputs import read_json
from pyqwen.cli.options import LARGEST, SAMPLING_FLAGS
from pyqwen.cli.session_files import (
    SUFFIX,
    is_session_file,
    load_conversation,
    save_conversation,
)
from pyqwen.cli.speed import describe_speed
from pyqwen.cli.structure import ANY_OBJECT, schema_constraint

if TYPE_CHECKING:
    from pyqwen import Constraint, Model, Session
    from pyqwen.results import ChatCompletion

HELP = """\
  /help               this list
  /clear              forget the conversation
  /save FILE          write the conversation to a JSON file; to FILE.session:
                      with what the model has read of it
  /load FILE          go on with a conversation that was saved
  /set NAME VALUE     change a sampling setting; /set alone shows all of them
  /system TEXT        change the system prompt; /system alone shows it
  /json SCHEMA        answers are JSON by a schema, its text or a file;
                      /json alone: any object; /json off: as the model likes
  /stats              speed of the last answer, size of the conversation
  /bye                leave (also Ctrl-D)
A line that ends with \\ goes on in the next one; \"\"\" begins a text of many lines
that the next \"\"\" ends; Alt-Enter begins a new line. Ctrl-C stops an answer. To
send a text that begins with /, put a space before it."""

# What settings without a value mean.
_UNSET = {"max_tokens": "8192, or the rest of the context", "seed": "random", "stop": "none"}
# Where the value of a setting comes from, as Model.default_origins has it.
_ORIGINS = {
    "file": "from the model's file",
    "family": "published with models of this family",
    "": "neutral: without effect",
}
# What -1 means in llama.cpp: a random seed, and no limit.
_MINUS_ONE: dict[str, int | None] = {"seed": None, "max_tokens": LARGEST}
_LITTLE = 0.1  # of the context


class Conversation:
    """Messages and settings. Commands return what is to be shown, and raise ``CommandError``."""

    def __init__(
        self, model: Model, session: Session, system: str | None, settings: dict[str, Any]
    ) -> None:
        """``session`` is what the model has read of it."""
        self._model, self.session = model, session
        self.system = system
        self.settings = settings
        self.adapter: dict[str, float] = {}  # names and factors
        self.response_format: Constraint | None = None
        self.turns: list[dict[str, Any]] = []
        self.is_saved = True  # in a session file, as it is
        self.last: ChatCompletion | None = None
        self._read = self._cached = self._written = 0

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation as a chat template takes it."""
        if self.system is None:
            return self.turns
        return [{"role": "system", "content": self.system}, *self.turns]

    def ask(self, text: str) -> None:
        """Add a question, which ``answer`` or ``take_back`` must follow."""
        self.turns.append({"role": "user", "content": text})

    def answer(self, completion: ChatCompletion | None) -> None:
        """Add the answer, or take the question back if there is none."""
        if completion is None:
            self.take_back()
            return
        self.last = completion
        self._read += completion.usage.prompt_tokens
        self._cached += completion.usage.cached_tokens
        self._written += completion.usage.completion_tokens
        if completion.text:
            self.turns.append(completion.message)
            self.is_saved = False
        else:
            self.take_back()

    def take_back(self) -> None:
        """Remove the last question."""
        self.turns.pop()

    @property
    def droppable(self) -> int:
        """How many of the oldest turns may be forgotten at once: a quarter, in whole exchanges."""
        starts = [i for i, turn in enumerate(self.turns) if turn["role"] == "user"][1:]
        wanted = max(1, len(self.turns) // 4)
        return next((start for start in starts if start >= wanted), starts[-1] if starts else 0)

    def drop_oldest(self, turns: int) -> None:
        """Forget the first turns; the system prompt and the last question stay."""
        self.turns = self.turns[turns:]

    def warning(self) -> str | None:
        """A word of warning when little of the context is left."""
        used = self.last.usage.total_tokens if self.last is not None and self.turns else 0
        left = self._model.context - used
        if left >= self._model.context * _LITTLE:
            return None
        return (
            f"the conversation fills {used:,} of the {self._model.context:,} tokens of the context; "
            "/clear forgets it"
        )

    # The commands

    def obey(self, line: str) -> str:
        """Carry out a command that begins with ``/``; return the text to show."""
        name, _, argument = line.removeprefix("/").partition(" ")
        command = self._commands().get(name)
        if command is None:
            raise CommandError(
                f"/{name} is unknown, /help lists the commands; a space before the / makes it text"
            )
        return command(argument.strip())

    def _commands(self) -> dict[str, Callable[[str], str]]:
        return {
            "help": lambda _: HELP,
            "?": lambda _: HELP,
            "clear": self._clear,
            "save": self._save,
            "load": self._load,
            "set": self._set,
            "system": self._set_system,
            "json": self._set_json,
            "stats": self._stats,
        }

    def _clear(self, _: str) -> str:
        self.turns = []
        self.session.rewind(0)
        self.is_saved = False
        return "the conversation is empty"

    def _save(self, name: str) -> str:
        path = _path(name, "/save")
        if path.suffix == SUFFIX:
            return self.save_session(path)
        content = {"messages": self.messages, "settings": self.settings}
        text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        if path.is_dir():
            raise CommandError(f"{path} is a directory")
        part = path.with_name(f"{path.name}.part")
        try:
            part.write_text(text, "utf-8")
            part.replace(path)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        except UnicodeEncodeError as error:
            raise CommandError(f"the conversation holds what is not text: {error}") from error
        finally:
            part.unlink(missing_ok=True)
        return f"{counted(len(self.turns), 'message')} saved in {path}"

    def _load(self, name: str) -> str:
        from pyqwen.text.answer_tokens import drop_foreign_tokens

        path = _path(name, "/load")
        if is_session_file(path):
            return self.load_session(path)
        try:
            system, turns, settings = saved_conversation(read_json(str(path)), path)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
        except UsageError as error:
            raise CommandError(f"{path} is not a saved conversation: {error}") from error
        drop_foreign_tokens(turns, self._model.tokenizer)
        self.system, self.turns, self.settings = system, turns, settings
        self.is_saved = False
        return f"{counted(len(turns), 'message')} loaded from {path}"

    def save_session(self, path: Path) -> str:
        """Write the conversation to a session file; return what is to be shown."""
        from pyqwen.errors import PyQwenError

        try:
            save_conversation(self.session, path, self.messages, self.settings)
        except (PyQwenError, ValueError, TypeError) as error:
            raise CommandError(f"{path} was not written: {error}") from error
        self.is_saved = True
        return f"{counted(len(self.turns), 'message')} saved in {path}"

    def load_session(self, path: Path) -> str:
        """Go on with what is in a session file; return what is to be shown."""
        from pyqwen.errors import PyQwenError

        try:
            content = load_conversation(self.session, path)
            self.system, self.turns, self.settings = saved_conversation(content, path)
        except (PyQwenError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.is_saved = True
        return f"{counted(len(self.turns), 'message')} loaded from {path}"

    def _set(self, assignment: str) -> str:
        from pyqwen import SamplingParams

        name, _, text = assignment.partition(" ")
        if not name:
            return self._show_settings()
        field = SAMPLING_FLAGS.get(name.lstrip("-"), name.lstrip("-").replace("-", "_"))
        if field not in {known.name for known in fields(SamplingParams)}:
            raise CommandError(f"there is no setting {name}; /set alone lists them")
        try:
            value = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            value = text.strip()
        if value == -1:
            value = _MINUS_ONE.get(field, value)
        try:
            value = _from_json({field: value})[field]
            SamplingParams(**{field: value})
        except (TypeError, ValueError) as error:
            raise CommandError(str(error)) from error
        if value is None:
            self.settings.pop(field, None)
        else:
            self.settings[field] = value
        return f"{field} is {'as the model has it' if value is None else value}"

    def _show_settings(self) -> str:
        from pyqwen import SamplingParams

        effective = asdict(SamplingParams(**self.settings).over(self._model.defaults))
        lines = [
            (f"{name} = {_UNSET[name] if value is None else value}", self._origin(name))
            for name, value in effective.items()
            if value is not None or name in _UNSET
        ]
        width = max(len(line) for line, _ in lines)
        return "\n".join(f"  {line:<{width}}  ({origin})" for line, origin in lines)

    def _origin(self, name: str) -> str:
        if name in self.settings:
            return "set here"
        return _ORIGINS[self._model.default_origins.get(name, "")]

    def _set_system(self, text: str) -> str:
        if not text:
            return self.system or "no system prompt was set: the template may add the model's own"
        self.system = text
        return "the system prompt is set"

    def _set_json(self, schema: str) -> str:
        if schema == "off":
            self.response_format = None
            return "answers are what the model likes"
        try:
            self.response_format = schema_constraint(schema or ANY_OBJECT)
        except UsageError as error:
            raise CommandError(str(error)) from error
        return "answers are JSON" + (" by this schema" if schema else ", any object")

    def _stats(self, _: str) -> str:
        if self.last is None:
            return "nothing was asked yet"
        usage = self.last.usage
        return (
            f"  last answer: {describe_speed(self.last)}\n"
            f"  all answers: {self._read:,} prompt tokens, {self._cached:,} of them cached, "
            f"{self._written:,} written\n"
            f"  context: {usage.total_tokens:,} of {self._model.context:,} tokens"
        )


class CommandError(Exception):
    """A command cannot be carried out; nothing was changed."""


def _path(name: str, command: str) -> Path:
    if not name:
        raise CommandError(f"{command} needs the name of a file")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # ~ and a name that no user has
        raise CommandError(f"{name}: {error}") from error


def _from_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with token ids as the keys of ``logit_bias``: in JSON they must be strings."""
    bias = settings.get("logit_bias")
    if not isinstance(bias, dict):
        return settings
    return settings | {"logit_bias": {int(token): value for token, value in bias.items()}}


def saved_conversation(
    content: Any, path: Path
) -> tuple[str | None, list[dict[str, Any]], dict[str, Any]]:
    """System prompt, turns and settings of a saved conversation; ``CommandError`` if it is none."""
    try:
        return _saved(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CommandError(f"{path} is not a saved conversation") from error


def _saved(content: Any) -> tuple[str | None, list[dict[str, Any]], dict[str, Any]]:
    from pyqwen import SamplingParams
    from pyqwen.text.messages import normalize_messages

    json.dumps(content, ensure_ascii=False).encode()  # refuses halves of surrogate pairs
    messages, settings = content["messages"], _from_json(dict(content.get("settings", {})))
    SamplingParams(**settings)
    turns = normalize_messages(messages) if messages else []
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    return system, turns, settings
