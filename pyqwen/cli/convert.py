"""``pyqwen convert``: a checkpoint from Hugging Face to a GGUF file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pyqwen.cli.console import ProgressBar, harmless, say
from pyqwen.cli.options import Verbs, add_verb
from pyqwen.units import format_bytes

if TYPE_CHECKING:
    from pyqwen.quantize import Conversion

# Those of pyqwen.quantize.OUTTYPES, which is not imported to show the help.
_OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "convert",
        run,
        summary="convert a Hugging Face checkpoint to GGUF",
        description="Reads safetensors (bf16, f16, f32; one file or shards) of Qwen2, Qwen2.5, Qwen3 and "
        "Llama models, with tokenizer, chat template and sampling defaults. OUT.gguf is replaced only "
        "when all of it is written. An adapter (LoRA) becomes one of llama.cpp's.",
        examples=(
            "pyqwen convert ./Qwen2.5-0.5B-Instruct qwen2.5-0.5b.gguf",
            "pyqwen convert ./Qwen2.5-0.5B-Instruct qwen2.5-0.5b-q8_0.gguf --outtype q8_0",
            "pyqwen convert ./my-lora my-lora.gguf --base ./Qwen2.5-0.5B-Instruct",
        ),
    )
    parser.add_argument("source", metavar="HF_DIR", help="directory with config.json and weights")
    parser.add_argument("out", metavar="OUT.gguf", help="the file to write")
    parser.add_argument(
        "--outtype",
        choices=_OUTTYPES,
        default="auto",
        help="type of the matrices (default: auto, the one that each has in the checkpoint)",
    )
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="of an adapter (LoRA): the directory or the GGUF file of its base model",
    )


def run(args: argparse.Namespace) -> int:
    from pyqwen.quantize import convert

    with ProgressBar("converting", "bytes") as bar:
        done = convert(args.source, args.out, args.outtype, base=args.base, progress=bar.update)
    for line in _report(done):
        say(harmless(line))
    print(done.path)
    return 0


def _report(done: Conversion) -> list[str]:
    types: dict[str, int] = {}
    for tensor in done.tensors:
        types[tensor.type] = types.get(tensor.type, 0) + 1
    counts = ", ".join(f"{count} {kind}" for kind, count in types.items())
    lines = [
        f"{done.architecture}, {done.parameters:,} parameters in {len(done.tensors)} tensors "
        f"({counts}), {format_bytes(done.file_bytes)}"
    ]
    lines += [f"{t.name} is {t.type}: {t.fallback}" for t in done.fallbacks]
    return lines + list(done.notes)
