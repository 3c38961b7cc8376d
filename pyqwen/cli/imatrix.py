"""``pyqwen imatrix``: which columns of a model's matrices matter, for quantizing it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pyqwen.cli.console import ProgressBar, counted, harmless, say
from pyqwen.cli.inputs import find_model, read_text
from pyqwen.cli.options import (
    Verbs,
    add_context_option,
    add_threads_option,
    add_verb,
    positive_int,
)


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "imatrix",
        run,
        summary="measure which weights of a model matter",
        description="The model reads a text, and the mean squares of what its matrices are "
        "multiplied with are written as llama-imatrix writes them: for the quantizers of pyqwen and "
        "llama.cpp. Take the unquantized model, and text of the kind it is to be used for.",
        examples=(
            "pyqwen imatrix qwen2.5-3b-bf16.gguf -f calibration.txt -o qwen2.5-3b.imatrix.gguf",
        ),
    )
    parser.add_argument("model", metavar="MODEL", help="GGUF file or name of a model")
    parser.add_argument("-f", "--file", required=True, metavar="TEXT", help="the text; - is stdin")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.gguf", help="the file to write"
    )
    add_context_option(parser, default=512)
    parser.add_argument("--chunks", type=positive_int, metavar="N", help="stop after N chunks")
    add_threads_option(parser)


def run(args: argparse.Namespace) -> int:
    text = read_text(args.file).removesuffix("\n")  # llama.cpp drops it from a file, too

    from pyqwen.output_file import refuse_inputs
    from pyqwen.quantize import imatrix

    if args.file != "-":
        refuse_inputs(Path(args.output), [Path(args.file)])
    path = find_model(args.model)
    begun = time.monotonic()
    with ProgressBar("loading", "bytes") as loading, ProgressBar("reading", "chunks") as reading:

        def show(done: int, total: int) -> None:
            loading.close()
            reading.update(done, total)

        matrix = imatrix(
            path,
            text,
            args.output,
            context=args.context,
            chunks=args.chunks,
            dataset="" if args.file == "-" else args.file,
            threads=args.threads,
            loading=loading.update,
            progress=show,
        )
    say(
        f"{counted(matrix.chunks, 'chunk')} of {matrix.chunk_size} tokens read, "
        f"{len(matrix.values):,} matrices measured "
        f"in {time.monotonic() - begun:.1f} s"
    )
    print(harmless(args.output))
    return 0
