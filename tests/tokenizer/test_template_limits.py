"""Templates come from downloaded files: whatever one says, it must end soon, and in an error."""

from __future__ import annotations

import threading
import time
import tracemalloc

import pytest

from pyqwen.errors import TemplateError
from pyqwen.text.chat_template import ChatTemplate

HOSTILE = {
    "nested loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "nested loops in a macro": (
        "{% macro m() %}{% for b in range(99999) %}{% endfor %}{% endmacro %}"
        "{% for a in range(99999) %}{{ m() }}{% endfor %}"
    ),
    "filtered loop": (
        "{% for a in range(99999) %}{% for b in range(99999) if false %}{% endfor %}{% endfor %}"
    ),
    "recursive loop": (
        "{% for x in [range(99999)] * 999 recursive %}"
        "{% if x is iterable %}{{ loop(x) }}{% endif %}{% endfor %}"
    ),
    "multiplied string": "{{ 'a' * 10 ** 9 }}",
    "multiplied constant": "{{ 1000000000 * 'a' }}",
    "multiplied list": "{{ ([0] * 10 ** 9) | length }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "chained power": "{{ 9**9**9**9**9 }}",
    "power by multiplying": (
        "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}"
    ),
    "division of long numbers": (
        "{% set n = ('f' * 4000000) | int(base=16) %}{{ n // ('f' * 2000000) | int(base=16) }}"
    ),
    "doubling by +": (
        "{% set n = namespace(x='aaaaaaaa') %}"
        "{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"
    ),
    "doubling by ~": (
        "{% set n = namespace(x='aaaaaaaa') %}"
        "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
    ),
    "doubling by a block": (
        "{% set n = namespace(x='aaaaaaaa') %}"
        "{% for i in range(60) %}"
        "{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}"
    ),
    "doubling lists": (
        "{% set n = namespace(x=[1]) %}"
        "{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}"
    ),
    "shared parts, printed": (
        "{% set n = namespace(x=[1]) %}"
        "{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}"
    ),
    "shared parts, as JSON": (
        "{% set n = namespace(x={'a': 1}) %}"
        "{% for i in range(60) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}{{ n.x | tojson }}"
    ),
    "replace": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "replace method": "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "join": "{{ range(99999) | join('b' * 99999) }}",
    "join method": "{{ ('b' * 99999).join(['c'] * 99999) }}",
    "percent width": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "format filter": "{{ '%999999999d' | format(1) }}",
    "format method": "{{ '{:>999999999}'.format(1) }}",
    "format width from an argument": "{{ '{:>{}}'.format(1, 999999999) }}",
    "format repeats": "{{ ('{0}' * 99999).format('a' * 99999) }}",
    "center": "{{ 'a'.center(999999999) }}",
    "zfill": "{{ '1'.zfill(999999999) }}",
    "indent": "{{ ('a\\n' * 9999) | indent(999999999) }}",
    "indent by text": "{{ ('a\\n' * 99999) | indent('b' * 99999) }}",
    "JSON indent": "{{ [[[[1]]]] | tojson(indent=999999999) }}",
    "round": "{{ 1.5 | round(999999999, 'ceil') }}",
    "sum of lists": "{{ ([[1] * 9999] * 9999) | sum(start=[]) }}",
    "slices kept": (
        "{% set n = namespace(l=[]) %}{% set s = 'a' * 999999 %}"
        "{% for i in range(9999) %}{% set n.l = n.l + [s[1:]] %}{% endfor %}"
    ),
    "output": "{% for a in range(99999) %}" + "x" * 5000 + "{% endfor %}",
    "output of macros": (
        "{% macro m() %}"
        + "x" * 5000
        + "{% endmacro %}{% for a in range(99999) %}{% set y = m() %}"
        "{% endfor %}"
    ),
    "macro recursion": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "comparison of shared parts": (
        "{% set n = namespace(x=1, y=1) %}{% for i in range(60) %}"
        "{% set n.x = dict(a=n.x, b=n.x) %}{% set n.y = dict(a=n.y, b=n.y) %}{% endfor %}"
        "{{ n.x == n.y }}"
    ),
    "shared parts from arguments": (
        "{% set n = namespace(x=1, y=1) %}{% macro m() %}{% set n.x = varargs %}{% endmacro %}"
        "{% macro k() %}{% set n.y = varargs %}{% endmacro %}"
        "{% for i in range(60) %}{% set y = m(n.x, n.x) %}{% set y = k(n.y, n.y) %}{% endfor %}"
        "{{ n.x == n.y }}"
    ),
    "shared parts from a cycler": (
        "{% set n = namespace(x=1, y=1) %}{% for i in range(60) %}"
        "{% set n.x = cycler(n.x, n.x).items %}{% set n.y = cycler(n.y, n.y).items %}{% endfor %}"
        "{{ n.x == n.y }}"
    ),
    "comparison of long texts": (
        "{% set s = 'a' * 999999 %}{% set l = [s + 'b', s + 'c'] * 99999 %}{{ l | sort | length }}"
    ),
    "lazy comparison of long texts": (
        "{% set s = 'a' * 4999999 %}{% set t = s[1:] + 'b' %}"
        "{{ range(99999) | map(attribute='z', default=s) | select('eq', t) | list }}"
    ),
    "lazy search": (
        "{% set l = range(99999) | list %}{{ range(99999) | select('in', l[:-1]) | list | length }}"
    ),
    "deep parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep difference": "{{ " + "1 - " * 20000 + "1 }}",
    "ten megabytes": "x" * 10_000_000,
    "date of any width": "{{ strftime_now('%999999999d') }}",
    "bytes of a number": "{{ (1).to_bytes(999999999) }}",
    "lorem ipsum": "{{ lipsum(n=999999) }}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_template_ends_soon_and_small(source: str) -> None:
    started = time.thread_time()
    with pytest.raises(TemplateError):
        ChatTemplate(source).render("hi")
    assert time.thread_time() - started < 4  # about one second of work, on a slow machine


@pytest.mark.parametrize(
    "name", ["multiplied string", "doubling by ~", "replace", "join", "slices kept", "output"]
)
def test_hostile_template_takes_no_memory(name: str) -> None:
    template = ChatTemplate(HOSTILE[name])
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            template.render("hi")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000_000


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ range.__call__.__self__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'a': 1}) }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ ('%s' | attr('format')) }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{{ loop_over }}{{ messages | map('random') | list }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_template_reaches_nothing_but_its_data(source: str) -> None:
    try:
        text = ChatTemplate(source).render("hi").text
    except TemplateError:
        return
    assert text in ("", "[Undefined]", "[, ]")


def test_limits_hold_in_a_small_thread() -> None:
    # A desktop program may render in a thread with a small stack; signals would not work there.
    failures: list[BaseException] = []

    def run() -> None:
        for name in ("macro recursion", "deep parentheses", "nested loops"):
            try:
                ChatTemplate(HOSTILE[name]).render("hi")
            except TemplateError as error:
                failures.append(error)

    previous = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        threading.stack_size(previous)
    thread.join()
    assert len(failures) == 3


def test_limits_grow_with_the_conversation() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{% for n in range(20) %}{{ m.content[:3] + '' }}{% endfor %}"
        "{{ m.content | trim | replace('x', 'y') }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "x" * 1000}] * 10_000
    assert len(template.render(messages).text) == 10_000 * (60 + 1000)


def test_large_conversation_is_fast() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}")
    started = time.thread_time()
    text = template.render([{"role": "user", "content": "hello"}] * 10_000).text
    assert len(text) == 10_000 * len("user: hello")
    assert time.thread_time() - started < 3
