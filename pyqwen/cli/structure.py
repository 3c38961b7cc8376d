"""What an answer in the terminal must look like: flags of ``run``, and ``/json`` of ``chat``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pyqwen.cli.console import UsageError
from pyqwen.cli.inputs import read_text
from pyqwen.cli.options import text_argument

if TYPE_CHECKING:
    from pyqwen import Constraint

ANY_OBJECT = '{"type": "object"}'


def add_structure_options(parser: argparse.ArgumentParser) -> None:
    """The flags that say what the answer must look like, of which one can be given."""
    group = parser.add_argument_group(
        "structure", "The answer follows a schema or grammar, of which only one can be given."
    ).add_mutually_exclusive_group()
    group.add_argument(
        "--json-schema",
        type=text_argument,
        metavar="FILE|TEXT",
        help="JSON by a JSON schema: a file, or the schema itself, which begins with {",
    )
    group.add_argument("--json-object", action="store_true", help="any JSON object")
    group.add_argument(
        "--regex",
        type=text_argument,
        metavar="PATTERN",
        help="a text that the whole of a regular expression matches (Rust's syntax)",
    )
    group.add_argument(
        "--choice",
        action="append",
        type=text_argument,
        metavar="TEXT",
        help="one of several texts, each with a --choice of its own",
    )
    group.add_argument(
        "--grammar",
        metavar="FILE",
        help="a grammar: of llguidance if its name ends with .lark, else GBNF of llama.cpp",
    )


def structure_of(args: argparse.Namespace) -> Constraint | None:
    """The constraint of the flags, if one is given; ``UsageError`` says what is wrong with it."""
    from pyqwen import Constraint
    from pyqwen.errors import ConstraintError

    try:
        if args.json_schema is not None:
            return schema_constraint(args.json_schema)
        if args.json_object:
            return Constraint.json(ANY_OBJECT)
        if args.regex is not None:
            return Constraint.regex(args.regex)
        if args.choice is not None:
            return Constraint.choice(args.choice)
        if args.grammar is not None:
            is_lark = Path(args.grammar).suffix == ".lark"
            return (Constraint.lark if is_lark else Constraint.gbnf)(read_text(args.grammar))
    except ConstraintError as error:
        raise UsageError(str(error)) from error
    return None


def schema_constraint(schema: str) -> Constraint:
    """The constraint of a schema: of its text, which begins with ``{``, or of a file's."""
    from pyqwen import Constraint

    text = schema if schema.lstrip().startswith("{") else read_text(schema)
    return Constraint.json(text)
