"""Templates that try to take time or memory; tests and the fuzz target use them."""

from __future__ import annotations

_TEXTS = {
    "ascii": "'aB-' * 100000",
    "chinese": "'\u4e00\u4e01' * 150000",
    "growing": "'\u0390\ufb03' * 100000",
    "to escape": "'<\\x01\\n' * 100000",
}
OPERATIONS_ON_TEXT = [
    line.strip()
    for line in """
    x.strip(x)
    x.lstrip('a' * 17)
    x | trim(x)
    x | upper
    x | title
    x.title()
    x.casefold()
    x.split()
    x.split('a')
    x.rsplit('a')
    x | list
    x.splitlines()
    x | replace('a', 'bc')
    x.replace('', '-')
    x | tojson
    x | tojson(ensure_ascii=true)
    [x] | string
    x | e
    x | indent(900)
    x | wordcount
    x * 3
    x ~ x
    x[::-1]
    x[1:]
    x.find('b' + 'a' * 99)
    x.rfind('b' + 'a' * 99)
    x.count('a')
    ('a' * 99 + 'b') in x
    x.partition('q' * 50)
    x.rpartition('q' * 50)
    x | batch(1)
    x | map('upper')
    x | join('-')
    x | sort
    x | unique
    x | max
    x | groupby(0)
    '%s%s' % (x, x)
    '{0}{0}'.format(x)
    x is lower
    x == x ~ ''
    x < x ~ 'a'
    x.center(9999)
    x | int
    x | truncate(99999)
    """.strip().splitlines()
]
_LISTS = {
    "numbers": "range(99999) | list",
    "texts": "('b a ' * 20000).split()",
    "lists": "[[1], [2, 'a'], [1, 3]] * 3000",
    "dicts": "[{'k': 1}, {'k': 'b'}] * 5000",
}
OPERATIONS_ON_LISTS = [
    line.strip()
    for line in """
    x | sort
    x | sort(attribute='k')
    x | groupby(0)
    x | unique
    x | tojson(indent=30)
    x | string
    x | join('-')
    x + x
    x * 2
    x[::-1]
    x == x + []
    x + [1] == x + [1]
    [x] in [x + []]
    x | map('string') | join
    x | map('title') | list
    x | select('in', x) | list
    x | batch(2)
    x | slice(50000)
    x | max
    x.count(1)
    x.index('z')
    """.strip().splitlines()
]
_FORMS = {
    "repeated": "{% for i in range(99999) %}{% set y = OPERATION %}{% endfor %}",
    "kept": "{% set n = namespace(l=[]) %}"
    "{% for i in range(99999) %}{% set n.l = [n.l, OPERATION] %}{% endfor %}",
}
OPERATIONS: dict[str, str] = {
    f"{operation}, {form_name}, {name}": (
        f"{{% set x = {value} %}}" + form.replace("OPERATION", operation)
    )
    for form_name, form in _FORMS.items()
    for values, operations in (
        (_TEXTS, OPERATIONS_ON_TEXT),
        (_LISTS, OPERATIONS_ON_LISTS),
    )
    for name, value in values.items()
    for operation in operations
}

# What got past guards of single functions.
ONCE = {
    "strip": "{% set t='一'*1500000~'丁' %}{{ ('丁'*1500000).strip(t)|length }}",
    "trim": "{% set t='一'*1500000~'丁' %}{{ ('丁'*1500000)|trim(t)|length }}",
    "percent width behind a key with letters": "{{ '%(ab)3000000000d' % {'ab':1} }}",
    "percent filter": "{{ '%(ab)3000000000d' | format(ab=1) }}",
    "percent precision": "{{ '%.3000000000f' % 1 }}",
    "percent key with brackets": "{{ '%((a))3000000000d' % {'(a)':1} }}",
    "brace width behind a key with a brace": "{{ '{a[}]:>3000000000}'.format(a={'}':1}) }}",
    "brace precision": "{{ '{:.3000000000f}'.format(1.0) }}",
    "brace width from a brace": "{{ '{:{}}'.format(1, 3000000000) }}",
    "brace fill": "{{ '{:é>3000000000}'.format('a') }}",
    "keys that collide": "{% set n = namespace(d={}) %}{{ dict(range(99999) | map('float') | batch(2)) "
    "| length }}{% for i in range(99999) %}{% set n.d = dict(n.d, **{i|string: i}) %}{% endfor %}",
    "numbers": "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "self-containing namespace": "{% set n = namespace() %}{% set n.x = [n] %}{{ n.x }}",
    "self-containing JSON": "{% set n = namespace() %}{% set n.x = [n] %}{{ n.x | tojson }}",
    "nesting": "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = [n.x] %}{% endfor %}"
    "{{ n.x }}",
    "nested comparison": "{% set n = namespace(x=[], y=[]) %}{% for i in range(99999) %}"
    "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x < n.y }}",
    "wide recursion": "{% macro m(i) %}{% for j in range(9) %}{{ m(i) }}{% endfor %}{% endmacro %}{{ m(1) }}",
    "callers": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 30
    + "x"
    + "{% endcall %}" * 30,
    "arguments": "{% macro m() %}{{ m(*varargs, *varargs) }}{% endmacro %}{{ m(1) }}",
    "arguments that double": "{% macro m() %}{{ m(varargs, varargs) }}{{ varargs }}{% endmacro %}{{ m(1) }}",
}

