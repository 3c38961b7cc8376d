"""Random templates that are mostly meaningful: what equality with jinja2 is tried on, and what the
fuzz target begins with. Nothing in them takes jinja2 long, whatever the data.
"""

from __future__ import annotations

from random import Random
from typing import Any

VARIABLES: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be <b>"},
        {"role": "user", "content": " Hi é\n x "},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
        {"role": "tool", "content": "7"},
    ],
    "tools": [{"function": {"name": "f", "parameters": {"b": 1, "a": {}}}}],
    "s": "Hello wOrld ß-x",
    "t": "a,b,,c",
    "u": "ÀÉ日🙂\u0130 \x07'\"",
    "n": 3,
    "z": 0,
    "f": 2.5,
    "none": None,
    "yes": True,
    "l": [3, 1, 2],
    "w": ["b", "A", "a"],
    "e": [],
    "ll": [[1, 2], [3]],
    "d": {"b": 1, "a": [1, "x"], "C": None},
    "items": [{"k": "x", "v": 2}, {"k": "y", "v": 1}, {"v": 3}],
}


def _words(text: str) -> list[str]:
    return text.split()


_NAMES = [*VARIABLES, "undefined_name", "x", "y", "a", "i", "m"]
_ATTRIBUTES = _words(
    """
    role content function name k v a b C items keys values get upper index first last length
    previtem nextitem cycle depth missing
    """
)
_LITERALS = _words(
    """
    0 1 2 3 -1 2.5 true false none 'a' 'b' '' 'xy' '\\n' 'Hello' ',' 'role' 'user' [] {}
    """
)
_STRINGS = ["'a'", "'b'", "''", "' '", "','", "'o'", "'\\n'", "'xy'", "'é'", "s", "t", "u"]
_BINARY = _words(
    """
    + - ~ // / % == != < > <= >= and or in
    """
)
_FILTERS = _words(
    """
    abs capitalize count default dictsort e escape first float int items join last length list
    lower map('upper')|list map(attribute='k')|list map('length')|list max min reject|list
    rejectattr('k')|list reverse|list round safe select|list select('odd')|list
    selectattr('v','gt',1)|list sort sort(reverse=true) string sum title tojson tojson(indent=2)
    trim unique|list upper wordcount batch(2)|list slice(2)|list groupby('v') indent
    indent(2,true) replace('o','0') join(',') default('d',true) trim('H') center(9)
    sort(attribute='v') sum(attribute='v') map('string')|join round(1) int(7) truncate(5)
    tojson(sort_keys=true) map(attribute='v')|sum unique(true)|list tojson(ensure_ascii=true)
    first|default('q')
    """
)
_TESTS = _words(
    """
    defined undefined none string number integer float mapping sequence iterable boolean true
    false odd even lower upper callable escaped in('abc') eq(1) divisibleby(2) sameas(none) gt(1)
    """
)
_METHODS = _words(
    """
    upper() lower() title() strip() lstrip('H') rstrip('x') split() split(',') split('o',1)
    rsplit(',',1) splitlines() startswith('H') endswith('x') replace('o','0') replace('','-')
    find('o') count('l') join(w) items() keys() values() get('a') get('q','r') format(1,n=2)
    zfill(4) center(9,'*') partition(',') rpartition(',') removeprefix('He') removesuffix('x')
    isdigit() swapcase() index('o') copy() capitalize() casefold() isupper() ljust(7) rjust(7)
    rfind('o')
    """
)
_TEXT_FILTERS = _words(
    """
    upper lower title capitalize trim e escape string replace('o','0') trim('H') center(9)
    truncate(5) indent indent(2,true) default('d') reverse first|default('q') safe tojson
    indent('>',blank=true)
    """
)
_TEXT_METHODS = _words(
    """
    upper() lower() title() strip() lstrip('H') rstrip('x') split('o')[0] rsplit(',',1)[-1]
    replace('o','0') replace('','-',2) replace(s,t) zfill(4) center(9,'*') partition(',')[2]
    capitalize() removeprefix('He') removesuffix('x') swapcase() casefold() ljust(7) rjust(7)
    split()[-1] join(w) rpartition(',')[0] format(1,n=2) strip('Hx')
    """
)
_LIST_TO_TEXT = _words(
    """
    join join(',') join(s) first last string tojson map('string')|join(',')
    map(attribute='k')|join map('upper')|join('|') map('tojson')|join
    """
)
_LIST_FILTERS = _words(
    """
    list sort sort(reverse=true) unique|list reverse|list map('string')|list map('upper')|list
    select|list map(attribute='role')|list selectattr('role')|list rejectattr('k')|list
    batch(2)|list slice(2)|list select('string')|list reject('number')|list
    map('default','x')|list selectattr('v','gt',1)|list map(attribute='v',default=0)|list
    sort(attribute='v') selectattr('k','equalto','x')|list
    """
)
_FORMATS = [
    "'%s'",
    "'%d'",
    "'%s-%s'",
    "'%5s|'",
    "'%.1f'",
    "'%r'",
    "'%(a)s'",
    "'%%'",
    "'%x'",
    "'%-4d|'",
]
_DATA = ["", "x", " ", "\n", "text\n", "  \n", "é", "\t", "a % b", "# "]


