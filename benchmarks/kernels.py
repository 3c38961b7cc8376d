"""Speed of the matrix kernels alone: `python benchmarks/kernels.py [--isa avx2] [--threads 1] ...`.

For each type, shape and number of tokens: the best of several rounds (the machine may be shared), as
billions of multiplications per second (GMAC/s) and, for one token, as GB/s of weights. With one token
the copies of a matrix that are multiplied in turn exceed the caches, as all weights of a model do.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "kernels"))

import matrices as mx
from extension import kernel_lib

from pyqwen import _native

STREAMED_BYTES = 128_000_000  # more than a last-level cache
SECONDS = 0.4


def time_matmul(
    isa: str, name: str, weights: np.ndarray, x: np.ndarray, *, exact: bool, copies: int,
    threads: int, rounds: int,
) -> list[float]:  # fmt: skip
    """Return the seconds of each of ``rounds`` rounds over ``copies`` copies of the matrix."""
    seconds = np.zeros(rounds)
    error = _native.new_error()
    status = kernel_lib().pq_time_matmul(
        isa.encode(), int(exact), mx.type_number(name), mx.pointer("void *", weights),
        weights.shape[0], x.shape[1], copies, mx.pointer("float *", x), x.shape[0], threads, rounds,
        mx.pointer("double *", seconds), error,
    )  # fmt: skip
    _native.check(status, error)
    return list(seconds)


def measure(
    args: argparse.Namespace, name: str, rows: int, cols: int, n: int
) -> tuple[float, float]:
    """Return (GMAC/s, GB/s of weights)."""
    rng = np.random.default_rng(0)
    weights = mx.random_weights(rng, name, rows, cols)
    x = rng.standard_normal((n, cols), dtype=np.float32)
    copies = max(1, STREAMED_BYTES // weights.nbytes) if n == 1 else 1
    options = {"exact": args.exact, "copies": copies, "threads": args.threads}
    once = min(time_matmul(args.isa, name, weights, x, rounds=2, **options))
    rounds = int(np.clip(SECONDS / once, 3, 200))
    seconds = min(time_matmul(args.isa, name, weights, x, rounds=rounds, **options))
    products = rows * cols * n * copies
    return products / seconds / 1e9, weights.nbytes * copies / seconds / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=mx.available_isas()[0])
    parser.add_argument("--types", default="Q4_K,Q6_K,Q4_0,Q8_0,F16")
    parser.add_argument("--shapes", default="2048x2048,2048x11008", help="rows x columns")
    parser.add_argument("--tokens", default="1,4,64,256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--exact", action="store_true", help="float32 activations")
    args = parser.parse_args()
    tokens = [int(n) for n in args.tokens.split(",")]
    print(f"{platform.machine()}, isa {args.isa}, threads {args.threads}, exact {args.exact}")
    print("| type | shape | GB/s at 1 | " + " | ".join(f"GMAC/s at {n}" for n in tokens) + " |")
    print("|---|---|" + "---|" * (len(tokens) + 1))
    for name in args.types.split(","):
        for shape in args.shapes.split(","):
            rows, cols = (int(n) for n in shape.split("x"))
            results = [measure(args, name, rows, cols, n) for n in tokens]
            rate = f"{results[0][1]:.1f}" if tokens[0] == 1 else ""
            cells = " | ".join(f"{gmacs:.1f}" for gmacs, _ in results)
            print(f"| {name} | {shape} | {rate} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
