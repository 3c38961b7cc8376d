"""``pyqwen chat``: a conversation in the terminal."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from pyqwen.cli.console import say
from pyqwen.cli.conversation import CommandError, Conversation
from pyqwen.cli.inputs import open_model
from pyqwen.cli.options import Verbs, add_generation_options, add_verb, generation_overrides
from pyqwen.cli.status_line import StatusLine

if TYPE_CHECKING:
    from pyqwen import Model


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
        ),
    )
    add_generation_options(parser)


def run(args: argparse.Namespace) -> int:
    from pyqwen.catalog import cache_root
    from pyqwen.cli.chat_input import read_messages

    with open_model(args) as model:
        conversation = Conversation(model, args.system, generation_overrides(args))
        for text in read_messages(cache_root() / "chat_history"):
            if text in ("/bye", "/exit", "/quit"):
                break
            if text.startswith("/"):
                _obey(conversation, text)
            else:
                _converse(model, conversation, text)
    return 0


def _obey(conversation: Conversation, line: str) -> None:
    try:
        say(conversation.obey(line))
    except CommandError as error:
        say(f"error: {error}")


def _converse(model: Model, conversation: Conversation, text: str) -> None:
    """Ask, stream the answer, remember both; an error leaves the conversation as it was."""
    from pyqwen.errors import ClosedError, PyQwenError

    conversation.ask(text)
    output = _Answer()
    stream = None
    try:
        with model.stream_chat(
            conversation.messages, on_prompt=output.reading, **conversation.settings
        ) as stream:
            for chunk in stream:
                output.writing(chunk.text, len(chunk.token_ids))
    except KeyboardInterrupt:
        output.close()
        say("(stopped)")
    except ClosedError:
        raise
    except PyQwenError as error:
        output.close()
        conversation.take_back()
        say(f"error: {error}")
        return
    output.close()
    if sys.stdout.isatty():
        print()
    if stream is None or stream.completion is None:
        conversation.take_back()
    else:
        conversation.answer(stream.completion)


class _Answer:
    """The streamed answer, and under it how fast it comes."""

    def __init__(self) -> None:
        self._line = StatusLine()
        self._tokens = 0
        self._begun = 0.0

    def reading(self, done: int, total: int) -> None:
        if done < total:
            self._line.write("", f"reading {done:,} of {total:,} tokens")

    def writing(self, text: str, tokens: int) -> None:
        now = time.monotonic()
        if self._tokens == 0:
            self._begun = now
        self._tokens += tokens
        seconds = now - self._begun
        speed = f"{(self._tokens - 1) / seconds:.1f} tokens/s" if seconds > 0.2 else ""
        self._line.write(text, speed)

    def close(self) -> None:
        self._line.close()
