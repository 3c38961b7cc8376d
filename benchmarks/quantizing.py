"""Speed of the quantizer: `python benchmarks/quantizing.py [--types Q4_K] [--isas avx2] ...`.

For each type, instruction set and number of threads: the best of several rounds (the machine may be
shared), as millions of weights per second, without and with importances, and for measuring the error.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np

from pyqwen import _native

TYPES = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,Q2_K,Q3_K,Q4_K,Q5_K,Q6_K,IQ4_NL,IQ4_XS"


def rate(work: Callable[[], object], n: int, rounds: int) -> float:
    """Return how many of `n` weights a second are done, in the best of `rounds` rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return n / best / 1e6


def rates(name: str, isa: str, threads: int, weights: np.ndarray, rounds: int) -> list[float]:
    importance = np.exp(np.random.default_rng(1).normal(0, 1.5, weights.shape[1]))
    importance = importance.astype(np.float32)

    def quantize(importance: np.ndarray | None) -> np.ndarray:
        return _native.quantize_weights(
            weights, name, importance=importance, threads=threads, isa=isa
        )

    def measure() -> object:
        return _native.measure_quantization(data, weights, name, threads=threads)

    data = quantize(None)
    work = (lambda: quantize(None), lambda: quantize(importance), measure)
    return [rate(each, weights.size, rounds) for each in work]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isas", default=next(k for k, v in _native.isas().items() if v))
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--shape", default="1024x2048", help="rows x columns")
    parser.add_argument("--threads", default="1", help="numbers of threads")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows, cols = (int(n) for n in args.shape.split("x"))
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((rows, cols), dtype=np.float32) * np.float32(0.02)
    print(f"{platform.machine()}, {rows} x {cols} normal weights, millions of weights per second")
    print("| type | isa | threads | plain | with importances | measured |")
    print("|---|---|---|---|---|---|")
    for name in args.types.split(","):
        for isa in args.isas.split(","):
            for threads in (int(n) for n in args.threads.split(",")):
                found = rates(name, isa, threads, weights, args.rounds)
                cells = " | ".join(f"{r:.0f}" for r in found)
                print(f"| {name} | {isa} | {threads} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
