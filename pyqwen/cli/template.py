"""``pyqwen template``: the prompt that the chat template of a model makes of messages."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pyqwen.cli.console import UsageError
from pyqwen.cli.inputs import open_tokenizer, read_json
from pyqwen.cli.options import Verbs, add_model_option, add_verb


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "template",
        run,
        summary="show the prompt that a model reads for a conversation",
        description="The prompt is printed exactly, without a newline at its end unless stdout is "
        "a terminal.",
        examples=(
            "pyqwen template messages.json",
            """echo '[{"role": "user", "content": "Hello!"}]' | pyqwen template -""",
        ),
    )
    add_model_option(parser, fetches=False)
    parser.add_argument(
        "messages",
        metavar="MESSAGES.json",
        help='a list of {"role": …, "content": …}, or an object with "messages" and "tools"; - is '
        "standard input",
    )
    parser.add_argument(
        "--no-generation-prompt",
        action="store_true",
        help="stop after the last message instead of beginning the answer",
    )


def run(args: argparse.Namespace) -> int:
    messages, tools = _conversation(read_json(args.messages), args.messages)

    from pyqwen.text.chat_template import ChatTemplate

    file, tokenizer = open_tokenizer(args.model)
    with file:
        template = ChatTemplate.from_metadata(file.metadata, tokenizer)
    try:
        rendered = template.render(
            messages, tools=tools, add_generation_prompt=not args.no_generation_prompt
        )
    except TypeError as error:  # names the message that is of a wrong type
        raise UsageError(f"{args.messages}: {error}") from error
    sys.stdout.write(rendered.text)
    if sys.stdout.isatty() and not rendered.text.endswith("\n"):
        print()
    return 0


def _conversation(value: Any, source: str) -> tuple[Any, Any]:
    if isinstance(value, dict) and "messages" in value:
        tools = value.get("tools")
        if tools is not None and not isinstance(tools, list):
            raise UsageError(f"{source}: 'tools' is not a list")
        return value["messages"], tools
    if isinstance(value, list):
        return value, None
    raise UsageError(
        f"{source} is neither a list of messages nor an object with the key 'messages'"
    )
