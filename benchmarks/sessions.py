"""Time to the first token of a second turn behind a long one: from memory, a session file, nothing.

    python benchmarks/sessions.py MODEL.gguf [--tokens 8000] [-t N]   # a 1.5B: 2 minutes on two threads

The first turn is a user's text of so many tokens and an answer of 32. The second one is a question of some 20
tokens. It is asked in the process that read the first turn ("memory"); in another one that loads what the
first saved, once with the file in the system's memory and once without it ("file", "file from disk"); and in
one that has nothing but the messages ("nothing"). Times are from the call, that of loading the file in it,
to the first chunk; the weights are loaded before. The processor time of all threads tells what a busy machine
does not. All four answers must have the same tokens. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pyqwen import Model

QUESTION = "Which of these numbers are even, and what was the last line about? Answer briefly."
SETTINGS: dict[str, Any] = {"temperature": 0, "max_tokens": 32, "ignore_eos": True}


def text_of(model: Model, tokens: int) -> str:
    """A text of about so many tokens that does not repeat itself."""
    lines: list[str] = []
    length = 0
    while length < tokens:
        n = len(lines)
        lines.append(f"Entry {n}: the value of item {n * 7919 % 10007} is {n * n % 9973} units.")
        length += len(model.tokenizer.encode(lines[-1] + "\n"))
    return "\n".join(lines)


def second_turn(model: Model, messages: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    """Ask; return the seconds to the first chunk, tokens cached and the answer."""
    began, used = time.perf_counter(), time.process_time()
    with model.stream_chat(messages, **SETTINGS, **options) as stream:
        next(iter_of := iter(stream))
        first, used = time.perf_counter() - began, time.process_time() - used
        for _ in iter_of:
            pass
        reply = stream.result()
    usage = reply.usage
    return {
        "first token": first,
        "processor": used,
        "prompt": usage.prompt_tokens,
        "cached": usage.cached_tokens,
        "answer": reply.token_ids,
    }


def write_first_turn(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The first turn, saved; then the second from memory."""
    with Model(args.model, threads=args.threads, context=args.tokens + 1024) as model:
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": text_of(model, args.tokens) + "\n\nSum this up in a line."}
        ]
        with model.session() as session:
            messages.append(model.chat(messages, session=session, **SETTINGS).message)
            messages.append({"role": "user", "content": QUESTION})
            (folder / "messages.json").write_text(json.dumps(messages))
            began = time.perf_counter()
            session.save(folder / "talk.session")
            saving = time.perf_counter() - began
            held = len(session)
        result = second_turn(model, messages)
    size = (folder / "talk.session").stat().st_size
    return result | {"saving": saving, "bytes": size, "held": held}


def read_second_turn(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The second turn in another process, with or without the file."""
    messages = json.loads((folder / "messages.json").read_text())
    file = folder / "talk.session"
    with Model(args.model, threads=args.threads, context=args.tokens + 1024) as model:
        model.generate(
            [1, 2, 3], max_tokens=2
        )  # the kernels, and what Python imports for an answer
        if args.part == "nothing":
            return second_turn(model, messages)
        if args.part == "disk":
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with model.session() as session:
            began, used = time.perf_counter(), time.process_time()
            session.load(file)
            loading, used = time.perf_counter() - began, time.process_time() - used
            result = second_turn(model, messages, session=session)
    result["first token"] += loading
    result["processor"] += used
    return result | {"loading": loading}


def run_part(args: argparse.Namespace, part: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, args.model, "--tokens", str(args.tokens)]
    command += ["--part", part, "--folder", str(folder)]
    if args.threads:
        command += ["-t", str(args.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=8000, help="of the first turn (8000)")
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument(
        "--part", choices=("memory", "file", "disk", "nothing"), help=argparse.SUPPRESS
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        work = write_first_turn if args.part == "memory" else read_second_turn
        print(json.dumps(work(args, args.folder)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        results = {
            part: run_part(args, part, folder) for part in ("memory", "file", "disk", "nothing")
        }
    assert len({tuple(result["answer"]) for result in results.values()}) == 1, "answers differ"
    saved = results["memory"]
    print("| second turn from | tokens read | loading | first token after | processor time |")
    print("|---|---|---|---|---|")
    names = {"memory": "memory", "file": "file", "disk": "file from disk", "nothing": "nothing"}
    for part, result in results.items():
        loading = f"{result['loading']:.2f} s" if "loading" in result else ""
        new = result["prompt"] - result["cached"]
        first, used = (f"{result[name]:.2f} s" for name in ("first token", "processor"))
        print(f"| {names[part]} | {new:,} | {loading} | {first} | {used} |")
    print(
        f"\n{saved['held']:,} tokens in a file of {saved['bytes'] / 1e6:,.0f} MB, saved in "
        f"{saved['saving']:.2f} s; the answers are the same"
    )


if __name__ == "__main__":
    main()
