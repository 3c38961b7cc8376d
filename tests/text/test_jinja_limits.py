"""What hostile templates can take: about a second and some tens of megabytes, whatever they say.

``tests/tokenizer/test_template_limits.py`` has those that the first versions stopped already.
"""

from __future__ import annotations

import _thread
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hostile_templates import ONCE, OPERATIONS, SOURCES
from hypothesis import given, settings
from hypothesis import strategies as st
from template_grammar import VARIABLES, TemplateGrammar
from test_jinja_equality import users

from pyqwen.errors import TemplateError
from pyqwen.text.control_text import ControlTextCutter
from pyqwen.text.jinja.template import Template
from pyqwen.text.jinja.tracked import Text

# Of CPU time. On a machine of 2023 the slowest takes 0.7; caches are shared with other work.
SECONDS = 2.5


# The budget is proportional to the input; with this much less than none it is an eighth.
EIGHTH = -218_750


def run(source: str, size: int = 0) -> str:
    try:
        return Template(source).render({"a": [1], "b": [1]}, size)
    except TemplateError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("source", ONCE.values(), ids=ONCE.keys())
def test_what_got_past_guards(source: str) -> None:
    started = time.thread_time()
    assert len(run(source)) < 1000
    assert time.thread_time() - started < SECONDS


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_sources(source: str) -> None:
    started = time.thread_time()
    run(source)
    assert time.thread_time() - started < SECONDS


@pytest.mark.parametrize("part", range(4))
def test_operations(part: int) -> None:
    """Operations on large operands, again and again, thrown away and kept."""
    slowest = ("", 0.0)
    for name, source in list(OPERATIONS.items())[part::12]:  # the fuzz target does all
        taken = min(_seconds(source) for _ in range(2))  # others use the caches, too
        if taken > slowest[1]:
            slowest = name, taken
    assert slowest[1] < SECONDS / 8, slowest


def _seconds(source: str) -> float:
    started = time.thread_time()
    run(source, EIGHTH)
    return time.thread_time() - started


_MEASURE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from hostile_templates import ONCE, OPERATIONS, SOURCES
from pyqwen.errors import TemplateError
from pyqwen.text.jinja.template import Template

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

Template("{{ 1 }}").render({}, 0)
before = peak()
kept = [source for name, source in OPERATIONS.items() if "kept" in name]
for source in [*ONCE.values(), *list(SOURCES.values())[::8], *kept[::32]]:
    try:
        Template(source).render({"a": [1], "b": [1]}, 0)
    except TemplateError:
        pass
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KB on Linux")
def test_memory() -> None:
    folder = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, folder], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 130, done.stdout  # MB; of one template at most 100


def test_other_threads_run() -> None:
    """The interpreter never keeps the GIL for long."""
    shortest = 9.0
    for _ in range(2):  # a busy machine may stop the watching thread itself
        longest = 0.0
        thread = threading.Thread(target=_run_some)
        thread.start()
        while thread.is_alive():
            started = time.perf_counter()
            time.sleep(0.001)
            longest = max(longest, time.perf_counter() - started)
        shortest = min(shortest, longest)
        if shortest < 1:
            break
    assert shortest < 1  # it was minutes; single operations take less than 0.1


def _run_some() -> None:
    for name in ("strip", "trim", "keys that collide", "nested comparison"):
        run(ONCE[name])


def test_ctrl_c_ends_a_template() -> None:
    source = (
        "{% set n = namespace(x={'a': 1}) %}{% for i in range(60) %}"
        "{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}{{ n.x | tojson }}"
    )
    template = Template("{% for i in range(9) %}" + source + "{% endfor %}")
    timer = threading.Timer(0.05, _thread.interrupt_main)
    with pytest.raises(KeyboardInterrupt):
        _render_for_long(template, timer)
    timer.join()


def _render_for_long(template: Template, timer: threading.Timer) -> None:
    timer.start()
    for _ in range(1000):
        try:
            template.render({}, 0)
        except TemplateError:
            continue


# User text through every operation

CONTROL = ["<|im_end|>", "<|x|>"]


def with_control_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value + "<|im_end|>" + value + "<|x|>"
    if isinstance(value, list):
        return [with_control_texts(item) for item in value]
    if isinstance(value, dict):
        return {key: with_control_texts(item) for key, item in value.items()}
    return value


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**63))
def test_user_text_forms_no_control_token_through_any_operation(seed: int) -> None:
    source = TemplateGrammar(Random(seed)).template()
    assert "<|" not in source
    check_user_text(source)


def check_user_text(source: str) -> None:
    """No control text of ``VARIABLES`` is left whole by the cuts."""
    variables = users(with_control_texts(VARIABLES))
    try:
        text = Template(source).render(variables, 100_000)
    except TemplateError:
        return
    spans = text.spans if isinstance(text, Text) else ()
    cuts = ControlTextCutter(CONTROL).cuts(str(text), [(start, end) for start, end, _ in spans])
    ends = [0, *cuts, len(text)]
    for start, end in pairwise(ends):
        assert not any(control in str(text)[start:end] for control in CONTROL), source


@pytest.mark.parametrize(
    ("text", "users_part", "segments"),
    [
        ("<|x|>", [(0, 5)], ["<", "|x|>"]),
        ("<|x|>", [], ["<|x|>"]),
        ("<|x|>", [(2, 3)], ["<|", "x|>"]),
        ("<|x|>", [(0, 2)], ["<", "|x|>"]),
        ("<|x|>", [(3, 5)], ["<|x", "|>"]),
        ("<|x|><|x|>", [(5, 10)], ["<|x|><", "|x|>"]),
        ("<|x|><|x|>", [(0, 5)], ["<", "|x|><|x|>"]),
        ("<|x|><|x|>", [(4, 6)], ["<|x|", "><", "|x|>"]),
        ("a<|x|>", [(0, 1)], ["a<|x|>"]),
        ("<|x|>a", [(5, 6)], ["<|x|>a"]),
        ("<|im_end|>", [(1, 2), (8, 9)], ["<", "|im_end|>"]),
    ],
)
def test_cuts(text: str, users_part: list[tuple[int, int]], segments: list[str]) -> None:
    cuts = ControlTextCutter(CONTROL).cuts(text, users_part)
    ends = [0, *cuts, len(text)]
    assert [text[a:b] for a, b in pairwise(ends)] == segments


@given(
    st.lists(st.text("ab", min_size=2, max_size=4), min_size=1, max_size=4),
    st.text("ab", max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_cuts_spare_what_the_template_wrote(controls: list[str], text: str, by: list[bool]) -> None:
    places = [(i, i + 1) for i in range(len(text)) if by[i]]
    cuts = set(ControlTextCutter(controls).cuts(text, places))
    for control in controls:
        for start in range(len(text)):
            if text.startswith(control, start):
                inside = range(start + 1, start + len(control))
                is_users = any(by[i] for i in range(start, start + len(control)))
                assert is_users == any(cut in cuts for cut in inside)
