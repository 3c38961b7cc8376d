"""Expressions of the syntax tree as Python closures: ``run(frame) -> value``.

Each closure is one node, and its price is counted when it is made (``cost``): a statement that runs
its body again pays for the whole body before. What depends on data is paid for in the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

from pyqwen.text.jinja import checks, filters, operators  # noqa: F401 (they fill the registry)
from pyqwen.text.jinja.access import METHODS, OWN_NAMES, get_attribute, get_item, get_slice
from pyqwen.text.jinja.budget import CALL, ELEMENT, NODE, OBJECT, Budget, Fault
from pyqwen.text.jinja.comparing import contains, equal, less
from pyqwen.text.jinja.parsing import MAX_CHAIN, undouble_braces
from pyqwen.text.jinja.registry import FILTERS, TESTS
from pyqwen.text.jinja.scopes import BUDGET, OUTER, Effort, FunctionScope, Place, Scope
from pyqwen.text.jinja.tracked import Text, joined, without_markup
from pyqwen.text.jinja.values import (
    MISSING,
    Function,
    Joiner,
    Loop,
    Macro,
    Undefined,
    iterate,
    keyed,
    kind_of,
)
from pyqwen.text.jinja.writing import to_text

Frame = list[Any]
Run = Callable[[Frame], Any]

_OPERATORS: dict[type[nodes.Expr], operators.Binary] = {
    nodes.Add: operators.add,
    nodes.Sub: operators.subtract,
    nodes.Mul: operators.multiply,
    nodes.Div: operators.divide,
    nodes.FloorDiv: operators.floor_divide,
    nodes.Mod: operators.modulo,
    nodes.Pow: operators.power,
}
_ORDERS = {"lt": "<", "lteq": "<=", "gt": ">", "gteq": ">="}


def invoke(budget: Budget, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """``function(*args, **kwargs)``."""
    if isinstance(function, Function | Macro | Loop | Joiner):
        return function.call(budget, args, kwargs)
    if isinstance(function, Undefined):
        function.fail()
    raise TypeError(f"{kind_of(function)!r} object is not callable")


class ExpressionCompiler:
    """Makes the closures of one template."""

    def __init__(self) -> None:
        self.cost = 0  # of what was compiled since somebody set it to 0
        self.effort = Effort()
        self.function = FunctionScope()
        self.scope = Scope(self.function, self.effort)
        self.repairs: list[str] = []
        self.reads: set[str] = set()  # names that are looked up among the variables
        self.soft = 0  # inside an if: an unknown filter fails only when it is reached
        self._depth = 0

    def expression(self, node: nodes.Node | None) -> Run:
        """The closure of one expression."""
        assert node is not None
        compiler = _COMPILERS.get(type(node))
        if compiler is None:
            name = type(node).__name__
            raise Fault(f"it uses the expression {name}, which is not supported", node.lineno)
        self.cost += NODE
        self._depth += 1
        if self._depth > MAX_CHAIN:
            raise Fault(f"it has an expression of more than {MAX_CHAIN} levels", node.lineno)
        try:
            return compiler(self, node)
        finally:
            self._depth -= 1

    # Names

    def reader(self, place: Place) -> tuple[int, int]:
        """How many functions outwards a variable is, and its slot there."""
        hops = 0
        function: FunctionScope | None = self.function
        while function is not place.function:
            assert function is not None
            function = function.outer
            hops += 1
        return hops, place.slot

    def raw_name(self, place: Place) -> Run:
        """The value of a variable, ``MISSING`` included."""
        hops, slot = self.reader(place)
        if hops == 0:
            return lambda f: f[slot]
        if hops == 1:
            return lambda f: f[OUTER][slot]

        def outer(f: Frame) -> Any:
            for _ in range(hops):
                f = f[OUTER]
            return f[slot]

        return outer

    def name(self, node: nodes.Name) -> Run:
        place = self.scope.place_of(node.name)
        name = node.name
        hops, slot = self.reader(place)
        if hops == 0:

            def local(f: Frame) -> Any:
                value = f[slot]
                return Undefined(name) if value is MISSING else value

            return local
        read = self.raw_name(place)

        def outer(f: Frame) -> Any:
            value = read(f)
            return Undefined(name) if value is MISSING else value

        return outer

    # Literals

    def constant(self, node: nodes.Const) -> Run:
        value = node.value
        if isinstance(value, str):
            value = undouble_braces(value)
            if value != node.value:
                self.repairs.append(f"line {node.lineno}: braces of a JSON example were doubled")
        elif isinstance(value, int) and abs(value) >= 2**64:
            raise Fault("it has a number of more than 64 bits", node.lineno)
        return lambda f: value

    def template_data(self, node: nodes.TemplateData) -> Run:
        value = node.data
        return lambda f: value

    def sequence(self, node: nodes.List | nodes.Tuple) -> Run:
        items = [self.expression(item) for item in node.items]
        make: Callable[[Any], Any] = list if isinstance(node, nodes.List) else tuple
        self.cost += OBJECT + ELEMENT * len(items)
        return lambda f: make([item(f) for item in items])

    def dictionary(self, node: nodes.Dict) -> Run:
        pairs = [(self.expression(pair.key), self.expression(pair.value)) for pair in node.items]
        self.cost += 2 * OBJECT
        return lambda f: keyed(f[BUDGET], [(key(f), value(f)) for key, value in pairs])

    # Operators

    def _flat(self, node: nodes.BinExpr) -> list[nodes.Expr]:
        """The operands of ``a + b + c``."""
        kind = type(node)
        operands = [node.right]
        left = node.left
        while type(left) is kind:
            assert isinstance(left, nodes.BinExpr)
            operands.append(left.right)
            left = left.left
        return [left, *operands[::-1]]

    def sum_parts(self, node: nodes.Add) -> list[Run]:
        """The operands of a sum."""
        return [self.expression(operand) for operand in self._flat(node)]

    def addition(self, node: nodes.Add) -> Run:
        runs = self.sum_parts(node)
        add = operators.add

        def run(f: Frame) -> Any:
            values = [run(f) for run in runs]
            for value in values:
                if type(value) is not str and type(value) is not Text:
                    break
            else:
                return joined(values, f[BUDGET])
            total = values[0]
            for value in values[1:]:
                total = add(f[BUDGET], total, value)
            return total

        return run

    def arithmetic(self, node: nodes.BinExpr) -> Run:
        compute = _OPERATORS[type(node)]
        left, right = self.expression(node.left), self.expression(node.right)
        return lambda f: compute(f[BUDGET], left(f), right(f))

    def either(self, node: nodes.Or) -> Run:
        *firsts, last = [self.expression(operand) for operand in self._flat(node)]

        def run(f: Frame) -> Any:
            for operand in firsts:
                value = operand(f)
                if value:
                    return value
            return last(f)

        return run

    def both(self, node: nodes.And) -> Run:
        *firsts, last = [self.expression(operand) for operand in self._flat(node)]

        def run(f: Frame) -> Any:
            for operand in firsts:
                value = operand(f)
                if not value:
                    return value
            return last(f)

        return run

    def negation(self, node: nodes.Not) -> Run:
        operand = self.expression(node.node)
        return lambda f: not operand(f)

    def sign(self, node: nodes.Neg | nodes.Pos) -> Run:
        operand = self.expression(node.node)
        compute = operators.negative if isinstance(node, nodes.Neg) else operators.positive
        return lambda f: compute(operand(f))

    def concatenation(self, node: nodes.Concat) -> Run:
        operands = [self.expression(operand) for operand in node.nodes]
        self.cost += OBJECT

        def run(f: Frame) -> str:
            budget = f[BUDGET]
            texts = [without_markup(to_text(budget, operand(f))) for operand in operands]
            return joined(texts, budget)

        return run

    def comparison(self, node: nodes.Compare) -> Run:
        first = self.expression(node.expr)
        if len(node.ops) == 1:
            return self._single_comparison(first, node.ops[0])
        rest = [(self._comparer(op.op, op.lineno), self.expression(op.expr)) for op in node.ops]

        def run(f: Frame) -> Any:
            left = first(f)
            result: Any = True
            for compare, operand in rest:
                right = operand(f)
                result = compare(f[BUDGET], left, right)
                if not result:
                    return result
                left = right
            return result

        return run

    def _single_comparison(self, first: Run, op: nodes.Operand) -> Run:
        second = self.expression(op.expr)
        if op.op in ("eq", "ne") and isinstance(op.expr, nodes.Const):
            constant = second([])
            if constant is None or isinstance(constant, str | bool | int | float):
                self.cost += len(constant) >> 3 if isinstance(constant, str) else 0
                if op.op == "eq":  # with a constant no comparison takes long
                    return lambda f: first(f) == constant
                return lambda f: first(f) != constant
        compare = self._comparer(op.op, op.lineno)
        return lambda f: compare(f[BUDGET], first(f), second(f))

    def _comparer(self, name: str, line: int) -> Callable[[Budget, Any, Any], Any]:
        if name == "eq":
            return equal
        if name == "ne":
            return lambda budget, left, right: not equal(budget, left, right)
        if name == "in":
            return lambda budget, left, right: contains(budget, right, left)
        if name == "notin":
            return lambda budget, left, right: not contains(budget, right, left)
        sign = _ORDERS.get(name)
        if sign is None:
            raise Fault(f"it compares by {name!r}, which is not supported", line)
        return lambda budget, left, right: less(budget, left, right, sign)

    def condition(self, node: nodes.CondExpr) -> Run:
        self.soft += 1
        test, first = self.expression(node.test), self.expression(node.expr1)
        line = node.lineno
        hint = f"the inline if-expression on line {line} evaluated to false and has no else"
        second: Run = lambda f: Undefined(hint=hint)  # noqa: E731
        if node.expr2 is not None:
            second = self.expression(node.expr2)
        self.soft -= 1
        return lambda f: first(f) if test(f) else second(f)

    # Attributes and elements

    def attribute(self, node: nodes.Getattr) -> Run:
        owner = self.expression(node.node)
        name = node.attr
        self.cost += OBJECT
        if name in OWN_NAMES[dict]:
            return lambda f: get_attribute(f[BUDGET], owner(f), name)

        def run(f: Frame) -> Any:
            value = owner(f)
            if type(value) is dict:
                found = value.get(name, MISSING)
                return Undefined(name, value) if found is MISSING else found
            return get_attribute(f[BUDGET], value, name)

        return run

    def element(self, node: nodes.Getitem) -> Run:
        owner = self.expression(node.node)
        self.cost += OBJECT
        if isinstance(node.arg, nodes.Slice):
            parts = (node.arg.start, node.arg.stop, node.arg.step)
            nothing: Run = lambda f: None  # noqa: E731
            start, stop, step = (self.expression(part) if part else nothing for part in parts)
            return lambda f: get_slice(f[BUDGET], owner(f), start(f), stop(f), step(f))
        key = self.expression(node.arg)
        return lambda f: get_item(f[BUDGET], owner(f), key(f))

    # Calls, filters, tests

    def arguments(self, node: nodes.Call | nodes.Filter | nodes.Test) -> Callable[[Frame], Any]:
        """What makes ``(args, kwargs)``, freshly for each call."""
        positional = [self.expression(arg) for arg in node.args]
        named = [(str(pair.key), self.expression(pair.value)) for pair in node.kwargs]
        self.cost += ELEMENT * len(positional) + OBJECT * len(named)
        if node.dyn_args is None and node.dyn_kwargs is None:
            if not named:
                return lambda f: ([arg(f) for arg in positional], {})
            return lambda f: (
                [arg(f) for arg in positional],
                {key: value(f) for key, value in named},
            )
        more = self.expression(node.dyn_args) if node.dyn_args else lambda f: ()
        more_named = self.expression(node.dyn_kwargs) if node.dyn_kwargs else lambda f: {}

        def run(f: Frame) -> tuple[list[Any], dict[str, Any]]:
            args = [arg(f) for arg in positional]
            kwargs = {key: value(f) for key, value in named}
            items, mapping = iterate(f[BUDGET], more(f)), more_named(f)
            if not isinstance(mapping, dict):
                raise TypeError("argument after ** must be a mapping")
            f[BUDGET].spend(ELEMENT * len(items) + OBJECT * len(mapping))
            args.extend(items)
            for key, value in mapping.items():
                if not isinstance(key, str) or key in kwargs:
                    raise TypeError(f"a keyword argument is given twice or is no text: {key!r}")
                kwargs[str(key)] = value
            return args, kwargs

        return run

    def call(self, node: nodes.Call, caller: Run | None = None) -> Run:
        self.cost += CALL
        arguments = self.arguments(node)
        if caller is not None:
            plain = arguments

            def arguments(f: Frame) -> Any:
                args, kwargs = plain(f)
                if "caller" in kwargs:
                    raise TypeError("a call block cannot pass another caller")
                return args, {**kwargs, "caller": caller(f)}

        if isinstance(node.node, nodes.Getattr):
            return self._method_call(node.node, arguments)
        function = self.expression(node.node)

        def run(f: Frame) -> Any:
            target = function(f)
            args, kwargs = arguments(f)
            return invoke(f[BUDGET], target, args, kwargs)

        return run

    def _method_call(self, node: nodes.Getattr, arguments: Callable[[Frame], Any]) -> Run:
        owner = self.expression(node.node)
        name = node.attr
        methods = {kind: table[name] for kind, table in METHODS.items() if name in table}

        def run(f: Frame) -> Any:
            value = owner(f)
            method = methods.get(type(value))
            if method is None:
                target = get_attribute(f[BUDGET], value, name)
                args, kwargs = arguments(f)
                return invoke(f[BUDGET], target, args, kwargs)
            args, kwargs = arguments(f)
            return method(f[BUDGET], value, *args, **kwargs)

        return run

    def filter(self, node: nodes.Filter, body: Run | None = None) -> Run:
        self.cost += CALL
        value = body or self.expression(node.node)
        filter_run = FILTERS.get(node.name)
        if filter_run is None:
            filter_run = self._unknown("filter", node.name, node.lineno)
        if not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs):
            return lambda f: filter_run(f[BUDGET], value(f))
        arguments = self.arguments(node)

        def run(f: Frame) -> Any:
            operand = value(f)
            args, kwargs = arguments(f)
            return filter_run(f[BUDGET], operand, *args, **kwargs)

        return run

    def test(self, node: nodes.Test) -> Run:
        self.cost += CALL
        value = self.expression(node.node)
        test = TESTS.get(node.name)
        if test is None:
            test = self._unknown("test", node.name, node.lineno)
        if not (node.args or node.kwargs or node.dyn_args or node.dyn_kwargs):
            if node.name == "defined":
                return lambda f: type(value(f)) is not Undefined
            return lambda f: test(f[BUDGET], value(f))
        arguments = self.arguments(node)

        def run(f: Frame) -> Any:
            operand = value(f)
            args, kwargs = arguments(f)
            return test(f[BUDGET], operand, *args, **kwargs)

        return run

    def _unknown(self, kind: str, name: str, line: int) -> Callable[..., Any]:
        if not self.soft:
            raise Fault(f"no {kind} named {name!r}", line)

        def run(budget: Budget, *args: Any, **kwargs: Any) -> Any:
            raise Fault(f"no {kind} named {name!r}")

        return run


_COMPILERS: dict[type[nodes.Node], Callable[[ExpressionCompiler, Any], Run]] = {
    nodes.Name: ExpressionCompiler.name,
    nodes.Const: ExpressionCompiler.constant,
    nodes.TemplateData: ExpressionCompiler.template_data,
    nodes.List: ExpressionCompiler.sequence,
    nodes.Tuple: ExpressionCompiler.sequence,
    nodes.Dict: ExpressionCompiler.dictionary,
    nodes.Add: ExpressionCompiler.addition,
    nodes.Or: ExpressionCompiler.either,
    nodes.And: ExpressionCompiler.both,
    nodes.Not: ExpressionCompiler.negation,
    nodes.Neg: ExpressionCompiler.sign,
    nodes.Pos: ExpressionCompiler.sign,
    nodes.Concat: ExpressionCompiler.concatenation,
    nodes.Compare: ExpressionCompiler.comparison,
    nodes.CondExpr: ExpressionCompiler.condition,
    nodes.Getattr: ExpressionCompiler.attribute,
    nodes.Getitem: ExpressionCompiler.element,
    nodes.Call: ExpressionCompiler.call,
    nodes.Filter: ExpressionCompiler.filter,
    nodes.Test: ExpressionCompiler.test,
}
_COMPILERS |= {kind: ExpressionCompiler.arithmetic for kind in _OPERATORS if kind is not nodes.Add}
