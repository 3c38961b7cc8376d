"""Fuzz target of the chat templates' interpreter.

    python tests/fuzz/fuzz_template.py [SECONDS] [SEED]

Makes templates of random grammar, of known templates and of hostile ones, and changes them. Checks
that nothing but ``TemplateError`` comes out, that no run takes more CPU time than a budget is worth,
that memory stays small, and that text which users wrote gives the same prompt as any other and forms
no control token. It says what it did and ends with 1 if a check failed; the template is printed.
"""

from __future__ import annotations

import collections
import copy
import sys
import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "text"))

from chat_samples import TEMPLATES
from hostile_templates import ONCE, OPERATIONS, SOURCES
from template_grammar import VARIABLES, TemplateGrammar

from pyqwen.errors import TemplateError
from pyqwen.text.control_text import ControlTextCutter
from pyqwen.text.jinja.parsing import MAX_SOURCE
from pyqwen.text.jinja.template import Template
from pyqwen.text.jinja.tracked import Text, user_text

SECONDS = 3.0  # of CPU time for one template; 0.7 is the most that was seen on an idle machine
MEGABYTES = 300  # that the process may grow by, over all templates
CONTROL = ["<|im_end|>", "<|x|>"]
CUTTER = ControlTextCutter(CONTROL)

LARGE = [
    "99999",
    "999999999",
    "2**63",
    "-1",
    "1e308",
    "'a' * 99999",
    "'\u4e00' * 99999",
    "'\u0390' * 999",
]
LARGE += [
    "range(99999)",
    "range(99999) | list",
    "messages * 999",
    "namespace()",
    "varargs",
    "loop",
    "s * 9999",
]
PIECES = [
    "{%",
    "%}",
    "{{",
    "}}",
    "{#",
    "#}",
    "-",
    "'",
    '"',
    "(",
    ")",
    "[",
    "]",
    "|",
    ".",
    ",",
    "~",
    "\\",
]
PIECES += [
    " if ",
    " else ",
    " not ",
    " in ",
    " is ",
    " for ",
    " recursive ",
    "\n",
    " ",
    "=",
    "**",
    "%",
]


def changed(random: Random, source: str, others: list[str]) -> str:
    """``source`` with a few random changes."""
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(source) + 1)
        end = min(len(source), place + random.randrange(1, 30))
        kind = random.randrange(7)
        if kind == 0:
            source = source[:place] + source[end:]
        elif kind == 1:
            source = source[:place] + random.choice(PIECES) + source[place:]
        elif kind == 2:
            source = source[:place] + source[place:end] * random.randrange(2, 50) + source[end:]
        elif kind == 3:
            other = random.choice(others)
            start = random.randrange(len(other) + 1)
            source = source[:place] + other[start : start + random.randrange(200)] + source[place:]
        elif kind == 4:  # a name or a number becomes something large
            words = [i for i, c in enumerate(source) if c.isalnum() and not source[i - 1].isalnum()]
            if words:
                place = random.choice(words)
                end = next(
                    (i for i in range(place, len(source)) if not source[i].isalnum()), place + 1
                )
                source = source[:place] + f"({random.choice(LARGE)})" + source[end:]
        elif kind == 5:
            source = "{% for i in range(99999) %}" + source + "{% endfor %}"
        else:
            expression = TemplateGrammar(random).expression(3)
            source = source[:place] + "{{ " + expression + " }}" + source[place:]
    return source[: MAX_SOURCE + 1]


def users(value: Any) -> Any:
    """A copy of data in which users wrote every text, with control texts in it."""
    if isinstance(value, str):
        return user_text(value)
    if isinstance(value, list):
        return [users(item) for item in value]
    if isinstance(value, dict):
        return {key: users(item) for key, item in value.items()}
    return value


def with_control_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value + "<|im_end|>" + value + "<|x|>"
    if isinstance(value, list):
        return [with_control_texts(item) for item in value]
    if isinstance(value, dict):
        return {key: with_control_texts(item) for key, item in value.items()}
    return value


PLAIN = with_control_texts(VARIABLES)
USERS = users(PLAIN)


def rendered(source: str, variables: dict[str, Any]) -> tuple[str | None, str, float]:
    started = time.thread_time()
    text, problem = None, ""
    try:
        text = Template(source).render(copy.copy(variables), 0)
    except TemplateError as error:
        problem = str(error)
    return text, problem, time.thread_time() - started


def check(source: str) -> tuple[str, float]:
    """What came out, and the CPU time; ``AssertionError`` for what must not be."""
    plain, problem, seconds = rendered(source, PLAIN)
    text, user_problem, user_seconds = rendered(source, USERS)
    seconds = max(seconds, user_seconds)
    assert seconds < SECONDS, f"{seconds:.1f} s"
    limits = "exceeds its limits" in problem + user_problem
    assert limits or (plain is None) == (text is None), (problem, user_problem)
    if plain is not None and text is not None:
        assert str(plain) == str(text), "users' text gives another prompt"
        assert not isinstance(plain, Text)
    if text is not None and "<" not in source:
        spans = text.spans if isinstance(text, Text) else ()
        cuts = CUTTER.cuts(str(text), [(start, end) for start, end, _ in spans])
        ends = [0, *cuts, len(text)]
        for start, end in pairwise(ends):
            assert not any(c in str(text)[start:end] for c in CONTROL), "a control text is whole"
    if limits:
        return "limit", seconds
    return ("text" if plain is not None else "error"), seconds


def grown(before: int) -> int:
    """Megabytes by which this process has grown at most; 0 where that is not known."""
    if not sys.platform.startswith("linux"):
        return 0
    return peak() - before


def peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32
    random = Random(seed)
    known = [*ONCE.values(), *SOURCES.values(), *TEMPLATES.values(), *OPERATIONS.values()]
    print(f"seed {seed}, {seconds:.0f} s")
    rendered("{{ 1 }}", {})
    before = peak() if sys.platform.startswith("linux") else 0
    counts: collections.Counter[str] = collections.Counter()
    slowest, failures = ("", 0.0), 0
    everything = iter(known)  # each known one once as it is
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        source = next(everything, None) if random.random() < 0.1 else None
        if source is None:
            kind = random.random()
            source = TemplateGrammar(random).template() if kind < 0.6 else random.choice(known)
            if kind > 0.3:
                source = changed(random, source, known)
        try:
            outcome, taken = check(source)
        except Exception as error:
            failures += 1
            print(
                f"FAILED {type(error).__name__}: {str(error)[:500]}\n{source[:2000]!r}\n",
                flush=True,
            )
            continue
        counts[outcome] += 1
        if taken > slowest[1]:
            slowest = source, taken
    growth = grown(before)
    total = sum(counts.values())
    print(f"{total} templates, {dict(counts)}, {failures} failures")
    print(f"slowest {slowest[1]:.2f} s of CPU time: {slowest[0][:200]!r}")
    print(f"memory grew by {growth} MB")
    return 1 if failures or growth > MEGABYTES else 0


if __name__ == "__main__":
    sys.exit(main())
