"""What a step of several rows costs, relative to one row: what drafts and batches stand on.

  python benchmarks/rows.py MODEL.gguf -t 2                      # about a minute for a 1.5B
  PYQWEN_ISA=avx2 python benchmarks/rows.py MODEL.gguf -t 2 -d 4096

Rows are tokens of one sequence (a draft) or of as many sequences (requests together). A step is an
evaluation and the logits of all its rows. Two floors stand beside it: the bytes of the weights at the
bandwidth that a plain loop reads here, the same for any number of rows; and the multiplications at the
speed of reading a prompt, which is what the kernels reach where they do not wait for memory.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from pyqwen import _native
from pyqwen.loading.weights import open_weights

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)


def measure(
    session: _native.SessionHandle, depth: int, vocab: tuple[int, int], rounds: int, together: bool
) -> dict[int, list[float]]:
    """Seconds of steps of each number of rows, by turns."""
    logits = np.empty((max(ROWS), vocab[1]), np.float32)
    times: dict[int, list[float]] = {rows: [] for rows in ROWS}
    for _ in range(rounds):
        for rows in ROWS:
            tokens = [random.randrange(vocab[0]) for _ in range(rows)]
            sequences = list(range(rows)) if together else [0] * rows
            start = perf_counter()
            session.eval(tokens, sequences, [1] * rows)
            session.logits(0, rows, logits[:rows])
            times[rows].append(perf_counter() - start)
            for sequence in set(sequences):
                session.rewind(sequence, depth)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("-d", "--depth", type=int, default=0)
    parser.add_argument("-r", "--rounds", type=int, default=10)
    args = parser.parse_args()
    random.seed(1)
    with open_weights(args.model, threads=args.threads) as weights:
        config = weights.model.config
        vocab = config["real_tokens"], config["vocab_rows"]
        session = _native.SessionHandle(
            weights.model,
            context=args.depth + 512,
            sequences=max(ROWS),
            threads=weights.settings.threads,
            batch=256,
        )
        for start in range(0, args.depth, 256):
            part = [random.randrange(vocab[0]) for _ in range(min(256, args.depth - start))]
            session.eval(part, [0] * len(part), [0] * len(part))
        for sequence in range(1, max(ROWS)):
            session.fork(0, sequence, args.depth)
        part = [random.randrange(vocab[0]) for _ in range(256)]
        begin = perf_counter()
        session.eval(part, [0] * 256, [0] * 256)
        row_floor = (perf_counter() - begin) / 256
        session.rewind(0, args.depth)
        bandwidth = _native.measure_bandwidth(session.threads, 2**29)
        byte_floor = weights.model.weight_bytes / bandwidth
        drafts = measure(session, args.depth, vocab, args.rounds, together=False)
        together = measure(session, args.depth, vocab, args.rounds, together=True)
        print(
            f"{args.model.name}, {weights.model.isa}, {session.threads} threads, depth {args.depth}: "
            f"{weights.model.weight_bytes / 1e9:.2f} GB at {bandwidth / 1e9:.1f} GB/s take "
            f"{byte_floor * 1e3:.1f} ms, a row of a prompt {row_floor * 1e3:.2f} ms\n"
        )
        print("| rows | ms | times one row | floor, ms | tokens of one, by sequences |")
        print("|---|---|---|---|---|")
        one, alone = median(drafts[1]), median(together[1])
        for rows in ROWS:
            seconds, floor = median(drafts[rows]), max(byte_floor, rows * row_floor)
            many = rows * alone / median(together[rows])
            print(
                f"| {rows} | {seconds * 1e3:.1f} | {seconds / one:.2f} | {floor * 1e3:.1f} "
                f"| {many:.2f} |"
            )
        session.close()


if __name__ == "__main__":
    main()
