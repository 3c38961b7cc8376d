"""``pyqwen quantize``: a model to smaller types, and what that lost."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from pyqwen.cli.adapters import split_factor
from pyqwen.cli.console import ProgressBar, UsageError, counted, harmless, say
from pyqwen.cli.inputs import find_model, read_text
from pyqwen.cli.options import Verbs, add_verb, positive_int
from pyqwen.units import format_bytes

if TYPE_CHECKING:
    from pyqwen.output_file import OutputFile
    from pyqwen.quantize import Quantization, QuantizedTensor

# Those of pyqwen.quantize.RECIPES and AUTO, which is not imported to show the help.
_TYPES = (
    "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K "
    "IQ4_NL IQ4_XS F16 BF16 F32 COPY AUTO"
)


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "quantize",
        run,
        summary="quantize a model, and measure what that loses",
        description="Reads GGUF or a Hugging Face checkpoint and gives each tensor the type that "
        "llama-quantize gives it. The report goes to stderr (of a dry run to stdout): per tensor the "
        "RMS error relative to its weights, the same weighted with the importance matrix, and the "
        "worst block. OUT.gguf is replaced only when all of it is written.",
        examples=(
            "pyqwen quantize model-bf16.gguf model-q4_k_m.gguf Q4_K_M",
            "pyqwen quantize ./Qwen2.5-3B-Instruct out.gguf Q4_K_M --imatrix imatrix.gguf",
            "pyqwen quantize model-bf16.gguf out.gguf Q5_K_S --tensor-type ffn_down=q6_k --dry-run",
            "pyqwen quantize ./Qwen2.5-3B-Instruct out.gguf AUTO --target-size 1.9G "
            "--calibration text.txt",
        ),
    )
    parser.add_argument(
        "source", metavar="IN", help="GGUF file, directory of a checkpoint, or name of a model"
    )
    parser.add_argument("out", metavar="OUT.gguf", help="the file to write")
    parser.add_argument("type", metavar="TYPE", help=textwrap.fill(_TYPES, 56))
    parser.add_argument(
        "threads",
        metavar="THREADS",
        nargs="?",
        type=positive_int,
        help="threads (default: PYQWEN_THREADS, or one for each fast core)",
    )
    _add_type_options(parser)
    _add_importance_options(parser)
    _add_calibration_options(parser)
    parser.add_argument(
        "--allow-requantize",
        action="store_true",
        help="quantize tensors that are quantized already; that costs quality",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show types and sizes, and write nothing"
    )
    parser.add_argument(
        "--merge-adapter",
        dest="merge_adapters",
        metavar="PATH[=SCALE]",
        action="append",
        default=[],
        help="a LoRA adapter that becomes part of the weights; may be given several times",
    )
    parser.add_argument("--report", metavar="F.json", help="write the report as JSON, too")
    parser.add_argument("--plot", metavar="F.svg", help="draw errors and sizes by layer")


def _add_type_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tensor-type",
        dest="tensor_types",
        metavar="RE=T",
        action="append",
        default=[],
        help="type of the tensors in whose name the expression is found; the first one counts",
    )
    parser.add_argument("--output-tensor-type", metavar="T", help="type of output.weight")
    parser.add_argument("--token-embedding-type", metavar="T", help="type of token_embd.weight")
    parser.add_argument(
        "--leave-output-tensor", action="store_true", help="keep output.weight as it is"
    )
    parser.add_argument("--pure", action="store_true", help="the same type for all matrices")


def _add_importance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--imatrix", metavar="F", help="importance matrix (pyqwen imatrix, llama-imatrix)"
    )
    group = parser.add_mutually_exclusive_group()
    for flag, text in (
        ("--include-weights", "use the matrix only for tensors with this in their name"),
        ("--exclude-weights", "do not use the matrix for tensors with this in their name"),
    ):
        group.add_argument(flag, metavar="NAME", action="append", default=[], help=text)


def _add_calibration_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        metavar="TEXT",
        help="text of the kind the model is used for, some 30,000 tokens; AUTO needs it, and it takes "
        "the place of an importance matrix",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--target-size",
        metavar="N[K|M|G]",
        type=_size,
        help="of AUTO: the most bytes of the file; K, M and G are powers of 1000",
    )
    target.add_argument(
        "--target-bpw", metavar="X", type=float, help="of AUTO: the most bits per weight"
    )
    for flag, alias, text in (
        (
            "--gptq",
            "--error-feedback",
            "let later weights make up for the rounding of earlier ones",
        ),
        ("--awq", "--channel-scales", "even out columns with scales folded into neighbors"),
    ):
        parser.add_argument(
            flag,
            alias,
            action=argparse.BooleanOptionalAction,
            default=None,
            help=f"{text}; needs --calibration (default: for AUTO)",
        )


def _size(text: str) -> int:
    """A number of bytes, such as 1.9G."""
    unit = {"K": 1000, "M": 1000**2, "G": 1000**3}.get(text[-1:].upper(), 1)
    number = text[:-1] if unit > 1 else text
    try:
        size = Decimal(number) * unit
        if size.is_finite() and size >= 1:
            return int(size)
    except InvalidOperation:
        pass
    raise argparse.ArgumentTypeError(
        f"{text!r} is no size; give bytes, such as 986048288, 950M or 1.9G"
    )


def run(args: argparse.Namespace) -> int:
    pairs = [_tensor_type(text) for text in args.tensor_types]

    from pyqwen.quantize import quantize
    from pyqwen.quantize.calibration.options import calibration_options
    from pyqwen.quantize.plot import plot_svg
    from pyqwen.quantize.recipes import TypeOptions, recipe_name
    from pyqwen.quantize.source.open_source import check_name

    text = read_text(args.calibration) if args.calibration else None
    try:  # what is wrong here is the command line, not the model
        recipe = recipe_name(args.type)
        calibration_options(
            recipe,
            text,
            args.gptq,
            args.awq,
            args.target_size,
            args.target_bpw,
        )
        TypeOptions(pairs, args.output_tensor_type, args.token_embedding_type)
    except ValueError as error:
        raise UsageError(str(error)) from None
    report, plot = _side_outputs(args)
    source = args.source
    if not os.path.lexists(source):
        check_name(source)
        source = find_model(source)
    with ProgressBar("quantizing", "bytes" if text is None else "%") as bar:
        done = quantize(
            source,
            args.out,
            args.type,
            imatrix=args.imatrix,
            include_weights=args.include_weights,
            exclude_weights=args.exclude_weights,
            tensor_types=pairs,
            output_tensor_type=args.output_tensor_type,
            token_embedding_type=args.token_embedding_type,
            leave_output_tensor=args.leave_output_tensor,
            pure=args.pure,
            allow_requantize=args.allow_requantize,
            calibration=text,
            gptq=args.gptq,
            awq=args.awq,
            target_size=args.target_size,
            target_bpw=args.target_bpw,
            merge_adapter=dict(map(split_factor, args.merge_adapters)) or None,
            dry_run=args.dry_run,
            threads=args.threads,
            progress=bar.update,
        )
    for line in _report(done):
        if args.dry_run:
            print(harmless(line))
        else:
            say(harmless(line))
    if report:
        _write(report, json.dumps(done.to_dict(), ensure_ascii=False, indent=1) + "\n")
    if plot:
        _write(plot, plot_svg(done))
    if done.path:
        sys.stdout.write(f"{done.path}\n")
    return 0


def _tensor_type(text: str) -> tuple[str, str]:
    pattern, separator, kind = text.rpartition("=")
    if not pattern or not separator or not kind:
        raise UsageError(f"--tensor-type {text!r}: expected RE=TYPE, such as ffn_down=q6_k")
    return pattern, kind


def _side_outputs(args: argparse.Namespace) -> list[OutputFile | None]:
    """Where report and plot will go; that they can is checked before the minutes of work."""
    from pyqwen.output_file import OutputFile, refuse_inputs

    if args.plot is not None and Path(args.plot).suffix.lower() not in ("", ".svg"):
        raise UsageError(
            f"--plot {args.plot}: the picture is SVG; give it a name that ends in .svg"
        )
    taken = {Path(args.out).resolve(): "the output"}
    for flag, path in (("--report", args.report), ("--plot", args.plot)):
        if path is not None:
            place = Path(path).resolve()
            if place in taken:
                raise UsageError(f"{flag}: {path} is {taken[place]}; name another file")
            taken[place] = f"the file of {flag}"
    inputs = [Path(p) for p in (args.source, args.imatrix, args.calibration) if p is not None]
    refuse_inputs(Path(args.out), inputs)
    return [
        None if path is None else OutputFile(Path(path), inputs=inputs, n_bytes=0)
        for path in (args.report, args.plot)
    ]


def _write(output: OutputFile, text: str) -> None:
    with output:
        output.file.write(text.encode("utf-8"))
        output.commit()


def _report(done: Quantization) -> list[str]:
    changed = [tensor for tensor in done.tensors if _is_changed(tensor)]
    same = [tensor for tensor in done.tensors if not _is_changed(tensor)]
    table = _table(changed) if changed else []
    return [*table, *_unchanged(same), "", *_totals(done), *_fallbacks(done), *done.notes]


def _is_changed(tensor: QuantizedTensor) -> bool:
    is_matrix = len(tensor.shape) > 1  # vectors are widened to F32 at most, which loses nothing
    return tensor.fallback is not None or (is_matrix and tensor.type != tensor.source_type)


def _unchanged(tensors: Sequence[QuantizedTensor]) -> list[str]:
    """One line about all tensors whose values stay, such as norms."""
    if not tensors:
        return []
    size = sum(tensor.n_bytes for tensor in tensors)
    kinds = ", ".join(sorted({tensor.type for tensor in tensors}))
    return [f"unchanged: {counted(len(tensors), 'tensor')} in {kinds}, {format_bytes(size)}"]


def _table(tensors: Iterable[QuantizedTensor]) -> list[str]:
    header = ("tensor", "type", "shape", "bits", "error", "weighted", "worst block")
    rows = [header, *map(_row, tensors)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(tensor: QuantizedTensor) -> tuple[str, ...]:
    changed = tensor.type != tensor.source_type
    kind = f"{tensor.source_type} -> {tensor.type}" if changed else tensor.type
    worst = tensor.worst_block
    return (
        tensor.name,
        kind + ("*" if tensor.fallback else ""),
        " x ".join(map(str, tensor.shape)),
        f"{tensor.bits_per_weight:.2f}",
        _percent(tensor.rms_error),
        _percent(tensor.weighted_error),
        f"{_percent(worst.error)} at [{worst.row}, {worst.column}]" if worst else "",
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3f} %"


def _totals(done: Quantization) -> list[str]:
    lines = [
        f"{kind}: {counted(total.tensors, 'tensor')}, {format_bytes(total.bytes)}"
        for kind, total in done.types.items()
    ]
    before = 8 * done.source_bytes / done.weights if done.weights else 0.0
    line = (
        f"{done.architecture} as {done.type}: {done.file_bytes:,} bytes "
        f"({format_bytes(done.file_bytes)}), {done.bits_per_weight:.2f} bits per weight after "
        f"{before:.2f}"
    )
    if done.rms_error is not None:
        line += f", RMS error {_percent(done.rms_error)}"
    return [*lines, line]


def _fallbacks(done: Quantization) -> list[str]:
    """The reasons behind the asterisks of the table."""
    counts = Counter((tensor.type, tensor.fallback) for tensor in done.fallbacks)
    return [
        f"* {counted(n, 'tensor')} {'is' if n == 1 else 'are'} {kind}: {reason}"
        for (kind, reason), n in counts.items()
    ]
