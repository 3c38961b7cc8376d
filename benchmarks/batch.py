"""pyqwen batch beside the bare core: rows that are written together, and what is around that.

  python benchmarks/batch.py MODEL.gguf -t 2                     # two minutes for a 1.5B on two cores
  python benchmarks/batch.py MODEL.gguf -t 2 --workers 2 --ray   # besides, two processes, and two actors

The core reads the prompts of as many rows as run together, as `pyqwen bench` reads one, and then decodes all
of them side by side, the logits of every row included; so for all rows, wave by wave. `pyqwen.batch` answers
a file of the same prompts with as many tokens. Both take turns; loading is not timed. Shares are those of the
core's speed, in wall time and in processor time. With --workers N or --ray the same file is answered by N
processes that share the threads, or by a Ray cluster of two hosts on this machine, each with half of the
threads: the speed from when they are ready on.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any

import numpy as np

import pyqwen
from pyqwen import _native
from pyqwen.loading.weights import open_weights


def core(
    session: _native.SessionHandle, vocab_rows: int, prompts: list[list[int]], answer: int
) -> None:
    """Read and write all rows, as many at a time as the session has sequences."""
    logits = np.empty((session.sequences, vocab_rows), np.float32)
    for first in range(0, len(prompts), session.sequences):
        wave = prompts[first : first + session.sequences]
        for sequence, prompt in enumerate(wave):
            for begin in range(0, len(prompt), session.batch):
                part = prompt[begin : begin + session.batch]
                is_last = begin + session.batch >= len(prompt)
                outputs = [0] * (len(part) - 1) + [int(is_last)]
                session.eval(part, [sequence] * len(part), outputs)
        rows = len(wave)
        for step in range(answer - 1):
            tokens = [prompt[step % len(prompt)] for prompt in wave]
            session.eval(tokens, list(range(rows)), [1] * rows)
            for group in range(0, rows, 16):
                n = min(16, rows - group)
                session.logits(group, n, logits[group : group + n])
        for sequence in range(rows):
            session.rewind(sequence, 0)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, busy = perf_counter(), process_time()
    work()
    return perf_counter() - wall, process_time() - busy


def write_rows(path: Path, prompts: list[list[int]], answer: int) -> None:
    settings: dict[str, Any] = {"max_tokens": answer, "ignore_eos": True, "temperature": 0}
    settings["repetition_penalty"] = 1
    with path.open("w", encoding="utf-8") as file:
        for i, prompt in enumerate(prompts):
            body = {"prompt": prompt, **settings}
            row = {"custom_id": str(i), "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(row) + "\n")


class Joins(logging.Handler):
    """When workers joined."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.times: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "joined" in str(record.msg):
            self.times.append(perf_counter())


def spread_out(source: Path, folder: Path, args: argparse.Namespace, **options: Any) -> float:
    """Rows per second of workers elsewhere, from when they joined on."""
    out, joins, log = folder / "spread", Joins(), logging.getLogger("pyqwen.batch")
    out.unlink(missing_ok=True)
    log.setLevel(logging.INFO)
    log.addHandler(joins)
    try:
        ends: list[float] = []
        pyqwen.batch(
            source,
            out,
            args.model,
            parallel=args.parallel,
            threads=args.threads,
            progress=lambda done, total: ends.append(perf_counter()) if done == total else None,
            **options,
        )
    finally:
        log.removeHandler(joins)
    return args.rows / (ends[0] - mean(joins.times))


def on_ray(source: Path, folder: Path, args: argparse.Namespace) -> float:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=max(1, args.threads // 2))
        cluster.wait_for_nodes()
        args = argparse.Namespace(**{**vars(args), "threads": max(1, args.threads // 2)})
        return spread_out(source, folder, args, ray_address=cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=16)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=64, help="tokens")
    parser.add_argument("--answer", type=int, default=32, help="tokens")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    chance = random.Random(1)
    context = args.prompt + args.answer + 1
    shares: list[tuple[float, float]] = []
    speeds: dict[str, list[float]] = {"core": [], "pyqwen.batch": []}
    tokens = args.rows * (args.prompt + args.answer)
    with (
        tempfile.TemporaryDirectory() as name,
        open_weights(args.model, threads=args.threads) as weights,
    ):
        folder = Path(name)
        vocab = weights.model.config["real_tokens"]
        prompts = [[chance.randrange(vocab) for _ in range(args.prompt)] for _ in range(args.rows)]
        source = folder / "rows"
        write_rows(source, prompts, args.answer)
        session = _native.SessionHandle(
            weights.model,
            context=context,
            sequences=args.parallel,
            threads=args.threads,
            batch=256,
        )
        with pyqwen.Model(
            args.model, threads=args.threads, context=context, max_sequences=args.parallel
        ) as model:
            vocab_rows = weights.model.config["vocab_rows"]
            core(session, vocab_rows, prompts[:2], 2)
            for number in range(args.rounds):
                out = folder / f"out{number}"
                both = [
                    ("core", lambda: core(session, vocab_rows, prompts, args.answer)),
                    ("pyqwen.batch", lambda out=out: pyqwen.batch(source, out, model)),
                ]
                times = {name: timed(work) for name, work in both[:: -1 if number % 2 else 1]}
                for kind, (wall, _) in times.items():
                    speeds[kind].append(tokens / wall)
                shares.append(
                    tuple(a / b for a, b in zip(times["core"], times["pyqwen.batch"], strict=True))
                )
        session.close()
        extra = {}
        if args.workers:
            extra[f"{args.workers} workers"] = spread_out(
                source, folder, args, workers=args.workers
            )
        if args.ray:
            extra["Ray, two hosts here"] = on_ray(source, folder, args)
    print(
        f"{args.model.name}, {args.threads} threads: {args.rows} rows of {args.prompt} tokens read and "
        f"{args.answer} written, {args.parallel} together\n"
    )
    print("| | tokens/s, read and written | share of the core, wall | processor |")
    print("|---|--:|--:|--:|")
    print(f"| core | {median(speeds['core']):.1f} | 1 | 1 |")
    wall, busy = (median(share[i] for share in shares) for i in (0, 1))
    print(f"| pyqwen.batch | {median(speeds['pyqwen.batch']):.1f} | {wall:.2f} | {busy:.2f} |")
    for kind, rate in extra.items():
        speed = rate * tokens / args.rows
        print(f"| {kind} | {speed:.1f} | {speed / median(speeds['core']):.2f} | |")


if __name__ == "__main__":
    main()
