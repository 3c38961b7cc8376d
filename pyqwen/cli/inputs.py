"""What the user names on the command line, turned into files, texts and models."""

from __future__ import annotations

import argparse
import codecs
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqwen.cli.adapters import named_adapters
from pyqwen.cli.console import ProgressBar, UsageError, say
from pyqwen.cli.memory import describe_plan
from pyqwen.cli.options import given

if TYPE_CHECKING:
    from pyqwen import Model
    from pyqwen._native import KVType
    from pyqwen.loading.gguf_file import GGUFFile
    from pyqwen.loading.weights import Weights
    from pyqwen.text.tokenizer import Tokenizer


def find_model(name: str | None) -> Path:
    """Return the file of a model, fetching it where it is not here; None is the default model."""
    from pyqwen import catalog

    with ProgressBar("downloading", "bytes") as bar:
        return catalog.resolve(
            catalog.DEFAULT_MODEL if name is None else name,
            progress=bar.update,
            say=bar.say,
            notice=bar.say,
        )


def find_local_model(name: str | None) -> Path:
    """Return the file of a model for verbs that only look at it: they must not fetch gigabytes."""
    from pyqwen import catalog
    from pyqwen.catalog.names import parse_name
    from pyqwen.errors import ModelNotFoundError

    name = catalog.DEFAULT_MODEL if name is None else name
    ref = parse_name(name)
    if ref is not None and not os.path.lexists(name) and catalog.locate(name) is None:
        raise ModelNotFoundError(
            f"{ref.name} is not on this machine; to fetch it, run\n    pyqwen pull {ref.name}"
        )
    return catalog.resolve(name, offline=True, notice=say)


def open_tokenizer(name: str | None) -> tuple[GGUFFile, Tokenizer]:
    """Open the file of a model and its tokenizer; no weights are read."""
    from pyqwen.loading.gguf_file import GGUFFile
    from pyqwen.text.tokenizer import Tokenizer

    path = find_local_model(name)
    file = GGUFFile(path)
    return file, Tokenizer.from_metadata(file.metadata, source=str(path))


def open_model(args: argparse.Namespace) -> Model:
    """Load the model of a verb that generates, and say what is loaded before it begins."""
    from pyqwen import Model, plan

    path = find_model(args.model)
    settings = given(args, "context", "threads", "kv_type", "cache")
    if args.draft != "off":
        settings["draft"] = args.draft if args.draft == "ngram" else find_model(args.draft)
    settings["adapters"] = named_adapters(getattr(args, "adapters", []))[0]
    if not getattr(args, "quiet", False):
        say(describe_plan(plan(path, max_sequences=1, **settings), path))
    with ProgressBar("loading", "bytes") as bar:
        model = Model(path, max_sequences=1, progress=bar.update, **settings)
    if not getattr(args, "quiet", False) and _is_for_embeddings(model):
        say(f"{path.name} is for embeddings: what it writes has no meaning (pyqwen embed)")
    return model


def _is_for_embeddings(model: Model) -> bool:
    with suppress(ValueError):  # it can have none
        return model.embedding_settings.embeds
    return False


@contextmanager
def open_weights(
    name: str | None, threads: int | None, kv_type: KVType | None, *, cache: bool = True
) -> Iterator[Weights]:
    """Load a model; arguments that are None come from the environment, else from the defaults."""
    from pyqwen.loading import weights

    path = find_model(name)
    with (
        ProgressBar("loading", "bytes") as bar,
        weights.open_weights(
            path, threads=threads, kv_type=kv_type, cache=cache, progress=bar.update
        ) as opened,
    ):
        bar.close()
        yield opened


def read_stdin() -> str:
    """Read all of standard input as UTF-8 text."""
    if sys.stdin.isatty():
        say("reading standard input; end it with Ctrl-D (on Windows Ctrl-Z, Enter)")
    return decode_utf8(sys.stdin.buffer.read(), "standard input")


def say_if_stdin_is_unread() -> None:
    """Tell who pipes a text into a command that does not read it: it is read where ``-`` stands."""
    if _stdin_has_content():
        say("standard input is not read; give - where its text belongs")


def _stdin_has_content() -> bool:
    """Whether a pipe or a file is waiting at standard input; nothing is taken from it."""
    try:
        number = sys.stdin.fileno()
        status = os.fstat(number)
        if stat.S_ISREG(status.st_mode):
            return status.st_size > os.lseek(number, 0, os.SEEK_CUR)
        if stat.S_ISFIFO(status.st_mode) and os.name == "posix":
            return _waiting_bytes(number) > 0
    except (OSError, ValueError):  # closed, or none at all
        pass
    return False


def _waiting_bytes(pipe: int) -> int:
    import fcntl
    import struct
    import termios

    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return int(count)


def read_text(path: str) -> str:
    """Read a file as UTF-8 text; ``-`` is standard input."""
    return read_stdin() if path == "-" else decode_utf8(Path(path).read_bytes(), path)


def read_json(path: str) -> Any:
    """Read a JSON file; ``-`` is standard input."""
    import json

    text = read_text(path)
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{path} escapes halves of characters (\\uD800 to \\uDFFF)") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    return value


def decode_utf8(data: bytes, source: str) -> str:
    """Decode a text from outside, without a byte order mark; ``source`` names it in the error."""
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{source} is not UTF-8 text (see byte {error.start:,}); convert it first (iconv)"
        ) from error
