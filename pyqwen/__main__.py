"""The program ``pyqwen``: finds the verb, turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 the reader of stdout went away.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from pyqwen.cli import (
    bench,
    chat,
    compare,
    convert,
    doctor,
    imatrix,
    inspect,
    list_models,
    perplexity,
    plan,
    pull,
    quantize,
    remove,
    run,
    template,
    tokenize,
)
from pyqwen.cli.console import UsageError, harmless, say
from pyqwen.cli.options import add_debug_option

VERBS = (
    run,
    chat,
    pull,
    list_models,
    remove,
    inspect,
    plan,
    tokenize,
    template,
    convert,
    quantize,
    imatrix,
    compare,
    perplexity,
    bench,
    doctor,
)
LOG_LEVELS = ("debug", "info", "warning", "error")

FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is without the program's name. Returns the exit code."""
    _replace_closed_streams()
    parser = make_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:  # the parser of the verb shows the usage that helps
        getattr(args, "parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    if args.verb is None:
        parser.print_help()
        return WRONG_USAGE
    debug = getattr(args, "debug", False)
    _write_utf8()
    try:
        _set_up_logging("debug" if debug else os.environ.get("PYQWEN_LOG", "").lower())
        code: int = args.run(args)
        sys.stdout.flush()  # here, where a broken pipe is handled
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            say("")  # the terminal has shown ^C
        return INTERRUPTED
    except BrokenPipeError:
        return _abandon_stdout()
    except UsageError as error:
        say(f"pyqwen {args.verb}: error: {error}\nSee pyqwen {args.verb} --help.")
        return WRONG_USAGE
    except Exception as error:
        if debug or os.environ.get("PYQWEN_LOG", "").lower() == "debug":
            traceback.print_exc()
        say(harmless(f"pyqwen: error: {_describe(error)}"))
        return FAILED
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="pyqwen",
        description="Quantized inference of Qwen2.5 models on ordinary CPUs.",
        epilog="pyqwen VERB --help explains a verb.",
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    add_debug_option(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs)
    return parser


class _ShowVersion(argparse.Action):
    """Look the version up only when it is asked for: that costs more than all of the parsing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        from importlib.metadata import version

        print(f"pyqwen {version('pyqwen')}")
        parser.exit()


def _set_up_logging(level: str) -> None:
    if level and level not in LOG_LEVELS:
        say(f"PYQWEN_LOG is {level!r} and ignored; choose one of {', '.join(LOG_LEVELS)}")
        level = ""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("pyqwen").setLevel((level or "warning").upper())


def _replace_closed_streams() -> None:
    """Of a closed stream (``2>&-``) Python has None, and ``print`` takes that for stdout."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _write_utf8() -> None:
    """Texts of models are in all scripts: files and pipes get UTF-8, a terminal what it can show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            if stream.isatty():
                stream.reconfigure(errors="replace")
            else:
                stream.reconfigure(encoding="utf-8")


def _abandon_stdout() -> int:
    """``pyqwen ... | head -1``: stop quietly; what is still buffered has no reader."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    return BROKEN_PIPE


def _describe(error: Exception) -> str:
    """Return one message: the error's own if it is one that users can act upon."""
    from pyqwen.errors import PyQwenError

    if isinstance(error, OSError) and not isinstance(error, PyQwenError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, PyQwenError | ValueError | OSError) and str(error):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory; pyqwen plan MODEL tells what a model takes"
    kind = type(error).__name__
    return f"unexpected {kind}: {error}; please report this, with what --debug prints"


if __name__ == "__main__":
    sys.exit(main())
