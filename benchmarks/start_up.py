"""How long a program waits for the first token: one process after the other, from the packed cache.

    python benchmarks/start_up.py MODEL [--runs 10] [--threads N]

Fills the packed cache if it is empty. Each run is a new process that opens the model and answers a prompt
of ten tokens. Two times are told, in seconds: from ``Model(...)``, and from the start of Python; and the
processor time of all threads, which tells what a busy machine does not. It takes a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pyqwen.loading import packed_cache
from pyqwen.loading.gguf_file import GGUFFile

PROGRAM = """
import json, sys, time
started = float(sys.argv[1])
from pyqwen import Model
imported = time.time()
with Model(sys.argv[2], context=512, threads=int(sys.argv[3]) or None) as model:
    opened = time.time()
    prompt = model.tokenizer.encode("The quick brown fox jumps over the lazy dog.")[:10]
    for chunk in model.stream(prompt, max_tokens=2, temperature=0, ignore_eos=True):
        break
    first = time.time()
    used = time.process_time()
    model.finish_cache()
    print(json.dumps({
        "prompt": len(prompt), "import": imported - started,
        "open": opened - imported, "answer": first - opened, "model to first token": first - imported,
        "program to first token": first - started, "processor time": used}))
"""


def run(model: str, threads: int) -> dict[str, float]:
    """What one process measured."""
    command = [sys.executable, "-c", PROGRAM, repr(time.time()), model, str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else everything is compiled each time
    os.environ["PYTHONSAFEPATH"] = "1"  # the installed package, and not a clone that this is run in
    run(args.model, args.threads)
    results = [run(args.model, args.threads) for _ in range(args.runs)]
    with GGUFFile(args.model) as file:
        packed = packed_cache.locate(file, Path(args.model))
    if packed is None or not packed.exists:
        sys.exit(f"{args.model} is not in the packed cache: it is too small, or the disk is full")
    print(f"{args.model}: {args.runs} runs, prompt of {results[0].pop('prompt'):.0f} tokens")
    for name in results[-1]:
        if name != "prompt":
            values = sorted(result[name] for result in results)
            print(f"{name:24} best {values[0]:.3f} s, median {statistics.median(values):.3f} s")


if __name__ == "__main__":
    main()
