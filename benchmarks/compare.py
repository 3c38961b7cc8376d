"""pyqwen and llama.cpp in alternating runs on the same file with the same threads: ratios and limits.

    python benchmarks/compare.py MODEL.gguf [MODEL.gguf ...] -t 2 -d 0,8192 --save NAME
    python benchmarks/compare.py MODEL.gguf --llama-bench PATH/llama-bench
    python benchmarks/compare.py MODEL.gguf --cases together,first-token,streaming

llama.cpp is run through llama-cpp-python (of this Python, or of `--llama-python`), or by a llama-bench
binary; with and without flash attention, of which the better one counts. The tests are llama-bench's.
Before and after each run two loops measure what the machine gives just then: memory read, and products
of int8. README.md beside this file says how to read the result.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # with python -P, too

import cases
import report
from limits import Demand, Limits, Reading, machine
from peers import LlamaBench, LlamaCpp, LlamaCppPython, PeerFailed, PyQwen, Test

from pyqwen import _native

RESULTS = Path(__file__).resolve().parent / "results"
CASES = ("llama", "together", "first-token", "streaming")

Run = Callable[[Test], float]


def compare(args: argparse.Namespace, path: Path, tests: list[Test]) -> dict[str, Any]:
    """All tests on one file."""
    context = max(test.n_depth + test.tokens for test in tests)
    pyqwen = PyQwen(path, args.threads, context)
    llama: LlamaCpp = (
        LlamaBench(args.llama_bench, path, args.threads)
        if args.llama_bench
        else LlamaCppPython(args.llama_python, path, args.threads, context)
    )
    try:
        isa = pyqwen.ask(op="describe")["isa"]
        limits, demand = Limits(args.threads, isa), Demand(path)
        rows = [measure(test, args.rounds, pyqwen, llama, limits, demand) for test in tests]
    finally:
        pyqwen.close()
        llama.close()
    return {
        "model": path.name,
        "file_bytes": demand.file_bytes,
        "isa": isa,
        "llama": llama.build | {"repack": llama.repack, "notes": llama.notes},
        "tests": rows,
    }


def measure(
    test: Test, rounds: int, pyqwen: PyQwen, llama: LlamaCpp, limits: Limits, demand: Demand
) -> dict[str, Any]:
    """One test: ``rounds`` rounds in which everyone runs once, every other one in reverse order."""
    runs: dict[str, Run] = {"pyqwen": pyqwen.time}
    for flash in (False, True):
        runs[f"llama_fa{int(flash)}"] = lambda test, flash=flash: llama.time(test, flash)
    warm_up(test, runs, llama)
    repack = llama.repack
    samples: dict[str, list[float]] = {name: [] for name in runs}
    readings: dict[str, list[Reading]] = {name: [] for name in runs}
    before = limits.read()
    for number in range(rounds):
        for name in list(runs)[:: -1 if number % 2 else 1]:
            say(f"{test.name}: round {number + 1} of {rounds}, {name}")
            samples[name].append(runs[name](test))
            after = limits.read()
            readings[name] += [before, after]
            before = after
    if llama.repack != repack:  # it crashed on the way: what was measured is a mixture
        return measure(test, rounds, pyqwen, llama, limits, demand)
    return report.summarize(test, samples, readings, demand)


def warm_up(test: Test, runs: dict[str, Run], llama: LlamaCpp) -> None:
    """Run everyone once, uncounted: also what tells whether llama.cpp works here."""
    for name in list(runs):
        say(f"{test.name}: warming up, {name}")
        noted = len(llama.notes)
        try:
            runs[name](test)
        except PeerFailed as error:
            if name == "pyqwen":
                raise
            del runs[name]
            llama.notes.append(f"{test.name}, {name}: {error}")
        for note in llama.notes[noted:]:
            say(note)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------- the report


def command_line() -> str:
    """The command, with files by their names only: where they lie is nobody's concern."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return shlex.join(["python", "benchmarks/compare.py", *words])


def commit() -> str | None:
    """The commit of this clone; None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=9"]
    try:
        result = subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def header(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "command": command_line(),
        "machine": machine(),
        "pyqwen": version("pyqwen"),
        "commit": commit(),
        "threads": args.threads,
        "rounds": args.rounds,
    }


def whole_numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if any(number < 0 for number in numbers):
        raise ValueError(text)
    return numbers


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="GGUF files")
    parser.add_argument("-p", "--n-prompt", type=int, default=512, help="0: no such test")
    parser.add_argument("-n", "--n-gen", type=int, default=128, help="0: no such test")
    parser.add_argument("-d", "--n-depth", type=whole_numbers, default=[0], help="N[,N...]")
    parser.add_argument("-t", "--threads", type=int, default=_native.default_threads())
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--cases", default="llama", help=f"some of {','.join(CASES)}")
    parser.add_argument("--sequences", type=whole_numbers, default=[2, 4, 8], help="together")
    parser.add_argument("--llama-bench", metavar="PATH", help="run this instead of the bindings")
    parser.add_argument(
        "--llama-python", metavar="PYTHON", default=sys.executable, help="has llama-cpp-python"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--save", metavar="NAME", help="write results/NAME.json and NAME.md, too")
    args = parser.parse_args()
    args.cases = args.cases.split(",")
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {', '.join(unknown)}: choose from {', '.join(CASES)}")
    if args.rounds < 1 or args.threads < 1:
        parser.error("rounds and threads must be 1 or more")
    for path in args.models:
        if not path.is_file():
            parser.error(f"{path} is not a file")
    return args


def main() -> int:
    args = arguments()
    lengths = [(args.n_prompt, 0), (0, args.n_gen)]
    tests = [Test(p, n, depth) for depth in args.n_depth for p, n in lengths if p or n]
    result: dict[str, Any] = header(args) | {"models": []}
    try:
        for path in args.models:
            say(path.name)
            entry: dict[str, Any] = {"model": path.name}
            if "llama" in args.cases and tests:
                entry |= compare(args, path, tests)
            if "together" in args.cases:
                entry["together"] = cases.together(args, path)
            if "streaming" in args.cases:
                entry["streaming"] = cases.streaming(args, path)
            if "first-token" in args.cases:
                entry["first_token"] = cases.first_token(args, path)
            result["models"].append(entry)
    except PeerFailed as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    text = json.dumps(result, indent=1) + "\n"
    print(text if args.json else report.markdown(result), end="")
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{args.save}.json").write_text(text)
        (RESULTS / f"{args.save}.md").write_text(report.markdown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
