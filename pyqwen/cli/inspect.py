"""``pyqwen inspect``: what is in a model file."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import counted, harmless, print_json, print_table
from pyqwen.cli.inputs import find_local_model
from pyqwen.cli.options import Verbs, add_json_option, add_verb
from pyqwen.units import format_bytes

if TYPE_CHECKING:
    from pyqwen import Inspection

# Fields of SamplingParams that say what a request wants back, not how tokens are drawn.
_NOT_SAMPLING = ("ignore_eos", "logprobs", "top_logprobs")


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "inspect",
        run,
        summary="show what is in a model file: sizes, types, template, defaults, problems",
        examples=("pyqwen inspect model.gguf", "pyqwen inspect model.gguf --tensors --json"),
    )
    parser.add_argument(
        "model", metavar="FILE", help="GGUF file or name of a model on this machine"
    )
    parser.add_argument("--tensors", action="store_true", help="list the tensors, too")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    from pyqwen import inspect

    found = inspect(find_local_model(args.model))
    if args.json:
        facts = found.to_dict()
        if not args.tensors:
            del facts["tensors"]
        print_json(facts)
        return 0
    for title, lines in _sections(found):
        print(title)
        for name, value in lines:
            print(harmless(f"  {name:<22} {value}".replace("\n", "\\n")))
    if args.tensors:
        print("tensors (shapes: row length first)")
        print_table(
            [
                (f"  {harmless(t.name)}", t.type, " × ".join(map(str, t.shape)), f"{t.n_bytes:,}")
                for t in found.tensors
            ],
            ("  NAME", "TYPE", "SHAPE", "BYTES"),
        )
    print("problems" if found.problems else "no problems")
    for problem in found.problems:
        print(harmless(f"  {problem}"))
    return 0


def _sections(found: Inspection) -> list[tuple[str, list[tuple[str, str]]]]:
    sections = [("file", _file_lines(found))]
    if found.config is not None:
        config = asdict(found.config)
        sections.append(
            ("hyperparameters", [(name, _number(value)) for name, value in config.items()])
        )
    shares = [
        (name, f"{counted(share.tensors, 'tensor')}, {format_bytes(share.bytes)}")
        for name, share in found.types.items()
    ]
    sections.append(("types", shares))
    if found.tokenizer is not None:
        facts = asdict(found.tokenizer)
        sections.append(("tokenizer", [(name, str(value)) for name, value in facts.items()]))
    if found.defaults is not None:
        params = asdict(found.defaults.params)
        given = [
            (name, str(value))
            for name, value in params.items()
            if name not in _NOT_SAMPLING and value is not None
        ]
        sections.append((f"sampling defaults, from {found.defaults.origin}", given))
    sections.append(
        ("metadata", [(f"{key:<40}", str(value)) for key, value in found.metadata.items()])
    )
    return sections


def _number(value: Any) -> str:
    """Files hold float32: more than seven digits would only show how it rounds."""
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _file_lines(found: Inspection) -> list[tuple[str, str]]:
    shards = f" in {found.shards} files" if found.shards > 1 else ""
    terms = " ".join(filter(None, (found.license or "not stated", found.license_url)))
    if found.license_restriction:
        terms += f": {found.license_restriction}"
    template = f"{len(found.chat_template):,} characters" if found.chat_template else "none"
    return [
        ("path", str(found.path)),
        ("name", found.name or "not stated"),
        ("format", f"GGUF version {found.gguf_version}{shards}"),
        ("size", f"{format_bytes(found.file_bytes)} ({found.bits_per_weight:.2f} bits per weight)"),
        ("parameters", f"{found.parameters:,}"),
        ("license", terms),
        ("chat template", template),
    ]
