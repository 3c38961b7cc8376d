"""The program ``pyqwen``: finds the verb, turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 141 the reader of stdout went away. An interrupted
program cleans up and dies of SIGINT, so that a shell's loop around it ends as well (shells show
130); on Windows it exits with 130.
"""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from pyqwen.cli import (
    batch,
    bench,
    chat,
    compare,
    convert,
    doctor,
    embed,
    imatrix,
    inspect,
    list_models,
    perplexity,
    plan,
    pull,
    quantize,
    remove,
    run,
    serve,
    template,
    tokenize,
)
from pyqwen.cli.console import UsageError, harmless, say
from pyqwen.cli.options import add_debug_option

VERBS = (
    run,
    chat,
    embed,
    serve,
    batch,
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


def program() -> NoReturn:
    """Run the command of this process and end the process as shells expect it."""
    code = main()
    if code == INTERRUPTED and os.name == "posix":
        _die_of_interrupt()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is without the program's name. Returns the exit code."""
    _replace_closed_streams()
    _write_utf8()
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    _suggest_verb(parser, argv)
    args, unknown = parser.parse_known_args(argv)
    if unknown:  # the parser of the verb shows the usage that helps
        getattr(args, "parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    if args.verb is None:
        parser.print_help()
        return WRONG_USAGE
    debug = getattr(args, "debug", False)
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
        description="Quantized inference of Qwen2.5 and Qwen3 models on ordinary CPUs.",
        epilog="pyqwen VERB --help explains a verb.",
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    add_debug_option(parser)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb in VERBS:
        verb.add_parser(verbs)
    parser.set_defaults(verbs=tuple(verbs.choices))
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
    """Texts of models are in all scripts: files and pipes get UTF-8, a terminal what it can show.

    What cannot be encoded, such as a byte of a file name that is no text, is shown escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _suggest_verb(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """End with a hint where the verb is misspelled; what the parser says lists all of them."""
    verb = next((argument for argument in argv if not argument.startswith("-")), None)
    names = parser.get_default("verbs")
    if verb is None or verb in names:
        return
    close = difflib.get_close_matches(verb.lower(), names, n=2)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"The verbs: {', '.join(names)}"
    parser.error(f"there is no verb {verb!r}. {hint}")


def _die_of_interrupt() -> NoReturn:
    """End by SIGINT: bash goes on with a loop if a child that got the signal exits by itself."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    sys.exit(INTERRUPTED)  # a signal that is blocked


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
    if isinstance(error, ImportError) and error.name == "pyqwen._ffi":
        return str(error)  # started in the source folder
    if isinstance(error, MemoryError):
        return "not enough memory; pyqwen plan MODEL tells what a model takes"
    kind = type(error).__name__
    return f"unexpected {kind}: {error}; please report this, with what --debug prints"


if __name__ == "__main__":
    program()
