"""Kernels of two builds by turns: ``python benchmarks/paired_kernels.py OLD.so NEW.so [--isa avx2] ...``.

OLD.so and NEW.so are the modules ``_ffi_test`` (before there was one: ``_ffi``) of two builds. Both are
loaded, and each kernel is timed in one and the other by turns, so that what else the machine does meets both.
A line has the best time of each in microseconds, and old / new: above 1, the new one is faster. The last line
has the geometric mean of the ratios, and the smallest.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "kernels"))

import matrices as mx

ROWS, COLS = 512, 2048
TYPES = "Q4_0,Q4_1,Q5_0,Q5_1,Q8_0,IQ4_NL,Q2_K,Q3_K,Q4_K,Q5_K,Q6_K,IQ4_XS,F16"
VECTORS = ("exp", "logsumexp", "silu_mul", "rms_norm", "f16", "add", "rope_neox")
LENGTH, SHORT = 1 << 16, 16  # what a call costs besides is taken off: the time of a short one


class Build:
    """A compiled module of one build."""

    def __init__(self, path: str) -> None:
        for module in ("_ffi_test", "_ffi"):  # the name of its initialization is compiled in
            spec = importlib.util.spec_from_file_location(f"{Path(path).stem}.{module}", path)
            assert spec
            assert spec.loader
            try:
                loaded: Any = importlib.util.module_from_spec(spec)
            except ImportError:
                continue
            self.ffi, self.lib = loaded.ffi, loaded.lib
            return
        raise SystemExit(f"{path}: neither _ffi_test nor _ffi of pyqwen")

    def pointer(self, kind: str, array: np.ndarray) -> Any:
        return self.ffi.cast(kind, self.ffi.from_buffer(array))

    def product(
        self, isa: str, name: str, weights: np.ndarray, x: np.ndarray, rounds: int
    ) -> float:
        """Return the seconds of the fastest of ``rounds`` products."""
        seconds = np.zeros(rounds)
        status = self.lib.pq_time_matmul(
            isa.encode(), 0, mx.type_number(name), self.pointer("void *", weights),
            weights.shape[0], x.shape[1], 1, self.pointer("float *", x), x.shape[0], 1, rounds,
            self.pointer("double *", seconds), self.ffi.NULL,
        )  # fmt: skip
        assert status == 0, f"{isa} {name}: status {status}"
        return float(seconds.min())

    def vector(self, isa: str, name: str, a: np.ndarray, b: np.ndarray, rounds: int) -> float:
        out = np.empty_like(a)
        first = (
            isa.encode(),
            name.encode(),
            self.pointer("float *", a),
            self.pointer("float *", b),
        )
        last = (self.pointer("float *", out), self.ffi.NULL)
        best = dict.fromkeys((LENGTH, SHORT), math.inf)
        for _ in range(rounds):
            for n in best:
                start = time.perf_counter()
                self.lib.pq_test_vector(*first, n, *last)
                best[n] = min(best[n], time.perf_counter() - start)
        return best[LENGTH] - best[SHORT]


def by_turns(times: list[Callable[[int], float]], seconds: float) -> list[float]:
    """Return the best time of each, measured by turns for ``seconds`` in all."""
    best = [time_it(3) for time_it in times]
    rounds = int(np.clip(0.01 / max(*best, 1e-6), 2, 200))
    end = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < end or turn < 4:
        for i in range(len(times)) if turn % 2 else reversed(range(len(times))):
            best[i] = min(best[i], times[i](rounds))
        turn += 1
    return best


def cases(args: argparse.Namespace, isa: str) -> Iterator[tuple[str, Callable[..., float]]]:
    rng = np.random.default_rng(0)
    for name in args.types.split(",") if args.types else ():
        weights = mx.random_weights(rng, name, ROWS, COLS)
        for tokens in (int(n) for n in args.tokens.split(",")):
            x = rng.standard_normal((tokens, COLS), dtype=np.float32)
            yield (
                f"{name} x {tokens}",
                lambda build, rounds, name=name, w=weights, x=x: build.product(
                    isa, name, w, x, rounds
                ),
            )
    a, b = rng.standard_normal((2, LENGTH), dtype=np.float32)
    for name in args.vectors.split(",") if args.vectors else ():
        yield name, lambda build, rounds, name=name: build.vector(isa, name, a, b, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--isa", default=",".join(i for i in mx.available_isas() if i != "scalar"))
    parser.add_argument("--types", default=TYPES)
    parser.add_argument("--tokens", default="1,4,64")
    parser.add_argument("--vectors", default=",".join(VECTORS))
    parser.add_argument("--seconds", type=float, default=0.8, help="of each kernel")
    args = parser.parse_args()
    builds = [Build(args.old), Build(args.new)]
    logs = []
    print("| isa | kernel | old, us | new, us | old / new |\n|---|---|--:|--:|--:|")
    for isa in args.isa.split(","):
        for name, run in cases(args, isa):
            old, new = by_turns(
                [lambda rounds, b=b, run=run: run(b, rounds) for b in builds], args.seconds
            )
            logs.append(math.log(old / new))
            print(
                f"| {isa} | {name} | {old * 1e6:.1f} | {new * 1e6:.1f} | {old / new:.3f} |",
                flush=True,
            )
    mean, least = math.exp(sum(logs) / len(logs)), math.exp(min(logs))
    print(f"{len(logs)} kernels: old / new {mean:.3f} (geometric mean), {least:.3f} at least")


if __name__ == "__main__":
    main()
