"""``--adapter PATH[=SCALE]``, of all verbs that run a model."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from pyqwen.cli.console import UsageError


def add_adapter_option(parser: argparse.ArgumentParser, what: str) -> None:
    """``what`` is done with it, the end of the help text."""
    parser.add_argument(
        "--adapter",
        dest="adapters",
        action="append",
        default=[],
        metavar="PATH[=SCALE]",
        help=f"a LoRA adapter, PEFT's directory or a GGUF file; may be given several times; {what}",
    )


def named_adapters(arguments: list[str]) -> tuple[dict[str, str], dict[str, float]]:
    """Paths and factors (1 where none is given) by names: those of the files, with a number where two
    are alike."""
    paths: dict[str, str] = {}
    factors: dict[str, float] = {}
    for argument in arguments:
        path, factor = split_factor(argument)
        stem = _stem(path)
        name, number = stem, 2
        while name in paths:
            name, number = f"{stem}-{number}", number + 1
        paths[name], factors[name] = path, factor
    return paths, factors


def chosen_adapter(args: argparse.Namespace) -> dict[str, float]:
    """The names and factors of ``--adapter``, for a verb that may have ``--session``, too."""
    if args.adapters and args.session is not None:
        raise UsageError("--session: a session's file cannot hold what was read with an adapter")
    return named_adapters(args.adapters)[1]


def split_factor(argument: str) -> tuple[str, float]:
    """``PATH`` or ``PATH=SCALE``."""
    path, separator, factor = argument.rpartition("=")
    if not separator or os.path.lexists(argument):
        return argument, 1.0
    try:
        value = float(factor)
    except ValueError:
        value = math.nan
    if not path or not math.isfinite(value):
        raise UsageError(
            f"--adapter {argument}: expected PATH or PATH=SCALE, such as ./my-lora=0.5"
        )
    return path, value


def _stem(path: str) -> str:
    name = Path(path).absolute().name
    name = name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
    printable = "".join(letter if letter.isprintable() else "?" for letter in name)
    return printable[:200] or "adapter"
