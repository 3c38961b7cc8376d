"""``pyqwen perplexity``: how well a model predicts a text."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import ProgressBar, counted, print_json, say
from pyqwen.cli.inputs import open_weights, read_text
from pyqwen.cli.options import (
    Verbs,
    add_cache_option,
    add_context_option,
    add_json_option,
    add_kv_type_option,
    add_threads_option,
    add_verb,
    positive_int,
)

if TYPE_CHECKING:
    from pyqwen.measuring.perplexity import Perplexity


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "perplexity",
        run,
        summary="measure how well a model predicts a text",
        description="Computed as llama-perplexity does: the text is cut into chunks of -c tokens, "
        "and the second half of each is scored.",
        examples=("pyqwen perplexity qwen2.5-coder-1.5b -f wiki.test.raw --chunks 40",),
    )
    parser.add_argument("model", metavar="MODEL", help="GGUF file or name of a model")
    parser.add_argument("-f", "--file", required=True, metavar="TEXT", help="the text; - is stdin")
    add_context_option(parser, default=512)
    parser.add_argument("--chunks", type=positive_int, metavar="N", help="stop after N chunks")
    add_threads_option(parser)
    add_kv_type_option(parser)
    add_cache_option(parser)
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    text = read_text(args.file).removesuffix("\n")  # llama.cpp drops it from a file, too

    from pyqwen.measuring.perplexity import perplexity

    with open_weights(args.model, args.threads, args.kv_type, cache=args.cache) as weights:
        tokenizer = weights.tokenizer
        ids = tokenizer.encode(text)
        begun = time.monotonic()
        with ProgressBar("reading", "chunks") as bar:

            def show(estimate: Perplexity, total: int) -> None:
                bar.update(estimate.chunks, total, f"perplexity {estimate.value:.4f}")

            result = perplexity(
                weights,
                ids,
                context=args.context,
                chunks=args.chunks,
                bos=tokenizer.bos_id if tokenizer.add_bos else None,
                progress=show,
            )
        seconds = time.monotonic() - begun
    if args.json:
        print_json(_as_json(result) | {"model": args.model, "seconds": seconds})
        return 0
    say(
        f"{counted(result.chunks, 'chunk')} of {result.context} tokens, {result.tokens:,} predictions scored "
        f"in {seconds:.1f} s"
    )
    print(f"PPL = {result.value:.4f} +/- {result.error:.5f}")
    return 0


def _as_json(result: Perplexity) -> dict[str, Any]:
    return {
        "ppl": result.value,
        "ppl_error": result.error,
        "nll": result.nll,
        "n_tokens": result.tokens,
        "n_chunks": result.chunks,
        "n_ctx": result.context,
    }
