"""``pyqwen compare``: what quantizing cost, as the divergence of two models on a text."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import ProgressBar, counted, print_json, say
from pyqwen.cli.inputs import find_model, read_text
from pyqwen.cli.options import (
    Verbs,
    add_context_option,
    add_json_option,
    add_kv_type_option,
    add_threads_option,
    add_verb,
    positive_int,
)

if TYPE_CHECKING:
    from pyqwen.quantize import Comparison


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "compare",
        run,
        summary="measure how a model differs from the one it was made from",
        description="Both read the text side by side; the Kullback-Leibler divergence of their "
        "predictions is computed as llama-perplexity does: chunks of -c tokens, the second half of "
        "each compared. Both models are in memory; nothing is stored.",
        examples=("pyqwen compare qwen2.5-3b-bf16.gguf qwen2.5-3b-q4_k_m.gguf -f unseen.txt",),
    )
    parser.add_argument("reference", metavar="REFERENCE", help="the unquantized model")
    parser.add_argument("model", metavar="MODEL", help="GGUF file or name of a model")
    parser.add_argument("-f", "--file", required=True, metavar="TEXT", help="the text; - is stdin")
    add_context_option(parser, default=512)
    parser.add_argument("--chunks", type=positive_int, metavar="N", help="stop after N chunks")
    add_threads_option(parser)
    add_kv_type_option(parser)
    parser.add_argument(
        "--activations",
        choices=("coarse", "fine"),
        default="coarse",
        help="how K types multiply: coarse as in llama.cpp, for comparable figures (default); fine as "
        "pyqwen runs them, which loses less",
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    text = read_text(args.file).removesuffix("\n")  # llama.cpp drops it from a file, too

    from pyqwen.quantize import compare

    reference, model = find_model(args.reference), find_model(args.model)
    begun = time.monotonic()
    with ProgressBar("loading", "bytes") as loading, ProgressBar("reading", "chunks") as reading:

        def show(so_far: Comparison, total: int) -> None:
            loading.close()
            reading.update(so_far.chunks, total, f"mean KLD {so_far.mean_kld:.6f}")

        result = compare(
            reference,
            model,
            text,
            context=args.context,
            chunks=args.chunks,
            threads=args.threads,
            kv_type=args.kv_type,
            activations=args.activations,
            loading=loading.update,
            progress=show,
        )
    seconds = time.monotonic() - begun
    if args.json:
        names = {"reference": args.reference, "model": args.model, "seconds": seconds}
        print_json(_as_json(result) | names)
        return 0
    say(
        f"{counted(result.chunks, 'chunk')} of {result.context} tokens, {result.tokens:,} positions "
        f"compared in {seconds:.1f} s"
    )
    print("\n".join(_table(result)))
    return 0


def _as_json(result: Comparison) -> dict[str, Any]:
    values = asdict(result)
    sizes = {name: values.pop(name) for name in ("tokens", "chunks", "context")}
    return values | {
        "n_tokens": sizes["tokens"],
        "n_chunks": sizes["chunks"],
        "n_ctx": sizes["context"],
    }


def _table(result: Comparison) -> list[str]:
    lines = (
        ("Mean KLD", f"{result.mean_kld:.6f} +/- {result.mean_kld_error:.6f}"),
        ("Median KLD", f"{result.kld_median:.6f}"),
        ("90% KLD", f"{result.kld_90:.6f}"),
        ("99% KLD", f"{result.kld_99:.6f}"),
        ("99.9% KLD", f"{result.kld_99_9:.6f}"),
        ("Maximum KLD", f"{result.kld_max:.6f}"),
        ("Same top token", f"{result.same_top_p:.3%} +/- {result.same_top_p_error:.3%}"),
        ("RMS of change in p", f"{result.rms_delta_p:.3%} +/- {result.rms_delta_p_error:.3%}"),
        ("PPL", f"{result.ppl:.4f} +/- {result.ppl_error:.4f}"),
        ("PPL of reference", f"{result.ppl_reference:.4f} +/- {result.ppl_reference_error:.4f}"),
        ("PPL ratio", f"{result.ppl_ratio:.6f} +/- {result.ppl_ratio_error:.6f}"),
    )
    return [f"{name:<20}{value}" for name, value in lines]
