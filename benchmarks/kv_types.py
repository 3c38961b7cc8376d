"""What the types of the KV cache cost: divergence from a float32 cache, memory, and speed at depth.

    python benchmarks/kv_types.py MODEL... [--types q8_0 q8_0,q5_1 ...] [--tokens 4096] [--exact]
    python benchmarks/kv_types.py MODEL --speed [--depths 0 8192] [--types f16 q8_0 ...]

The first form reads one text with every type and with a float32 cache, token for token (teacher forced),
and prints the mean and the 99.9 % quantile of the KL divergence from the latter in nats, the share of
positions at which both find the same token likeliest, and the bytes of a position. The text is this
repository's documentation. f16 is among the types, since it shows what any change at all does: it makes
activations round to other integers. With --exact matrices multiply float32 activations, so that the cache
is the only thing that rounds; this is many times slower.

The second form measures how fast tokens follow each other at some depths, and a prompt of 256 tokens behind
them, in alternating runs of all types on one model: the median of the tokens' times, the best of two
prompts. The cache is filled with copies of one block of text, each in memory of its own, so that no long
prompt needs to be read. Run it alone on the machine; with the 1.5B at 0 and 8192 and three types it takes
one to two minutes on two cores. --rounds and --steps say how often and how many tokens.
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

from pyqwen._native import SessionHandle, lib, plan
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.settings import resolve_settings
from pyqwen.loading.weights import Weights, load_weights
from pyqwen.text.tokenizer import Tokenizer
from pyqwen.units import format_bytes

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ("README.md", "CONTRIBUTING.md", "csrc/README.md", "csrc/kernels/README.md")
TYPES = ["f16", "q8_0", "q8_0,q5_1", "q8_0,q4_0", "q5_1", "q4_0"]
BATCH = 256
BLOCK = lib.pq_session_block_positions()


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


def fill(session: SessionHandle, ids: list[int], depth: int) -> None:
    """Make the sequence hold ``depth`` positions: one block of text, in as many copies as that needs."""
    session.rewind(0, 0)
    feed(session, ids[:BLOCK], 0)
    block = bytearray(lib.pq_session_block_bytes(session.pointer))
    first = session.keep(0, 0)
    session.read_block(first, BLOCK, block)
    copies = [session.write_block(block) for _ in range(-(-depth // BLOCK))]
    session.adopt(0, copies, depth)
    for kept in (first, *copies):
        session.drop(kept)


def seconds_per_token(session: SessionHandle, ids: list[int], depth: int, together: int) -> float:
    """Read ids behind ``depth`` positions, ``together`` at a time."""
    session.rewind(0, depth)
    begin = time.perf_counter()
    for start in range(0, len(ids), together):
        part = ids[start : start + together]
        session.eval(part, [0] * len(part), [0] * (len(part) - 1) + [1])
    return (time.perf_counter() - begin) / len(ids)


def print_speeds(
    path: Path, types: list[str], depths: list[int], rounds: int, steps: int, threads: int | None
) -> None:
    settings = resolve_settings(max_sequences=1, threads=threads)
    ids = text_tokens(path, BATCH)
    decoding: dict[tuple[str, int], list[float]] = {}
    reading: dict[tuple[str, int], list[float]] = {}
    with load_weights(path, settings) as weights, ExitStack() as stack:
        most = weights.model.config["context"] - BATCH
        depths = sorted(min(depth, most) for depth in depths)
        sessions: dict[str, SessionHandle] = {}
        for name in types:
            handle = SessionHandle(
                weights.model,
                context=depths[-1] + BATCH,
                threads=settings.threads,
                kv_type=parse_type(name),
            )
            sessions[name] = stack.enter_context(closing(handle))
            fill(handle, ids, depths[-1])
        for depth in reversed(depths):
            for i in range(rounds):
                for name, session in sessions.items():
                    seconds = seconds_per_token(session, ids[:steps], depth, 1)
                    decoding.setdefault((name, depth), []).append(seconds)
                    if i < 2:
                        seconds = seconds_per_token(session, ids, depth, BATCH)
                        reading.setdefault((name, depth), []).append(seconds)
    print(f"\n{path.name}, {settings.threads} threads, {settings.isa}; f16: the first row\n")
    print("| keys, values | depth | tok/s | of f16 | of depth 0 | prompt tok/s | of f16 | cache |")
    print("|---" * 8 + "|")
    for depth in depths:
        for name in types:
            key, first = (name, depth), (types[0], depth)
            token = statistics.median(decoding[key])
            of_first = statistics.median(decoding[first]) / token
            of_none = statistics.median(decoding[name, depths[0]]) / token
            prompt, first_prompt = min(reading[key]), min(reading[first])
            size = format_bytes(bytes_per_token(path, parse_type(name)) * depth)
            print(
                f"| {name} | {depth:,} | {1 / token:.2f} | {of_first:.3f} | {of_none:.3f} "
                f"| {1 / prompt:.1f} | {first_prompt / prompt:.3f} | {size} |"
            )


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
