"""``pyqwen embed``: texts to vectors, for search and comparison."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import ProgressBar, UsageError, counted, say
from pyqwen.cli.inputs import find_model, read_stdin, read_text, say_if_stdin_is_unread
from pyqwen.cli.memory import describe_plan
from pyqwen.cli.options import (
    Verbs,
    add_cache_option,
    add_context_option,
    add_kv_type_option,
    add_model_option,
    add_threads_option,
    add_verb,
    given,
    positive_int,
    text_argument,
)
from pyqwen.output_file import OutputFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen import Model

DEFAULT_MODEL = "qwen3-embedding-0.6b"

_AT_ONCE = 256  # texts whose vectors are printed together
_SEQUENCES = 16  # that many short texts fill a batch
_LONG_TEXTS = 2  # of those that fill it alone so many are held


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "embed",
        run,
        summary="turn texts into vectors, for search and comparison",
        description="One vector for each TEXT, then for each line of FILE: a line of JSON with its numbers. "
        "The scalar product of two says how much their texts have in common.",
        examples=(
            "pyqwen embed 'The cat sat on the mat.' 'A kitten rests.'",
            "pyqwen embed -f documents.txt --npy documents.npy",
            "pyqwen embed --instruction query 'How do I undo a commit?'",
            "pyqwen embed -m ./Qwen3-Embedding-0.6B-Q8_0.gguf --dimensions 256 --json -f - < lines.txt",
        ),
    )
    add_model_option(parser, default=DEFAULT_MODEL)
    parser.add_argument(
        "-f", "--file", metavar="FILE", help="a text in each line, empty ones too; - is stdin"
    )
    parser.add_argument(
        "--instruction",
        type=text_argument,
        metavar="TEXT",
        help="what is looked for, for queries: 'Instruct: TEXT\\nQuery:' is put before each text; or the "
        "name of one of the model's prompts, such as query",
    )
    parser.add_argument(
        "--pooling",
        choices=("mean", "cls", "last"),
        help="which tokens count: all, the first, the last (default: as the model was trained)",
    )
    parser.add_argument(
        "--dimensions",
        type=positive_int,
        metavar="N",
        help="keep the first N numbers, for models that were trained so (MRL)",
    )
    parser.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_false",
        help="leave the vectors as long as they are",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json",
        action="store_true",
        help="print one object: model, pooling, dimensions, tokens, embeddings",
    )
    output.add_argument(
        "--npy", metavar="OUT", help="write an array of numpy (texts x dimensions, float32)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing of model and speed")
    add_context_option(parser)
    add_threads_option(parser)
    add_kv_type_option(parser)
    add_cache_option(parser)
    parser.add_argument(
        "text", nargs="*", type=text_argument, metavar="TEXT", help="a text; - is that of stdin"
    )


def run(args: argparse.Namespace) -> int:
    texts = _texts(args)
    out = _output(args)
    with _open(args) as model:
        if args.dimensions is not None and args.dimensions > model.config.hidden:
            raise UsageError(f"--dimensions: the model has {model.config.hidden:,}")
        pooling = args.pooling or model.embedding_settings.pooling
        begun = time.monotonic()
        inputs = model.embed_prompt(texts, instruction=args.instruction)
        options = {"pooling": pooling, "normalize": args.normalize, "dimensions": args.dimensions}
        found = _embedded(model, inputs, options)
        if out is not None:
            _write_npy(out, found, args.dimensions or model.config.hidden)
            print(args.npy)
        elif args.json:
            rows = [row for vectors in found for row in _numbers(vectors)]
            facts = {
                "model": model.path.name,
                "pooling": pooling,
                "dimensions": args.dimensions or model.config.hidden,
                "tokens": sum(map(len, inputs)),
                "embeddings": rows,
            }
            print(json.dumps(facts))
        else:
            for vectors in found:
                print(*map(json.dumps, _numbers(vectors)), sep="\n", flush=True)
        if not args.quiet:
            _say_speed(len(texts), sum(map(len, inputs)), time.monotonic() - begun)
    return 0


def _texts(args: argparse.Namespace) -> list[str]:
    if args.text.count("-") + (args.file == "-") > 1:
        raise UsageError("standard input can be read only once")
    texts = [read_stdin() if text == "-" else text for text in args.text]
    if args.file is not None:
        lines = read_text(args.file).split("\n")
        if lines[-1] == "":  # behind the last line's end
            lines.pop()
        texts += [line.removesuffix("\r") for line in lines]
    elif not texts:
        raise UsageError("there is nothing to embed: give texts, or -f FILE")
    if "-" not in (*args.text, args.file):
        say_if_stdin_is_unread()
    return texts


def _output(args: argparse.Namespace) -> OutputFile | None:
    """What ``--npy`` writes to, checked before there is any work."""
    if args.npy is None:
        return None
    inputs = [Path(args.file)] if args.file not in (None, "-") else []
    try:
        return OutputFile(Path(args.npy), inputs=inputs, n_bytes=0)
    except ValueError as error:
        raise UsageError(f"--npy: {error}") from error


def _open(args: argparse.Namespace) -> Model:
    from pyqwen import Model, plan

    path = find_model(args.model or DEFAULT_MODEL)
    settings = given(args, "context", "threads", "kv_type", "cache")
    if not args.quiet:
        say(describe_plan(plan(path, max_sequences=_LONG_TEXTS, **settings), path))
    with ProgressBar("loading", "bytes") as bar:
        return Model(path, max_sequences=_SEQUENCES, progress=bar.update, **settings)


def _embedded(
    model: Model, inputs: list[list[int]], options: dict[str, Any]
) -> Iterator[npt.NDArray[np.float32]]:
    """The vectors, some texts at a time."""
    with ProgressBar("embedding", "texts") as bar:
        for start in range(0, len(inputs), _AT_ONCE):
            some = inputs[start : start + _AT_ONCE]
            vectors = model.embed(some, **options)
            bar.update(start + len(some), len(inputs))
            yield vectors


def _numbers(vectors: npt.NDArray[np.float32]) -> list[list[float]]:
    """The numbers with as many digits as a float32 needs."""
    return [[float(digits) for digits in row] for row in vectors.astype(str).tolist()]


def _write_npy(out: OutputFile, found: Iterator[npt.NDArray[np.float32]], dimensions: int) -> None:
    import numpy as np

    with out:
        np.save(out.file, np.concatenate([np.empty((0, dimensions), np.float32), *found]))
        out.commit()


def _say_speed(texts: int, tokens: int, seconds: float) -> None:
    if seconds > 0:
        say(
            f"{counted(texts, 'text')}, {counted(tokens, 'token')} in {seconds:.1f} s: "
            f"{tokens / seconds:,.0f} tokens per second"
        )
