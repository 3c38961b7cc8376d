"""``pyqwen chat``: a conversation in the terminal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyqwen.cli.adapters import add_adapter_option, chosen_adapter
from pyqwen.cli.chat_input import ask, keys_unseen, read_messages
from pyqwen.cli.console import counted, say
from pyqwen.cli.conversation import CommandError, Conversation
from pyqwen.cli.inputs import open_model
from pyqwen.cli.options import Verbs, add_generation_options, add_verb, generation_overrides
from pyqwen.cli.session_files import add_session_option
from pyqwen.cli.speed import CUT_OFF
from pyqwen.cli.status_line import StatusLine

if TYPE_CHECKING:
    from pyqwen import ChatCompletion, Model


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "chat",
        run,
        summary="hold a conversation in the terminal",
        description="What was read once is not read again. /help lists the commands. With a pipe "
        "as standard input, each of its lines is a message.",
        examples=(
            "pyqwen chat",
            "pyqwen chat -m qwen2.5-7b -s 'Answer in one sentence.' --temp 0.2",
            "pyqwen chat --session talk.session",
        ),
    )
    add_generation_options(parser)
    add_session_option(parser)
    add_adapter_option(parser, "SCALE multiplies what it adds (default: 1)")
    parser.add_argument(
        "--no-history",
        dest="history",
        action="store_false",
        help="do not keep what you type for the next time (it is kept in the cache folder)",
    )


def run(args: argparse.Namespace) -> int:
    from pyqwen.catalog import cache_root

    overrides = generation_overrides(args)
    adapter = chosen_adapter(args)
    history = cache_root() / "chat_history" if args.history else None
    with open_model(args) as model, model.session() as session:
        conversation = Conversation(model, session, args.system, overrides)
        conversation.adapter = adapter
        if args.session is None:
            _talk(model, conversation, history)
        else:
            _go_on(conversation, args.session, overrides)
            try:
                _talk(model, conversation, history)
            finally:
                if not conversation.is_saved and not model.closed:
                    say(conversation.save_session(args.session))
    return 0


def _talk(model: Model, conversation: Conversation, history: Path | None) -> None:
    for message in read_messages(history):
        if not message.is_command:
            _converse(model, conversation, message.text)
        elif message.text in ("/bye", "/exit", "/quit"):
            break
        else:
            _obey(conversation, message.text)


def _go_on(conversation: Conversation, path: Path, settings: dict[str, Any]) -> None:
    """Load the file if it is there; what was given on the command line counts more than what is in it."""
    conversation.session.check_target(path)
    if path.exists():
        system = conversation.system
        say(conversation.load_session(path))
        conversation.settings |= settings
        conversation.system = conversation.system if system is None else system


def _obey(conversation: Conversation, line: str) -> None:
    try:
        say(conversation.obey(line))
    except (CommandError, OSError, ValueError, RecursionError) as error:
        say(f"error: {error}")


def _converse(model: Model, conversation: Conversation, text: str) -> None:
    """Ask, stream the answer, remember both; an error leaves the conversation as it was."""
    from pyqwen.errors import ClosedError, ContextOverflowError, PyQwenError

    conversation.ask(text)
    try:
        while True:
            try:
                conversation.answer(_stream_answer(model, conversation))
                break
            except ContextOverflowError:
                if not _drop_oldest(conversation):
                    raise
    except ClosedError:
        raise
    except (PyQwenError, TypeError, ValueError) as error:  # of /set, some are noticed only here
        conversation.take_back()
        too_long = isinstance(error, ContextOverflowError)
        say(f"error: {error}{'; /clear forgets the conversation' if too_long else ''}")
        return
    if (warning := conversation.warning()) is not None:
        say(f"({warning})")


def _drop_oldest(conversation: Conversation) -> bool:
    """Offer to forget the oldest turns of a conversation that has outgrown the context."""
    turns = conversation.droppable
    if not turns or not sys.stdin.isatty():
        return False
    answer = ask(
        f"The conversation no longer fits the context. Forget its oldest {counted(turns, 'turn')}? "
        "The system prompt stays. [Y/n] "
    )
    if answer.strip().lower() not in ("", "y", "yes"):
        return False
    conversation.drop_oldest(turns)
    return True


def _stream_answer(model: Model, conversation: Conversation) -> ChatCompletion | None:
    """Print the answer as it comes; Ctrl-C at a terminal cuts it off. None if nothing was begun."""
    output = _Answer()
    stream = None
    settings = conversation.settings
    try:
        with (
            keys_unseen(),
            model.stream_chat(
                conversation.messages,
                on_prompt=output.reading,
                response_format=conversation.response_format,
                session=conversation.session,
                adapter=conversation.adapter,
                **settings,
            ) as stream,
        ):
            for chunk in stream:
                output.writing(chunk.text, len(chunk.token_ids), thinks=bool(chunk.reasoning))
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        if stream is not None and stream.completion is not None:
            output.finish(stream.completion.text)
        output.close()
        say("(stopped)")
    finally:
        output.close()
    completion = cast("ChatCompletion | None", stream.completion) if stream is not None else None
    if completion is not None and completion.finish_reason == "length":
        say(f"({CUT_OFF})")
    if sys.stdout.isatty():
        print()
    return completion


class _Answer:
    """The streamed answer, and under it how fast it comes."""

    def __init__(self) -> None:
        self._line = StatusLine()
        self._tokens = 0
        self._shown = 0  # characters
        self._begun = 0.0

    def reading(self, done: int, total: int) -> None:
        if done < total:
            self._line.write("", f"reading {done:,} of {total:,} tokens")

    def writing(self, text: str, tokens: int, *, thinks: bool) -> None:
        now = time.monotonic()
        if self._tokens == 0:
            self._begun = now
        self._tokens += tokens
        self._shown += len(text)
        seconds = now - self._begun
        speed = f"{(self._tokens - 1) / seconds:.1f} tokens/s" if seconds > 0.2 else ""
        self._line.write(text, f"thinking  {speed}" if thinks and not text else speed)

    def finish(self, text: str) -> None:
        """Show what came after the reading of chunks was interrupted: it will be remembered."""
        self._line.write(text[self._shown :], "")

    def close(self) -> None:
        self._line.close()
