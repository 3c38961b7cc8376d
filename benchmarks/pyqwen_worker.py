"""A process that runs pyqwen: see compare.py.

Each line on standard input is a request in JSON, each line on standard output its answer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from pyqwen import Model, _native
from pyqwen.loading.settings import resolve_settings
from pyqwen.loading.weights import load_weights
from pyqwen.measuring.benchmark import Timer, Workload

START_PROMPT = "The quick brown fox jumps over the lazy dog."  # 10 tokens of Qwen2.5's


class Bench:
    """The core without the engine, as in ``pyqwen bench``."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        settings = resolve_settings(
            threads=args.threads, kv_type="f16", exact=False, max_sequences=1, cache=False
        )
        self._weights = load_weights(Path(args.model), settings)
        self.isa = self._weights.model.isa
        self._timer: Timer | None = None
        self._prepared: Workload | None = None

    def time(self, n_prompt: int, n_gen: int, n_depth: int) -> int:
        """Nanoseconds of one repetition of a test; its first one is warmed up."""
        args = self._args
        if self._timer is None:
            self._timer = Timer(self._weights, args.context, args.threads)
        workload = Workload(n_prompt, n_gen, n_depth, args.threads)
        if workload != self._prepared:
            self._timer.prepare(workload)
            self._prepared = workload
        return self._timer.time(workload)

    def together(self, sequences: int, steps: int) -> int:
        """Nanoseconds of ``steps`` tokens for each of ``sequences`` sequences, side by side."""
        session = _native.SessionHandle(
            self._weights.model,
            context=steps + 1,
            sequences=sequences,
            threads=self._args.threads,
            batch=max(sequences, 8),
        )
        logits = np.empty((sequences, self._weights.model.config["vocab_rows"]), np.float32)
        rows, outputs = list(range(sequences)), [1] * sequences
        vocab = self._weights.model.config["real_tokens"]
        try:
            for step in range(steps + 1):
                if step == 1:  # the first one warms up
                    start = time.perf_counter_ns()
                tokens = [(7919 * step + 104729 * row) % vocab for row in rows]
                session.eval(tokens, rows, outputs)
                session.logits(0, sequences, logits)
            return time.perf_counter_ns() - start
        finally:
            session.close()


class Streaming:
    """The whole library, as users call it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._model = Model(args.model, threads=args.threads, context=args.context)
        self._stream(1)

    def _stream(self, tokens: int) -> int:
        written = 0
        options: dict[str, Any] = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        with self._model.stream([100], **options) as stream:
            for chunk in stream:
                written += len(chunk.token_ids)
        return written

    def time(self, tokens: int) -> int:
        """Nanoseconds from the call for ``tokens`` tokens to the last of them."""
        start = time.perf_counter_ns()
        written = self._stream(tokens)
        elapsed = time.perf_counter_ns() - start
        if written != tokens:
            raise RuntimeError(f"the stream brought {written} tokens instead of {tokens}")
        return elapsed


def first_token(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds from ``Model(...)`` to the first token id, and what that took of memory."""
    start = time.perf_counter()
    model = Model(args.model, threads=args.threads)
    loaded = time.perf_counter()
    with model.stream(START_PROMPT, max_tokens=1, temperature=0, ignore_eos=True) as stream:
        while not next(stream).token_ids:
            pass
        seconds = time.perf_counter() - start
    peak = peak_bytes()
    if args.written_to:
        wait_until_written(Path(args.written_to))
    answer = {
        "seconds": seconds,
        "loading_seconds": loaded - start,
        "prompt_tokens": len(model.tokenizer.encode(START_PROMPT)),
        "peak_bytes": peak,
        "kv_bytes": model.kv_bytes,
    }
    model.close()
    return answer


def peak_bytes() -> int | None:
    """The most memory this process ever had resident; None where /proc does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def wait_until_written(folder: Path, *, quiet: float = 3, limit: float = 120) -> None:
    """Wait until nothing below a folder has changed for ``quiet`` seconds."""
    before: list[tuple[str, int]] | None = None
    changed = end = time.monotonic()
    end += limit
    while time.monotonic() < min(changed + quiet, end):
        now = sorted((str(p), p.stat().st_size) for p in folder.rglob("*") if p.is_file())
        if now != before:
            before, changed = now, time.monotonic()
        time.sleep(0.2)


def serve(args: argparse.Namespace) -> None:
    bench: Bench | None = None
    streaming: Streaming | None = None
    for line in sys.stdin:
        request = json.loads(line)
        op = request.pop("op")
        if op == "stream":
            streaming = streaming or Streaming(args)
            answer: dict[str, Any] = {"ns": streaming.time(**request)}
        else:
            bench = bench or Bench(args)
            if op == "describe":
                answer = {"isa": bench.isa}
            else:
                answer = {"ns": {"time": bench.time, "together": bench.together}[op](**request)}
        print(json.dumps(answer), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, default=0, help="tokens, all tests' at most")
    parser.add_argument("--first-token", action="store_true", help="time one start, and end")
    parser.add_argument("--written-to", help="wait until files in this folder are complete")
    args = parser.parse_args()
    if args.first_token:
        print(json.dumps(first_token(args)))
    else:
        serve(args)


if __name__ == "__main__":
    main()
