"""What runs a body again: loops, macros and call blocks. Each run pays for the whole body before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

from pyqwen.text.jinja.bodies import BREAK, BodyCompiler, write_text
from pyqwen.text.jinja.budget import CALL, ELEMENT, OBJECT, Budget, Fault, located
from pyqwen.text.jinja.expressions import Frame, Run
from pyqwen.text.jinja.scopes import (
    BUDGET,
    FIRST_SLOT,
    OUTPUT,
    VARIABLES,
    FunctionScope,
    Scope,
    undeclared,
)
from pyqwen.text.jinja.tracked import joined
from pyqwen.text.jinja.values import MISSING, Loop, Macro, Undefined, iterate


class RepeatCompiler(BodyCompiler):
    """Compiles loops and macros."""

    # Loops

    def loop(self, node: nodes.For) -> Run:
        for name in node.find_all(nodes.Name):
            self.effort.spend(1, node.lineno)
            if name.ctx == "store" and name.name == "loop":
                raise Fault("it assigns to loop inside a for loop", name.lineno)
        iterable, line = self.expression(node.iter), node.lineno
        if not node.recursive:
            run_loop = self._loop_body(node)

            def run(f: Frame) -> None:
                try:
                    value = iterable(f)
                except Exception as error:
                    raise located(error, line) from error
                run_loop(f, value, 0, None)

            return run
        outer_scope, outer_function = self.scope, self.function
        self.function = function = FunctionScope(outer_function)
        run_inner, cost = self._priced(lambda: self._loop_body(node))
        self.function = outer_function
        assert self.scope is outer_scope

        def run_recursive(f: Frame) -> None:
            def recurse(budget: Budget, value: Any, depth: int) -> str:
                budget.spend(cost + CALL)
                slots = [MISSING] * (function.size - FIRST_SLOT)
                frame: Frame = [[], f, budget, f[VARIABLES], *slots]
                run_inner(frame, value, depth, recurse)
                return joined(frame[OUTPUT], budget)

            try:
                value = iterable(f)
            except Exception as error:
                raise located(error, line) from error
            f[OUTPUT].append(recurse(f[BUDGET], value, 0))

        return run_recursive

    def _loop_body(self, node: nodes.For) -> Callable[[Frame, Any, int, Any], None]:
        scope = self._inner()
        has_loop = node.recursive or bool(undeclared(node.body, ("loop",), self.effort))
        if has_loop:
            scope.declare_parameter("loop")
        scope.bind(node.target, scope.declare_parameter)
        scope.visit(node.body)
        outer, self.scope = self.scope, scope
        store = self._store(node.target)
        self.scope = outer
        loop_slot = scope.place_of("loop").slot if has_loop else None
        body, cost = self._priced(lambda: self._in_scope(scope, node.body))
        select, select_cost = self._loop_filter(node)
        otherwise = None
        if node.else_:
            else_scope = self._inner()
            else_scope.visit(node.else_)
            otherwise = self._branch_in_scope(else_scope, node.else_)
        leave, line = self._exit(scope), node.lineno
        each = cost + select_cost + OBJECT

        def run(f: Frame, value: Any, depth: int, recurse: Any) -> None:
            budget = f[BUDGET]
            try:
                items = iterate(budget, value)
            except Exception as error:
                raise located(error, line) from error
            if loop_slot is not None:
                if select is not None:
                    budget.spend(len(items) * each)
                    items = [item for item in items if select(f, item)]
                loop = Loop(items, depth, recurse)
                f[loop_slot] = loop
            ended = False  # whether a body came to its end: ``else`` asks that, not for items
            index = 0
            for item in items:
                budget.left -= each
                if budget.left < 0:
                    budget.exhausted()
                if loop_slot is not None:
                    f[loop_slot] = loop
                    loop.index0 = index
                    index += 1
                elif select is not None and not select(f, item):
                    continue
                try:
                    store(f, item)
                except Exception as error:
                    raise located(error, line) from error
                signal = body(f)
                if signal is None:
                    ended = True
                elif signal == BREAK:
                    break
            leave(f)
            if otherwise is not None and not ended:
                otherwise(f)

        return run

    def _branch_in_scope(self, scope: Scope, statements: Sequence[nodes.Node]) -> Run:
        body, cost = self._priced(lambda: self._in_scope(scope, statements))
        self.cost += cost
        return body

    def _loop_filter(self, node: nodes.For) -> tuple[Callable[[Frame, Any], bool] | None, int]:
        """What decides about an item (``for x in y if x.z``), and its price."""
        if node.test is None:
            return None, 0
        scope = self._inner()
        scope.bind(node.target, scope.declare_parameter)
        scope.load_all(node.test)

        def compile_it() -> Callable[[Frame, Any], bool]:
            outer, soft = self.scope, self.soft
            self.scope, self.soft = scope, 0
            enter, store = self._entrance(scope), self._store(node.target)
            test, line = self.expression(node.test), node.lineno
            self.scope, self.soft = outer, soft

            def select(f: Frame, item: Any) -> bool:
                try:
                    enter(f)
                    store(f, item)
                    return bool(test(f))
                except Exception as error:
                    raise located(error, line) from error

            return select

        return self._priced(compile_it)

    # Macros

    def macro(self, node: nodes.Macro) -> Run:
        make = self._macro(node, node.name)
        slot = self.scope.place_of(node.name).slot

        def run(f: Frame) -> None:
            f[slot] = make(f)

        return run

    def call_block(self, node: nodes.CallBlock) -> Run:
        caller = self._macro(node, None)
        call, line = self.call(node.call, caller), node.lineno

        def run(f: Frame) -> None:
            try:
                write_text(f, call(f))
            except Exception as error:
                raise located(error, line) from error

        return run

    def _macro(self, node: nodes.Macro | nodes.CallBlock, name: str | None) -> Run:
        """What makes the ``Macro`` with the variables of a frame around it."""
        names = tuple(arg.name for arg in node.args)
        uses = undeclared(node.body, ("caller", "kwargs", "varargs"), self.effort)
        first_default = len(names) - len(node.defaults)
        if "caller" in uses and "caller" in names[:first_default]:
            raise Fault("the argument caller of a macro needs a default", node.lineno)
        uses -= {special for special in uses if special in names and special != "caller"}
        outer = self.scope, self.function, self.soft
        self.function, self.soft = FunctionScope(self.function), 0
        scope = self.scope = Scope(self.function, self.effort, self.scope)
        extra = [n for n in ("caller", "kwargs", "varargs") if n in uses and n not in names]
        for argument in node.args:
            scope.declare_parameter(argument.name)
        for default in node.defaults:
            scope.load_all(default)
        for special in extra:
            scope.declare_parameter(special)
        scope.visit(node.body)
        slots = [scope.place_of(n).slot for n in (*names, *extra)]
        (enter, defaults, body), cost = self._priced(
            lambda: (
                self._entrance(scope),
                [self.expression(default) for default in node.defaults],
                self._body(node.body),
            )
        )
        function, line = self.function, node.lineno
        self.scope, self.function, self.soft = outer
        self.cost += 2 * OBJECT

        def invoke(budget: Budget, macro: Macro, values: list[Any]) -> str:
            budget.spend(cost + CALL + ELEMENT * function.size)
            empty = [MISSING] * (function.size - FIRST_SLOT)
            frame: Frame = [[], macro.frame, budget, macro.frame[VARIABLES], *empty]
            for slot, value in zip(slots, values, strict=True):
                frame[slot] = value
            try:
                enter(frame)
                for i, argument in enumerate(names):
                    if frame[slots[i]] is MISSING:
                        if i < first_default:
                            hint = f"parameter {argument!r} was not provided"
                            frame[slots[i]] = Undefined(hint=hint)
                        else:
                            frame[slots[i]] = defaults[i - first_default](frame)
            except Exception as error:
                raise located(error, line) from error
            body(frame)
            return joined(frame[OUTPUT], budget)

        used = frozenset(uses)
        return lambda f: Macro(name, names, used, invoke, f)
