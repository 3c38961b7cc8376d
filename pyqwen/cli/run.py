"""``pyqwen run``: one answer."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pyqwen.cli.console import ProgressBar, UsageError, counted, harmless, say
from pyqwen.cli.inputs import open_model, read_stdin, read_text
from pyqwen.cli.options import (
    Verbs,
    add_generation_options,
    add_verb,
    generation_overrides,
)

if TYPE_CHECKING:
    from pyqwen import Model
    from pyqwen.results import Completion

CUT_OFF = "cut off: -n or the context (-c) was reached"


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "run",
        run,
        summary="answer one prompt",
        description="The answer goes to stdout, everything else to stderr.",
        examples=(
            'pyqwen run "Write a Python function that reverses a linked list."',
            'pyqwen run -m qwen2.5-0.5b -f notes.txt "Summarize this text."',
            "git diff | pyqwen run -s 'You review code.' --temp 0 -",
        ),
    )
    add_generation_options(parser)
    parser.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="text of the prompt; together with PROMPT it follows that after an empty line",
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT|-", help="the prompt; - is stdin")


def run(args: argparse.Namespace) -> int:
    overrides = generation_overrides(args)
    messages = [{"role": "user", "content": _prompt(args)}]
    if args.system is not None:
        messages.insert(0, {"role": "system", "content": args.system})
    on_terminal = sys.stdout.isatty()
    with open_model(args) as model, ProgressBar("reading", "tokens") as bar:
        with model.stream_chat(messages, on_prompt=bar.update, **overrides) as stream:
            for chunk in stream:
                bar.close()
                sys.stdout.write(harmless(chunk.text) if on_terminal else chunk.text)
                sys.stdout.flush()
        print()
        if stream.completion is not None:
            say(describe_speed(stream.completion))
        store_packed_weights(model)
    return 0


def store_packed_weights(model: Model) -> None:
    """Wait for the cache: a model that only answers once would never finish writing it."""
    if not model.finish_cache(timeout=0):
        say("storing packed weights for faster starts (Ctrl-C leaves it at that)")
        with suppress(KeyboardInterrupt):  # the answer is complete
            while not model.finish_cache(timeout=0.2):
                pass


def _prompt(args: argparse.Namespace) -> str:
    parts = []
    if args.prompt is not None:
        parts.append(read_stdin().removesuffix("\n") if args.prompt == "-" else args.prompt)
    if args.file is not None:
        parts.append(read_text(args.file).removesuffix("\n"))
    if not any(parts):
        raise UsageError(
            "there is no prompt: give one, - for standard input, or -f FILE; a conversation is "
            "pyqwen chat"
        )
    return "\n\n".join(parts)


def describe_speed(done: Completion) -> str:
    """One line: what was read and written, how fast, and why it ended."""
    usage, timings = done.usage, done.timings
    cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
    speed = f"{timings.prompt_tokens_per_second:.1f} tokens/s"
    parts = [f"prompt {counted(usage.prompt_tokens, 'token')}{cached} ({speed})"]
    if timings.first_token_seconds is not None:
        parts.append(f"first token after {timings.first_token_seconds:.2f} s")
    answer = counted(usage.completion_tokens, "token")
    parts.append(f"answer {answer} ({timings.decode_tokens_per_second:.1f} tokens/s)")
    if done.finish_reason == "length":
        parts.append(CUT_OFF)
    elif done.finish_reason == "cancelled":
        parts.append("stopped")
    return ", ".join(parts)
