"""``pyqwen run``: one answer."""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqwen.cli.adapters import add_adapter_option, chosen_adapter
from pyqwen.cli.console import ProgressBar, UsageError, harmless, print_json, say
from pyqwen.cli.inputs import open_model, read_stdin, read_text, say_if_stdin_is_unread
from pyqwen.cli.options import (
    Verbs,
    add_generation_options,
    add_verb,
    generation_overrides,
    text_argument,
)
from pyqwen.cli.session_files import add_session_option, load_conversation, save_conversation
from pyqwen.cli.speed import describe_speed
from pyqwen.cli.structure import add_structure_options, structure_of

if TYPE_CHECKING:
    from pyqwen import Model, Session
    from pyqwen.results import ChatCompletion


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
            "git diff | pyqwen run --temp 0 'Review this change:' -",
            "pyqwen run -q --json --seed 1 'Name a color.'",
            "pyqwen run -q --choice yes --choice no 'Is a whale a fish?'",
            "pyqwen run --json-schema city.json 'Describe a city in Peru.'",
            "pyqwen run --session talk.session -f report.txt 'What is this about?'",
            "pyqwen run --session talk.session 'And what does it leave out?'",
        ),
    )
    add_generation_options(parser)
    add_adapter_option(parser, "SCALE multiplies what it adds (default: 1)")
    add_structure_options(parser)
    add_session_option(parser)
    parser.add_argument(
        "-f",
        "--file",
        metavar="FILE",
        help="text of the prompt; together with PROMPT it follows that after an empty line",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="only the answer: say nothing of model and speed"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one object: text, finish_reason, stop_reason, usage, timings, seed; with a schema "
        "also parsed, what the text says, and unenforced",
    )
    parser.add_argument(
        "prompt",
        nargs="*",
        type=text_argument,
        metavar="PROMPT|-",
        help="the prompt; - stands for the text of standard input, alone or beside a prompt",
    )


def run(args: argparse.Namespace) -> int:
    overrides = generation_overrides(args)
    structure = structure_of(args)
    adapter = chosen_adapter(args)
    question = {"role": "user", "content": _prompt(args)}
    with (
        open_model(args) as model,
        _session(model, args.session) as session,
        ProgressBar("reading", "tokens") as bar,
    ):
        messages = [*_said_before(session, args), question]
        thinking = False
        with model.stream_chat(
            messages,
            on_prompt=bar.update,
            response_format=structure,
            session=session,
            adapter=adapter,
            **overrides,
        ) as stream:
            for chunk in stream:
                bar.close()
                if chunk.reasoning or (thinking and chunk.text):
                    thinking = bool(chunk.reasoning)
                    if not args.quiet:
                        _show_reasoning(chunk.reasoning if thinking else "\n\n")
                if not args.json:
                    _write(chunk.text)
            completion = stream.result()
        if session is not None:
            save_conversation(session, args.session, [*messages, completion.message], overrides)
        if args.json:
            parsed = {"parsed": completion.parsed, "unenforced": completion.unenforced}
            print_json(_as_json(completion) | (parsed if structure is not None else {}))
        else:
            print()
        if not args.quiet:
            say(describe_speed(completion))
        store_packed_weights(model, quiet=args.quiet)
    return 0


def _session(model: Model, path: Path | None) -> AbstractContextManager[Session | None]:
    if path is None:
        return nullcontext()
    session = model.session()
    session.check_target(path)
    return session


def _said_before(session: Session | None, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The messages in the file of the session, with the system prompt that was given."""
    from pyqwen.cli.conversation import saved_conversation

    system: str | None = args.system
    turns: list[dict[str, Any]] = []
    if session is not None and args.session.exists():
        content = load_conversation(session, args.session)
        earlier, turns, _ = saved_conversation(content, args.session)
        system = earlier if system is None else system
    return [{"role": "system", "content": system}, *turns] if system is not None else turns


def _write(text: str) -> None:
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def _show_reasoning(text: str) -> None:
    """What a model thinks is no part of the result: at a terminal it is shown, dimmed."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\x1b[2m{harmless(text)}\x1b[0m")
        sys.stderr.flush()


def _as_json(done: ChatCompletion) -> dict[str, Any]:
    return {
        "text": done.text,
        **({"reasoning": done.reasoning} if done.reasoning is not None else {}),
        "finish_reason": done.finish_reason,
        "stop_reason": done.stop_reason,
        "usage": {**asdict(done.usage), "total_tokens": done.usage.total_tokens},
        "timings": asdict(done.timings),
        "seed": done.seed,
    }


def store_packed_weights(model: Model, *, quiet: bool = False) -> None:
    """Wait for the cache: a model that only answers once would never finish writing it."""
    if not model.finish_cache(timeout=0):
        if not quiet:
            say("storing packed weights for faster starts (Ctrl-C leaves it at that)")
        with suppress(KeyboardInterrupt):  # the answer is complete
            while not model.finish_cache(timeout=0.2):
                pass


def _prompt(args: argparse.Namespace) -> str:
    """The texts of the command line, of standard input where ``-`` stands, and of ``-f``, in order."""
    if len([part for part in args.prompt if part != "-"]) > 1 or args.prompt.count("-") > 1:
        raise UsageError("there are several prompts; put quotes around one that has spaces")
    parts = [_text_of_stdin() if part == "-" else part for part in args.prompt]
    if args.file is not None:
        parts.append(read_text(args.file).removesuffix("\n"))
    if not any(parts):
        raise UsageError(
            "there is no prompt: give one, - for standard input, or -f FILE; a conversation is "
            "pyqwen chat"
        )
    if "-" not in (*args.prompt, args.file) and not args.quiet:
        say_if_stdin_is_unread()
    return "\n\n".join(parts)


def _text_of_stdin() -> str:
    text = read_stdin().removesuffix("\n")
    if not text:
        raise UsageError("standard input, which - stands for, is empty")
    return text
