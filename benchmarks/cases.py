"""What pyqwen is compared with itself in: see compare.py.

Sequences decoded together against one, the streaming API against the bare core, and the first token
after opening a model, packed anew and from the packed cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers import HERE, PeerFailed, PyQwen, Test
from report import spread

STEPS = 32  # tokens for each of the sequences decoded together


def together(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Tokens per second of all sequences together, and the ratio to those of one."""
    counts = [1, *args.sequences]
    with _worker(path, args.threads, STEPS + 1) as worker:
        speeds: dict[int, list[float]] = {count: [] for count in counts}
        for number in range(args.rounds):
            for count in counts[:: -1 if number % 2 else 1]:
                ns = worker.ask(op="together", sequences=count, steps=STEPS)["ns"]
                speeds[count].append(count * STEPS * 1e9 / ns)
    ratios = {
        str(count): spread([many / one for many, one in zip(speeds[count], speeds[1], strict=True)])
        for count in args.sequences
    }
    return {"steps": STEPS, "ts": {str(k): spread(v) for k, v in speeds.items()}, "ratio": ratios}


def streaming(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Tokens per second of ``Model.stream`` and of the bench's test of as many tokens."""
    tokens = args.n_gen or 128
    test = Test(0, tokens, 0)
    with (
        _worker(path, args.threads, tokens + 2) as core,
        _worker(path, args.threads, tokens + 64) as api,
    ):
        api.ask(op="stream", tokens=tokens)  # not counted: what is imported and made once
        core.time(test)
        pairs = []
        for number in range(args.rounds):
            if number % 2:
                bench = core.time(test)
                stream = test.speed(api.ask(op="stream", tokens=tokens)["ns"])
            else:
                stream = test.speed(api.ask(op="stream", tokens=tokens)["ns"])
                bench = core.time(test)
            pairs.append((stream, bench))
    return {
        "tokens": tokens,
        "stream_ts": spread([stream for stream, _ in pairs]),
        "bench_ts": spread([bench for _, bench in pairs]),
        "ratio": spread([stream / bench for stream, bench in pairs]),
    }


def first_token(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Starts in processes of their own, in pairs: with an empty cache, then with what that left."""
    starts: dict[str, list[dict[str, Any]]] = {"packing": [], "cached": []}
    for _ in range(args.rounds):
        with path.open("rb") as file:  # into the page cache
            while file.read(1 << 24):
                pass
        with tempfile.TemporaryDirectory() as cache:
            starts["packing"].append(_start(args, path, cache))
            if any(Path(cache).iterdir()):
                starts["cached"].append(_start(args, path, cache))
    result: dict[str, Any] = {"file_bytes": path.stat().st_size}
    for kind, found in starts.items():
        if found:
            result[kind] = {key: spread([s[key] for s in found]) for key in found[0] if all(
                s[key] is not None for s in found)}  # fmt: skip
    return result


def _start(args: argparse.Namespace, path: Path, cache: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "pyqwen_worker.py"), str(path), "--first-token"]
    command += ["--threads", str(args.threads), "--written-to", cache]
    environment = os.environ | {"PYQWEN_CACHE": cache}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        raise PeerFailed("pyqwen", result.returncode, result.stderr)
    return dict(json.loads(result.stdout))


@contextmanager
def _worker(path: Path, threads: int, context: int) -> Iterator[PyQwen]:
    worker = PyQwen(path, threads, context)
    try:
        yield worker
    finally:
        worker.close()