class TemplateGrammar:
    """Writes one random template."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._macros: list[str] = []
        self._statements = 0

    def template(self) -> str:
        return self._body(3)

    def _pick(self, choices: Any) -> Any:
        return choices[int(self._random.random() * len(choices))]

    # Expressions: mostly of a type that fits where they stand, so that most templates give text

    def expression(self, depth: int) -> str:
        makers = [self._text, self._text, self._list, self._number, self._truth, self._any]
        return str(self._pick(makers)(depth))

    def _any(self, depth: int) -> str:
        kind = self._random.randrange(9) if depth > 0 else self._random.randrange(2)
        if kind == 0:
            return str(self._pick(_NAMES))
        if kind == 1:
            return str(self._pick(_LITERALS))
        inner = self.expression(depth - 1)
        if kind == 2:
            return f"({inner} | {self._pick(_FILTERS)})"
        if kind == 3:
            return f"{inner}.{self._pick(_METHODS)}"
        if kind == 4:
            return f"({inner} {self._pick(_BINARY)} {self.expression(depth - 1)})"
        if kind == 5:
            key = self._pick(["0", "-1", "'a'", "'role'", "n", "i", "'upper'"])
            return f"{self._pick(_NAMES)}[{key}]"
        if kind == 6:
            return f"{self._pick(_NAMES)}.{self._pick(_ATTRIBUTES)}"
        if kind == 7:
            return f"({self._pick(_FORMATS)} % {inner})"
        return self._call(depth)

    def _call(self, depth: int) -> str:
        if self._macros:
            return f"{self._pick(self._macros)}({self._arguments(depth)})"
        return str(self._pick(["range(3)", "dict(a=1)", "namespace(a=s).a", "range(1, n)"]))

    def _type(self, maker: Any, depth: int) -> str:
        """An expression of a type; now and then of another."""
        return str((self._any if self._random.random() < 0.04 else maker)(depth - 1))

    def _text(self, depth: int) -> str:
        kind = self._random.randrange(10) if depth > 0 else self._random.randrange(2)
        if kind < 2:
            return str(self._pick(_STRINGS))
        inner = self._type(self._text, depth)
        if kind == 2:
            return f"({inner} | {self._pick(_TEXT_FILTERS)})"
        if kind == 3:
            return f"{inner}.{self._pick(_TEXT_METHODS)}"
        if kind == 4:
            return f"({inner} {self._pick('+~~')} {self._type(self._text, depth)})"
        if kind == 5:
            return f"({inner} ~ {self._any(depth - 1)})"
        if kind == 6:
            return f"{inner}[{self._pick(['0', '-1', '1:', ':2', '::-1', '1:-1', '-2:', 'n:'])}]"
        if kind == 7:
            return f"({self._type(self._list, depth)} | {self._pick(_LIST_TO_TEXT)})"
        if kind == 8:
            other = self._text(depth - 1)
            return f"({inner} if {self._truth(depth - 1)}{self._pick(['', f' else {other}'])})"
        return f"({self._any(depth - 1)} | {self._pick(['string', 'tojson', 'tojson(indent=2)'])})"

    def _number(self, depth: int) -> str:
        kind = self._random.randrange(6) if depth > 0 else 0
        if kind == 0:
            return str(self._pick(["n", "z", "f", "1", "2", "-1", "l[0]", "l|length"]))
        if kind == 1:
            return f"({self._type(self._number, depth)} {self._pick(['+', '-', '*', '/', '//', '%'])} 2)"
        if kind == 2:
            return f"({self._type(self._list, depth)} | {self._pick(['length', 'count'])})"
        if kind == 3:
            return (
                f"({self._type(self._text, depth)} | {self._pick(['length', 'wordcount', 'int'])})"
            )
        if kind == 4:
            return f"({self._type(self._number, depth)} | {self._pick(['abs', 'round', 'int', 'float'])})"
        return f"({self._type(self._number, depth)} {self._pick('+-')} {self._type(self._number, depth)})"

    def _list(self, depth: int) -> str:
        kind = self._random.randrange(7) if depth > 0 else 0
        if kind == 0:
            return str(
                self._pick(["l", "w", "e", "ll", "items", "messages", "range(3)", "tools", "d"])
            )
        if kind == 1:
            return f"({self._type(self._list, depth)} | {self._pick(_LIST_FILTERS)})"
        if kind == 2:
            return f"({self._pick(['l', 'w', 'e'])} + {self._pick(['[n]', '[s]', 'w', '[[1]]'])})"
        if kind == 3:
            owner = self._pick(["l", "w", "messages", "range(5)"])
            return f"{owner}[{self._pick(['1:', ':-1', '::-1', '5:'])}]"
        if kind == 4:
            return f"{self._type(self._text, depth)}.{self._pick(['split()', 'splitlines()'])}"
        if kind == 5:
            return str(
                self._pick(["d.items()", "d.keys()|list", "d|dictsort", "items|groupby('v')"])
            )
        return self._container(depth)

    def _truth(self, depth: int) -> str:
        kind = self._random.randrange(7) if depth > 0 else 0
        if kind == 0:
            return str(
                self._pick(["yes", "z", "n", "e", "s", "undefined_name", "true", "none", "loop"])
            )
        if kind == 1:
            return f"({self._any(depth - 1)} is {self._pick(['', 'not '])}{self._pick(_TESTS)})"
        if kind == 2:
            return f"({self._any(depth - 1)} {self._pick(['==', '!='])} {self._any(depth - 1)})"
        if kind == 3:
            signs = self._pick(["<", "<=", ">", ">="])
            return f"({self._type(self._number, depth)} {signs} {self._type(self._number, depth)})"
        if kind == 4:
            return f"({self._text(depth - 1)} {self._pick(['in', 'not in'])} {self._pick(['s', 'w', 'd'])})"
        if kind == 5:
            return f"(not {self._truth(depth - 1)})"
        return f"({self._truth(depth - 1)} {self._pick(['and', 'or'])} {self._truth(depth - 1)})"

    def _container(self, depth: int) -> str:
        items = [self.expression(depth - 1) for _ in range(self._random.randrange(3))]
        kind = self._random.randrange(3)
        if kind == 0:
            return "[" + ", ".join(items) + "]"
        if kind == 1:
            return "(" + "".join(item + ", " for item in items) + ")"
        return "{" + ", ".join(f"{self._pick(_STRINGS)}: {item}" for item in items) + "}"

    def _arguments(self, depth: int) -> str:
        arguments = [self.expression(depth - 1) for _ in range(self._random.randrange(2))]
        if self._random.random() < 0.1:
            arguments.append(f"{self._pick(['x', 'y', 'q'])}={self.expression(depth - 1)}")
        if self._random.random() < 0.05:
            arguments.append(self._pick(["*l", "**d", "*e"]))
        return ", ".join(arguments)

    # Statements

    def _body(self, depth: int) -> str:
        return "".join(self._statement(depth) for _ in range(self._random.randrange(1, 4)))

    def _tag(self, text: str) -> str:
        return "{%" + self._pick(["", "", "-"]) + f" {text} " + self._pick(["", "", "-"]) + "%}"

    def _statement(self, depth: int) -> str:
        self._statements += 1
        kind = self._random.randrange(14) if depth > 0 and self._statements < 30 else 0
        if kind < 3:
            return (
                str(self._pick(_DATA))
                + "{{ "
                + self.expression(self._random.randrange(1, 4))
                + " }}"
                + str(self._pick(_DATA))
            )
        if kind == 3:
            return self._conditional(depth)
        if kind in (4, 5):
            return self._loop(depth)
        if kind in (6, 7):
            return self._tag(f"set {self._pick(['x', 'y', 'a', 'n', 's'])} = {self.expression(2)}")
        if kind == 8:
            name = self._pick(["x", "y", "x | upper", "x | trim | length"])
            return self._tag(f"set {name}") + self._body(depth - 1) + self._tag("endset")
        if kind == 9:
            return self._macro(depth)
        if kind == 10:
            values = f"{self._pick(['x', 'n'])} = {self.expression(2)}"
            return self._tag(f"with {values}") + self._body(depth - 1) + self._tag("endwith")
        if kind == 11:
            chosen = self._pick(["upper", "replace('o', s)", "trim", "title", "indent(2)"])
            return self._tag(f"filter {chosen}") + self._body(depth - 1) + self._tag("endfilter")
        if kind == 12:
            if not self._macros:
                return self._tag("generation") + self._body(depth - 1) + self._tag("endgeneration")
            call = f"{self._pick(['call', 'call(x)'])} {self._pick(self._macros)}({self._arguments(2)})"
            return self._tag(call) + self._body(depth - 1) + self._tag("endcall")
        return (
            self._tag("set ns = namespace(c=0)")
            + self._tag("for i in l")
            + self._tag(f"set ns.c = ns.c + {self._pick(['i', '1', 'n', '2.5'])}")
            + self._body(depth - 1)
            + self._tag("endfor")
            + "{{ ns.c }}"
        )

    def _conditional(self, depth: int) -> str:
        text = self._tag(f"if {self._truth(2)}") + self._body(depth - 1)
        if self._random.random() < 0.4:
            text += self._tag(f"elif {self._truth(2)}") + self._body(depth - 1)
        if self._random.random() < 0.4:
            text += self._tag("else") + self._body(depth - 1)
        return text + self._tag("endif")

    def _loop(self, depth: int) -> str:
        target = self._pick(["i", "i", "m", "x", "x"])
        if self._random.random() < 0.1:
            return (
                self._tag(
                    "for a, b in "
                    + str(self._pick(["d.items()", "d | dictsort", "ll", "[(1, s)]"]))
                )
                + self._body(depth - 1)
                + self._tag("endfor")
            )
        items = self._pick(
            ["l", "w", "messages", "d", "d.items()", "range(3)", "ll", "items", "s", "e"]
        )
        if self._random.random() < 0.3:
            items = self._list(2)
        condition = f" if {self._truth(2)}" if self._random.random() < 0.25 else ""
        recursive = self._random.random() < 0.1
        text = self._tag(f"for {target} in {items}{condition}{' recursive' if recursive else ''}")
        if self._random.random() < 0.5:
            field = self._pick(
                ["index", "last", "first", "length", "revindex", "previtem", "depth", "index0"]
            )
            text += "{{ loop." + field + " }}"
        if recursive:
            text += "{{ loop(x) if loop.depth < 3 and x is defined }}"
        text += self._body(depth - 1)
        if self._random.random() < 0.2:
            text += self._tag(f"if {self._truth(2)}") + self._tag(self._pick(["break", "continue"]))
            text += self._tag("endif") + self._body(depth - 1)
        if self._random.random() < 0.2:
            text += self._tag("else") + self._body(depth - 1)
        return text + self._tag("endfor")

    def _macro(self, depth: int) -> str:
        name = f"f{len(self._macros)}"
        parameters = self._pick(["", "x", "x, y=1", "x=n", "x, y=x"])
        known = self._macros
        self._macros = list(known)  # a macro calls those before it only
        extra = self._pick(["", "{{ varargs }}", "{{ kwargs }}", "{{ caller() if caller }}", ""])
        body = self._body(depth - 1)
        self._macros = [*known, name]
        return self._tag(f"macro {name}({parameters})") + extra + body + self._tag("endmacro")
