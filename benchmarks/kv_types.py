"""What the types of the KV cache cost: divergence from a float32 cache, memory, and speed at depth.

    python benchmarks/kv_types.py MODEL... [--types q8_0 q8_0,q5_1 ...] [--tokens 4096] [--exact]
    python benchmarks/kv_types.py MODEL --speed [--depths 0 8192] [--types f16 q8_0 ...]

The first form reads one text with every type and with a float32 cache, token for token (teacher forced),
and prints the mean and the 99.9 % quantile of the KL divergence from the latter in nats, the share of
positions at which both find the same token likeliest, and the bytes of a position. The text is this
repository's documentation. f16 is among the types, since it shows what any change at all does: it makes
activations round to other integers. With --exact matrices multiply float32 activations, so that the cache
is the only thing that rounds; this is many times slower.

The second form measures how fast tokens follow each other at some depths, in alternating runs of all types
on one model, and prints the median of each and its ratio to f16's. The cache is filled with a prompt once
and copied to every depth by rewinding, so that what stands in it is real. Run it alone on the machine; with
the 1.5B at 0 and 8192 and three types it takes about three minutes on two cores, most of them for the
prompts. --rounds and --steps say how often and how many tokens.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from pyqwen._native import SessionHandle, plan
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.settings import resolve_settings
from pyqwen.loading.weights import Weights, load_weights
from pyqwen.text.tokenizer import Tokenizer
from pyqwen.units import format_bytes

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ("README.md", "CONTRIBUTING.md", "csrc/README.md", "csrc/kernels/README.md")
TYPES = ["f16", "q8_0", "q8_0,q5_1", "q8_0,q4_0", "q5_1", "q4_0"]
BATCH = 256


def parse_type(text: str) -> str | tuple[str, str]:
    """Return what ``kv_type=`` takes for ``T`` or ``TK,TV``."""
    names = text.split(",")
    return names[0] if len(names) == 1 else (names[0], names[1])


def text_tokens(path: Path, count: int) -> list[int]:
    """Return the first ``count`` tokens of the documentation, repeated where it is too short."""
    with GGUFFile(path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata, source=str(path))
    ids = tokenizer.encode("".join((ROOT / name).read_text(encoding="utf-8") for name in TEXTS))
    return (ids * (count // len(ids) + 1))[:count]


def bytes_per_token(path: Path, kv_type: str | tuple[str, str]) -> int:
    with GGUFFile(path) as file:
        return plan(file.handle, kv_type=kv_type)["kv_per_token"]


def feed(session: SessionHandle, ids: list[int], output: int) -> None:
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        session.eval(part, [0] * len(part), [output] * len(part))


# ------------------------------------------------------------------------------------------ divergence


def divergences(
    weights: Weights, ids: list[int], types: list[str]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield after each batch how many positions were compared, and their ``pq_divergence`` by type."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in types}
    with ExitStack() as stack:

        def session(kv_type: str | tuple[str, str]) -> SessionHandle:
            handle = SessionHandle(weights.model, context=len(ids), kv_type=kv_type)
            return stack.enter_context(closing(handle))

        reference = session("f32")
        sessions = {name: session(parse_type(name)) for name in types}
        for start in range(0, len(ids) - 1, BATCH):
            part = ids[start : min(start + BATCH, len(ids) - 1)]
            feed(reference, part, 1)
            for name in types:
                feed(sessions[name], part, 1)
                targets = ids[start + 1 : start + 1 + len(part)]
                parts[name].append(sessions[name].compare(reference, 0, targets))
            yield start + len(part), {name: np.concatenate(parts[name]) for name in types}


def print_divergences(path: Path, types: list[str], tokens: int, exact: bool) -> None:
    ids = text_tokens(path, tokens)
    settings = resolve_settings(kv_type="f32", exact=exact, max_sequences=1)
    f16 = bytes_per_token(path, "f16")
    with load_weights(path, settings) as weights:
        for done, found in divergences(weights, ids, types):
            print(
                f"{done:,}:",
                *(f"{found[t]['kld'].mean():.5f}" for t in types),
                file=sys.stderr,
                flush=True,
            )
    print(f"\n{path.name}, {tokens:,} tokens{', exact' if exact else ''}\n")
    print("| keys, values | mean KLD | 99.9 % | same top | bytes/token | of f16 |")
    print("|---|---|---|---|---|---|")
    for name in types:
        size, rows = bytes_per_token(path, parse_type(name)), found[name]
        print(
            f"| {name} | {rows['kld'].mean():.5f} | {np.quantile(rows['kld'], 0.999):.4f} "
            f"| {100 * rows['same_top'].mean():.1f} % | {size:,} | {100 * size / f16:.0f} % |",
            flush=True,
        )


# ----------------------------------------------------------------------------------------------- speed


def seconds_per_token(session: SessionHandle, ids: list[int], depth: int, steps: int) -> float:
    session.rewind(0, depth)
    begin = time.perf_counter()
    for token in ids[depth : depth + steps]:
        session.eval([token], [0], [1])
    return (time.perf_counter() - begin) / steps


def print_speeds(
    path: Path, types: list[str], depths: list[int], rounds: int, steps: int, threads: int | None
) -> None:
    deepest = max(depths) + steps
    ids = text_tokens(path, deepest)
    settings = resolve_settings(max_sequences=1, threads=threads)
    with load_weights(path, settings) as weights:
        sessions = {
            name: SessionHandle(
                weights.model,
                context=deepest,
                threads=settings.threads,
                kv_type=parse_type(name),
            )
            for name in types
        }
        prompts: dict[str, float] = {}
        for name, session in sessions.items():
            begin = time.perf_counter()
            feed(session, ids[: max(depths)], 0)
            prompts[name] = max(depths) / (time.perf_counter() - begin)
        print(f"\n{path.name}, {settings.threads} threads, {settings.isa}\n")
        columns = "".join(
            f" {depth:,} tok/s | of f16 | of depth {min(depths):,} |" for depth in depths
        )
        print(f"| keys, values |{columns} prompt tok/s | KV at {max(depths):,} |")
        print("|---" * (3 * len(depths) + 3) + "|")
        times: dict[tuple[str, int], list[float]] = {}
        for depth in sorted(depths, reverse=True):
            for _ in range(rounds):
                for name, session in sessions.items():
                    seconds = seconds_per_token(session, ids, depth, steps)
                    times.setdefault((name, depth), []).append(seconds)
        median = {key: statistics.median(values) for key, values in times.items()}
        for name in types:
            cells = "".join(
                f" {1 / median[name, depth]:.2f} | {median[types[0], depth] / median[name, depth]:.3f} "
                f"| {median[name, min(depths)] / median[name, depth]:.3f} |"
                for depth in depths
            )
            size = format_bytes(bytes_per_token(path, parse_type(name)) * max(depths))
            print(f"| {name} |{cells} {prompts[name]:.1f} | {size} |")
        for session in sessions.values():
            session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--types", nargs="+", default=None, metavar="T|TK,TV")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--depths", nargs="+", type=int, default=[0, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("-t", "--threads", type=int, default=None)
    args = parser.parse_args()
    for path in args.models:
        if args.speed:
            types = args.types or ["f16", "q8_0", "q8_0,q5_1"]
            print_speeds(path, types, args.depths, args.rounds, args.steps, args.threads)
        else:
            print_divergences(path, args.types or TYPES, args.tokens, args.exact)


if __name__ == "__main__":
    main()
