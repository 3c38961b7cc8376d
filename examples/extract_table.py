"""A table from text: CSV whose columns are a schema's. For example

    python examples/extract_table.py -c "company, city, amount:number, paid:boolean" letters.txt > table.csv

Every file (or stdin) is cut at its paragraphs, so that long ones fit, and each piece gives rows, which the
schema guarantees to be of these columns and types. A column is a name, or ``name:type`` with the type string,
number, integer, boolean or a list of words: ``state:open|paid|late``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyqwen import Model, PyQwenError
from pyqwen.catalog import DEFAULT_MODEL

TYPES = ("string", "number", "integer", "boolean")
_CONTEXT = 8192  # a piece and its rows have room in that; small models lose sight of more
ASK = (
    "Extract every record from the text as rows of a table. Use only what the text says; leave a value null "
    "where it does not say it. If there are no records, give no rows.\n\nText:\n"
)


def column(text: str) -> tuple[str, dict[str, Any]]:
    """The name and JSON schema of a column as the command line has it."""
    name, _, kind = text.strip().partition(":")
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} names no column")
    if "|" in kind:
        return name, {"enum": [*kind.split("|"), None]}
    if kind and kind not in TYPES:
        raise argparse.ArgumentTypeError(f"{kind!r}: types are {', '.join(TYPES)} or words with |")
    return name, {"type": [kind or "string", "null"]}


def columns(text: str) -> dict[str, dict[str, Any]]:
    return dict(column(part) for part in text.split(","))


def table_schema(columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """JSON schema of ``{"rows": [...]}`` with these columns, all of them present."""
    row = {
        "type": "object",
        "properties": columns,
        "required": list(columns),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row}},
        "required": ["rows"],
        "additionalProperties": False,
    }


def pieces(text: str, model: Model, most: int) -> Iterator[str]:
    """The text in pieces of whole paragraphs, of ``most`` tokens at most where paragraphs allow that."""
    piece = ""
    for paragraph in text.split("\n\n"):
        longer = f"{piece}\n\n{paragraph}" if piece else paragraph
        if piece and len(model.tokenizer.encode(longer)) > most:
            yield piece
            longer = paragraph
        piece = longer
    if piece.strip():
        yield piece


def extract(
    model: Model, text: str, columns: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The rows of a text."""
    schema = table_schema(columns)
    for piece in pieces(text, model, min(model.context, _CONTEXT) // 3):
        reply = model.chat(
            ASK + piece, response_format=schema, temperature=0, max_tokens=_CONTEXT // 2
        )
        if reply.parsed is None:
            print("a piece has more rows than fit the context; some are missing", file=sys.stderr)
            continue
        yield from reply.parsed["rows"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="extract_table.py", description="CSV from text.")
    parser.add_argument("-c", "--columns", type=columns, required=True, help="name[:type], ...")
    parser.add_argument("-m", "--model", default=DEFAULT_MODEL)
    parser.add_argument("files", nargs="*", type=Path, help="text files; none: standard input")
    options = parser.parse_args()
    try:
        texts = [path.read_text("utf-8") for path in options.files] or [sys.stdin.read()]
        table = csv.DictWriter(sys.stdout, list(options.columns), lineterminator="\n")
        with Model(options.model) as model:
            table.writeheader()
            for text in texts:
                table.writerows(extract(model, text, options.columns))
                sys.stdout.flush()
    except (OSError, PyQwenError, ValueError) as error:
        print(f"extract_table.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
