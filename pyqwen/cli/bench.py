"""``pyqwen bench``: llama-bench's tests and output formats."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import ProgressBar, UsageError, print_json
from pyqwen.cli.inputs import open_weights
from pyqwen.cli.options import (
    Verbs,
    add_cache_option,
    add_kv_type_option,
    add_model_option,
    add_verb,
    int_list,
    positive_int,
)

if TYPE_CHECKING:
    from pyqwen.measuring.benchmark import Workload

    Results = Iterator[tuple[Workload, dict[str, Any]]]

_DEFAULT_PROMPT, _DEFAULT_GENERATION = 512, 128


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "bench",
        run,
        summary="measure the speed of a model, as llama-bench does",
        description="Lists such as 128,512 run all combinations. Loading and the state at a depth "
        "are not timed; every test is warmed up once.",
        examples=(
            "pyqwen bench",
            "pyqwen bench -m model.gguf -p 512 -n 128 -d 0,4096 -t 1,2 -o json",
            "pyqwen bench -p 0 -n 64            # generation only",
        ),
    )
    add_model_option(parser)
    lists: dict[str, Any] = {"type": int_list, "action": "extend", "metavar": "N[,N…]"}
    parser.add_argument("-p", "--n-prompt", help="prompt lengths (default: 512); 0: none", **lists)
    parser.add_argument("-n", "--n-gen", help="tokens to generate (default: 128); 0: none", **lists)
    parser.add_argument(
        "-d", "--n-depth", help="tokens in the context before (default: 0)", **lists
    )
    parser.add_argument(
        "-t", "--threads", help="threads (default: one for each fast core)", **lists
    )
    parser.add_argument(
        "-r",
        "--repetitions",
        type=positive_int,
        default=5,
        metavar="N",
        help="repetitions of each test (default: 5)",
    )
    add_kv_type_option(parser)
    add_cache_option(parser)
    parser.add_argument(
        "-o",
        "--output",
        choices=tuple(_PRINTERS),
        default="md",
        help="format of the result (default: md)",
    )


def run(args: argparse.Namespace) -> int:
    from pyqwen.measuring.benchmark import complete, describe, plan_workloads, run_workloads

    with open_weights(
        args.model, max(args.threads or [0]) or None, args.kv_type, cache=args.cache
    ) as weights:
        workloads = plan_workloads(
            [_DEFAULT_PROMPT] if args.n_prompt is None else args.n_prompt,
            [_DEFAULT_GENERATION] if args.n_gen is None else args.n_gen,
            args.n_depth or [0],
            args.threads or [weights.settings.threads],
        )
        if not workloads:
            raise UsageError("nothing to measure: -p and -n are both 0")
        common = describe(weights)
        with ProgressBar("measuring", "tests") as bar:

            def started(workload: Workload) -> None:
                bar.update(workloads.index(workload), len(workloads), f"measuring {workload.name}")

            def finished() -> Results:
                for workload, row in run_workloads(
                    weights, workloads, repetitions=args.repetitions, started=started
                ):
                    bar.close()  # the row is printed where the bar stands
                    yield workload, complete(common, row)

            _PRINTERS[args.output](finished())
    return 0


def _print_json(results: Results) -> None:
    print_json([row for _, row in results])


def _print_jsonl(results: Results) -> None:
    for _, row in results:
        print(json.dumps(row, ensure_ascii=False), flush=True)


def _print_csv(results: Results) -> None:
    """One line per test; the samples are left out, as llama-bench does."""
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for i, (_, row) in enumerate(results):
        columns = [name for name in row if not name.startswith("samples_")]
        if i == 0:
            writer.writerow(columns)
        writer.writerow([row[name] for name in columns])
        sys.stdout.flush()


def _print_markdown(results: Results) -> None:
    template = "| {:<26} | {:>10} | {:>9} | {:>10} | {:>7} | {:>15} | {:>16} |"
    for i, (workload, row) in enumerate(results):
        if i == 0:
            print(template.format("model", "size", "params", "isa", "threads", "test", "t/s"))
            print("| :-- | --: | --: | --: | --: | --: | --: |")
        cells = (
            row["model_type"],
            f"{row['model_size'] / 2**30:.2f} GiB",
            f"{row['model_n_params'] / 1e9:.2f} B",
            row["isa"],
            row["n_threads"],
            workload.name,
            f"{row['avg_ts']:.2f} ± {row['stddev_ts']:.2f}",
        )
        print(template.format(*cells), flush=True)


_PRINTERS = {
    "md": _print_markdown,
    "json": _print_json,
    "jsonl": _print_jsonl,
    "csv": _print_csv,
}
