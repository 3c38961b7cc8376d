"""``pyqwen tokenize``: the token ids and pieces of a text."""

from __future__ import annotations

import argparse

from pyqwen.cli.console import print_json
from pyqwen.cli.inputs import open_tokenizer, read_stdin, say_if_stdin_is_unread
from pyqwen.cli.options import (
    Verbs,
    add_json_option,
    add_model_option,
    add_verb,
    text_argument,
)


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "tokenize",
        run,
        summary="show the tokens of a text",
        description="One line per token: its id, its spelling in the vocabulary, its text.",
        examples=(
            "pyqwen tokenize 'Hello, wörld!'",
            "pyqwen tokenize --json --special - < prompt.txt",
        ),
    )
    add_model_option(parser, fetches=False)
    parser.add_argument(
        "text",
        type=text_argument,
        metavar="TEXT|-",
        help="the text; - reads standard input, unchanged",
    )
    parser.add_argument(
        "--special",
        action="store_true",
        help="recognize control tokens such as <|im_start|> in the text",
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    if args.text == "-":
        text = read_stdin()
    else:
        text = args.text
        say_if_stdin_is_unread()
    file, tokenizer = open_tokenizer(args.model)
    with file:
        ids = tokenizer.encode(text, special=args.special)
        pieces = [tokenizer.id_to_piece(token) for token in ids]
        if args.json:
            print_json({"ids": ids, "pieces": pieces})
            return 0
        for token, piece in zip(ids, pieces, strict=True):
            print(f"{token:>6}  {piece:<20}  {_readable(tokenizer.token_bytes(token))}")
    return 0


def _readable(data: bytes) -> str:
    """The text in quotes, or the bytes in hex if they are only a part of a character."""
    try:
        return repr(data.decode("utf-8"))
    except UnicodeDecodeError:
        return data.hex(" ")
