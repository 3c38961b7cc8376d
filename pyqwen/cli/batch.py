"""``pyqwen batch``: a file of requests."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pyqwen.cli.console import ProgressBar, UsageError, counted, harmless, say
from pyqwen.cli.options import (
    Verbs,
    add_cache_option,
    add_context_option,
    add_kv_type_option,
    add_model_option,
    add_threads_option,
    add_verb,
    given,
    positive_int,
)

if TYPE_CHECKING:
    from pyqwen.batches.driver import Progress
    from pyqwen.batches.output import BatchOutput
    from pyqwen.batches.public import BatchResult
    from pyqwen.batches.rows import RowFile

_LINE_SECONDS = 30.0  # between lines about progress where there is no terminal
_WINDOW_SECONDS = 600.0  # of which the speed is the last
_ERRORS = 3  # lines that are named


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "batch",
        run,
        summary="answer a file of requests, one JSON object a line",
        description="Rows are OpenAI's: custom_id, method, url (/v1/chat/completions, /v1/completions, "
        "/v1/embeddings, /v1/responses) and body. Answers come in any order; a row that cannot be "
        "answered has an error. Whatever stops it, the same command goes on where it was.",
        examples=(
            "pyqwen batch requests.jsonl answers.jsonl",
            "pyqwen batch -m qwen2.5-coder-1.5b -c 4096 --parallel 32 requests.jsonl answers.jsonl",
            "pyqwen batch --workers 2 requests.jsonl answers.jsonl     # a machine with two NUMA nodes",
            "pyqwen batch --ray-address auto -m qwen2.5-coder-1.5b requests.jsonl answers.jsonl",
        ),
    )
    add_model_option(parser)
    parser.add_argument(
        "--parallel",
        type=positive_int,
        metavar="N",
        help="rows that run together in one engine (default: 16)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="so many processes, each a whole engine with its share of the processors: one for each "
        "NUMA node pays, more do not (default: one engine in this process)",
    )
    parser.add_argument(
        "--ray",
        action="store_true",
        help="an engine on each host of the Ray cluster that runs here or that RAY_ADDRESS names",
    )
    parser.add_argument(
        "--ray-address", metavar="A", help="the same on the cluster at this address, or: auto"
    )
    add_context_option(parser)
    add_threads_option(parser)
    add_kv_type_option(parser)
    add_cache_option(parser)
    parser.add_argument("source", metavar="IN.jsonl", help="the requests")
    parser.add_argument("out", metavar="OUT.jsonl", help="the answers; gone on with if it is there")


def run(args: argparse.Namespace) -> int:
    from pyqwen.batches.public import Wish, answer_file, checked_path
    from pyqwen.cli.inputs import find_model

    options: Any = given(args, "context", "threads", "kv_type", "cache")
    try:
        wish = Wish(
            args.model, None, args.parallel, args.workers, args.ray, args.ray_address, options
        )
        source, out = checked_path("IN", args.source), checked_path("OUT", args.out)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with ProgressBar("answering", "rows") as bar:
        report = _Report(bar, wish.served_name)
        try:
            result = answer_file(source, out, wish, report, find=find_model)
        except ImportError as error:
            if error.name in ("msgspec", "ray"):
                raise UsageError(str(error)) from error
            raise
    say(report.summary(result))
    return 0


class _Report:
    """What is said while a batch runs: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, bar: ProgressBar, name: str) -> None:
        self._bar, self._name = bar, name
        self._is_terminal = sys.stderr.isatty()
        self._begin = self._said = time.monotonic()
        self._times: deque[tuple[float, int]] = deque()  # when how many rows were done

    def begin(self, rows: RowFile, output: BatchOutput) -> None:
        """The files are read: say what is unusual about them."""
        if output.healed:
            say(f"the last line of {output.path} was torn: it is written again")
        if output.done:
            say(f"{len(output.done):,} of {counted(len(rows), 'row')} are answered already")
        if len(output.done) == len(rows):
            return
        for number, error in list(rows.errors.items())[:_ERRORS]:
            say(harmless(f"line {rows.lines[number]} is no request: {error.message}"))
        if len(rows.errors) > _ERRORS:
            say(f"{len(rows.errors) - _ERRORS:,} further lines are no requests")
        others = sorted(rows.models - {self._name})
        if others:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            say(harmless(f"rows ask for {shown}; {self._name} answers all of them"))

    def note(self, state: Progress) -> None:
        now = time.monotonic()
        if self._is_terminal:
            self._bar.update(state.done, state.total)
        elif now - self._said >= _LINE_SECONDS:
            self._said = now
            say(self._line(state, now))

    def _line(self, state: Progress, now: float) -> str:
        self._times.append((now, state.done))
        while now - self._times[0][0] > _WINDOW_SECONDS:
            self._times.popleft()
        since, done = self._times[0] if len(self._times) > 1 else (self._begin, state.found)
        line = f"{state.done:,} of {counted(state.total, 'row')}"
        if state.failed:
            line += f", {state.failed:,} failed"
        if state.done > done:
            left = (state.total - state.done) * (now - since) / (state.done - done)
            line += f", {_duration(left)} left"
        return line

    def summary(self, result: BatchResult) -> str:
        """The last line."""
        seconds = time.monotonic() - self._begin
        answered = result.rows - result.found
        if not answered:
            return f"nothing is left to do; {result.failed:,} failed"
        parts = [counted(answered, "row"), f"{result.failed:,} failed"]
        parts.append(_duration(seconds))
        if result.completion_tokens:
            speed = result.completion_tokens / seconds
            parts.append(f"{result.completion_tokens:,} tokens written ({speed:.1f}/s)")
        if result.prompt_tokens:
            parts.append(
                f"{result.prompt_tokens:,} read, {result.cached_tokens:,} of them from the cache"
            )
        if result.lost_workers:
            parts.append(counted(result.lost_workers, "worker") + " lost")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    """``0:05``, ``2:03:04``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
