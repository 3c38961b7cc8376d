"""``pyqwen plan``: the memory a model will take, before it is loaded."""

from __future__ import annotations

import argparse

from pyqwen.cli.adapters import add_adapter_option, named_adapters
from pyqwen.cli.console import print_json
from pyqwen.cli.inputs import find_local_model
from pyqwen.cli.memory import describe_fit, kv_type_text
from pyqwen.cli.options import (
    Verbs,
    add_context_option,
    add_draft_option,
    add_json_option,
    add_kv_type_option,
    add_verb,
    positive_int,
)
from pyqwen.units import format_bytes


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "plan",
        run,
        summary="show the memory a model will take, and what fits this machine",
        examples=(
            "pyqwen plan qwen2.5-coder-1.5b",
            "pyqwen plan model.gguf -c 32768 --kv-type q8_0 --parallel 4",
        ),
    )
    parser.add_argument(
        "model", metavar="FILE", help="GGUF file or name of a model on this machine"
    )
    add_context_option(parser)
    add_kv_type_option(parser)
    parser.add_argument(
        "--parallel",
        type=positive_int,
        default=1,
        metavar="N",
        help="requests that run at the same time (default: 1)",
    )
    add_draft_option(parser)
    add_adapter_option(parser, "SCALE makes no difference")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    from pyqwen import plan

    draft = None if args.draft == "off" else args.draft
    result = plan(
        find_local_model(args.model),
        context=args.context,
        kv_type=args.kv_type,
        max_sequences=args.parallel,
        adapters=named_adapters(args.adapters)[0],
        draft=draft if draft in {None, "ngram"} else find_local_model(draft),
    )
    if args.json:
        print_json(result.to_dict())
        return 0
    sequences = f"{result.max_sequences} × " if result.max_sequences > 1 else ""
    rows = (
        ("weights", result.weights, f"file: {format_bytes(result.file)}"),
        (
            "KV cache",
            result.kv,
            f"{sequences}{result.context:,} tokens in {kv_type_text(result.kv_type)}, "
            f"{format_bytes(result.kv_per_token)} each; grows as it is used",
        ),
        ("compute", result.compute, "activations and logits"),
        *([("adapters", result.adapters, "LoRA, all in one request")] if result.adapters else []),
        *([("draft", result.draft, "the model that drafts")] if result.draft else []),
        ("tokenizer", result.tokenizer, ""),
        ("interpreter", result.interpreter, "Python and its libraries"),
        ("total", result.total, f"{format_bytes(result.available)} available on this machine"),
    )
    for name, size, note in rows:
        print(f"{name:<12}{format_bytes(size):>10}   {note}".rstrip())
    structure = format_bytes(result.constraints)
    print(f"{'structure':<12}{structure:>10}   more, once an answer follows a schema or grammar")
    if result.cache:
        print(
            f"{'disk':<12}{format_bytes(result.cache):>10}   packed weights, kept for the next "
            "start (--no-cache)"
        )
    print()
    print(describe_fit(result))
    return 0