_MOST = 131_072


def _filled(unit: str, before: str = "", after: str = "", size: int = 39_000) -> str:
    count = min(size, (_MOST - len(before) - len(after)) // len(unit))
    return before + unit * count + after


# For the lexer, the parser, and what works out the names.
SOURCES = {
    "outputs": _filled("{{1}}", size=13_000),
    "numbers": _filled("1,", "{{[", "]}}", 19_000),
    "lists": _filled("[],", "{{[", "]}}", 13_000),
    "open brackets": _filled("(", "{{"),
    "brackets": _filled("(" * 30 + "1" + ")" * 30 + ",", "{{[", "]}}", 600),
    "sum": _filled("1+", "{{", "1}}", 19_000),
    "difference": _filled("1-", "{{", "1}}", 19_000),
    "or": _filled("1 or ", "{{", "1}}", 19_000),
    "not": _filled("not ", "{{", "1}}"),
    "signs": _filled("-", "{{", "1}}"),
    "signs and brackets": _filled("-(", "{{"),
    "filters": _filled("|e", "{{1", "}}", 19_000),
    "attributes": _filled(".a", "{{a", "}}", 19_000),
    "calls": _filled("()", "{{a", "}}", 19_000),
    "nested calls": _filled("a(", "{{"),
    "nested elements": _filled("a[", "{{"),
    "nested filters": _filled("a|e(", "{{"),
    "concatenation": _filled("1~", "{{", "1}}", 19_000),
    "comparisons": _filled("1<", "{{", "1}}", 19_000),
    "inline ifs": _filled("1 if 1 else ", "{{", "1}}", 9_000),
    "tests": _filled(" is a", "{{1", "}}", 19_000),
    "slices": _filled("a[1:2],", "{{[", "]}}", 5_000),
    "elifs": _filled("{%elif a%}{%set a=1%}", "{%if a%}", "{%endif%}", 4_000),
    "branches and names": "{%if a%}"
    + "".join(f"{{%elif a{i}%}}{{%set b{i}=1%}}" for i in range(3_500))
    + "{%endif%}",
    "nested loops": "{%for a in b%}" * 39 + "{{x}}" * 12_000 + "{%endfor%}" * 39,
    "open loops": _filled("{%for a in b%}", size=6_000),
    "open ifs": _filled("{%if a%}", size=9_000),
    "macros": "".join(f"{{%macro m{i}()%}}{{%endmacro%}}" for i in range(3_000)),
    "parameters": "{%macro m(" + ",".join(f"a{i}" for i in range(15_000)) + ")%}{%endmacro%}",
    "keywords": "{{f(" + ",".join(f"a{i}=1" for i in range(9_000)) + ")}}",
    "targets": "{%for " + ",".join(f"a{i}" for i in range(10_000)) + " in b%}{%endfor%}",
    "set blocks": _filled("{%set a%}{%endset%}", size=4_800),
    "open set blocks": _filled("{%set a%}", size=9_000),
    "with": _filled("{%with a=1%}{%endwith%}", size=4_000),
    "call blocks": _filled("{%call a()%}{%endcall%}", size=4_000),
    "long number": "{{" + "1" * 130_000 + "}}",
    "long hexadecimal number": "{{0x" + "f" * 130_000 + "}}",
    "number with underscores": "{{" + "1_" * 65_000 + "1}}",
    "float": "{{1." + "1_" * 60_000 + "}}",
    "exponent": "{{1e" + "1" * 130_000 + "}}",
    "open text": "{{'" + "a" * 130_000,
    "backslashes": "{{'" + "\\" * 130_000,
    "spaces": "{%" + " " * 130_000,
    "spaces before tags": _filled("{%" + " " * 1000),
    "raw": _filled("{%raw%}{%endraw%}"),
    "open raw": "{%raw%}" + "{%endra" * 18_000,
    "comments": _filled("{#"),
    "newlines": "\n" * _MOST,
    "braces": "{" * _MOST,
    "open tags": _filled("{%-"),
    "doubled braces": "{{'" + '{{"a": <' * 16_000 + "'}}",
}
