"""Statements of the syntax tree as Python closures: ``run(frame) -> signal``.

Those that run a body again are in ``repeating``. A statement says in which line it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

from pyqwen.text.jinja.bodies import BREAK, CONTINUE, write_text
from pyqwen.text.jinja.budget import NODE, Budget, Fault, located
from pyqwen.text.jinja.expressions import Frame, Run
from pyqwen.text.jinja.operators import add
from pyqwen.text.jinja.repeating import RepeatCompiler
from pyqwen.text.jinja.scopes import (
    BUDGET,
    FIRST_SLOT,
    OUTPUT,
    Scope,
    undeclared,
)
from pyqwen.text.jinja.tracked import Text, joined, without_markup
from pyqwen.text.jinja.values import MISSING
from pyqwen.text.jinja.writing import to_text

_OWN_PRICE = 256  # a branch that costs more is paid for when it is taken

_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Extends: "extends",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Block: "block",
    nodes.Scope: "autoescape",
    nodes.ExprStmt: "do",
}


class Compiler(RepeatCompiler):
    """Compiles one template."""

    def template(self, tree: nodes.Template) -> Callable[[Budget, dict[str, Any]], str]:
        """What renders the template with a budget and its variables."""
        if undeclared(tree.body, ("self",), self.effort):
            raise Fault("it uses self, which is not supported")
        self.scope.visit(tree.body)
        enter = self._entrance(self.scope)
        body = self._body(tree.body)
        function, cost = self.function, self.cost

        def render(budget: Budget, variables: dict[str, Any]) -> str:
            budget.spend(cost)
            frame: Frame = [[], None, budget, variables, *[MISSING] * (function.size - FIRST_SLOT)]
            enter(frame)
            body(frame)
            return joined(frame[OUTPUT], budget)

        return render

    # Statements

    def statement(self, node: nodes.Node) -> Run:
        compiler = _COMPILERS.get(type(node))
        if compiler is None:
            name = _REFUSED.get(type(node), type(node).__name__.lower())
            raise Fault(f"it uses {{% {name} %}}, which is not supported", node.lineno)
        self.cost += NODE
        return compiler(self, node)

    def output(self, node: nodes.Output) -> Run:
        parts: list[Run | str] = []
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                self.cost += NODE + len(child.data)
                parts.append(child.data)
            else:
                parts.append(self._writer(child))
        if len(parts) == 1 and isinstance(parts[0], str):
            data = parts[0]
            return lambda f: f[OUTPUT].append(data)

        def run(f: Frame) -> None:
            for part in parts:
                if type(part) is str:
                    f[OUTPUT].append(part)
                else:
                    part(f)  # type: ignore[operator]

        return run

    def _writer(self, node: nodes.Expr) -> Run:
        """What writes one expression to the output."""
        if isinstance(node, nodes.Add):
            return self._sum_writer(node)
        value, line = self.expression(node), node.lineno

        def write(f: Frame) -> None:
            try:
                text = value(f)
                budget = f[BUDGET]
                if type(text) is not str and type(text) is not Text:
                    text = without_markup(to_text(budget, text))
                budget.left -= len(text)
                if budget.left < 0:
                    budget.exhausted()
                f[OUTPUT].append(text)
            except Exception as error:
                raise located(error, line) from error

        return write

    def _sum_writer(self, node: nodes.Add) -> Run:
        """Texts that are added up only to be written need not be joined first."""
        self.cost += NODE
        runs, line = self.sum_parts(node), node.lineno

        def write(f: Frame) -> None:
            try:
                values = [run(f) for run in runs]
                size = 0
                for value in values:
                    if type(value) is not str and type(value) is not Text:
                        break
                    size += len(value)
                else:
                    f[BUDGET].spend(size)
                    f[OUTPUT].extend(values)
                    return
                total = values[0]
                for value in values[1:]:
                    total = add(f[BUDGET], total, value)
                write_text(f, to_text(f[BUDGET], total))
            except Exception as error:
                raise located(error, line) from error

        return write

    def conditional(self, node: nodes.If) -> Run:
        self.soft += 1
        branches = []
        for branch in (node, *node.elif_):
            test = self.expression(branch.test)
            branches.append((test, self._branch(branch.body), branch.lineno))
        otherwise = self._branch(node.else_) if node.else_ else None
        self.soft -= 1

        def run(f: Frame) -> Any:
            for test, body, line in branches:
                try:
                    taken = test(f)
                    taken = bool(taken)
                except Exception as error:
                    raise located(error, line) from error
                if taken:
                    return body(f)
            return otherwise(f) if otherwise is not None else None

        return run

    def _branch(self, statements: Sequence[nodes.Node]) -> Run:
        body, cost = self._priced(lambda: self._body(statements))
        if cost <= _OWN_PRICE:
            self.cost += cost
            return body

        def run(f: Frame) -> Any:
            f[BUDGET].spend(cost)
            return body(f)

        return run

    # Assignments

    def assignment(self, node: nodes.Assign) -> Run:
        value, store, line = self.expression(node.node), self._store(node.target), node.lineno

        def run(f: Frame) -> None:
            try:
                store(f, value(f))
            except Exception as error:
                raise located(error, line) from error

        return run

    def block_assignment(self, node: nodes.AssignBlock) -> Run:
        scope = self._inner()
        scope.visit(node.body)
        value = self._captured(self._in_scope(scope, node.body))
        store, leave, line = self._store(node.target), self._exit(scope), node.lineno
        if node.filter is not None:
            value = self._chain(node.filter, value, scope)

        def run(f: Frame) -> None:
            try:
                store(f, value(f))
            except Exception as error:
                raise located(error, line) from error
            leave(f)

        return run

    def _chain(self, node: nodes.Filter, body: Run, scope: Scope) -> Run:
        """Filters on what a block writes: the innermost one has no operand of its own."""
        outer, self.scope = self.scope, scope
        try:
            if node.node is None:
                return self.filter(node, body)
            assert isinstance(node.node, nodes.Filter)
            return self.filter(node, self._chain(node.node, body, scope))
        finally:
            self.scope = outer

    def filter_block(self, node: nodes.FilterBlock) -> Run:
        scope = self._inner()
        scope.visit(node.body)
        scope.load_all(node.filter)
        value = self._chain(node.filter, self._captured(self._in_scope(scope, node.body)), scope)
        leave, line = self._exit(scope), node.lineno

        def run(f: Frame) -> None:
            try:
                write_text(f, value(f))
            except Exception as error:
                raise located(error, line) from error
            leave(f)

        return run

    def with_block(self, node: nodes.With) -> Run:
        scope = self._inner()
        for target in node.targets:
            scope.bind(target, scope.declare_parameter)
        scope.visit(node.body)
        values = [self.expression(value) for value in node.values]
        outer, self.scope = self.scope, scope
        stores = [self._store(target) for target in node.targets]
        self.scope = outer
        body, leave, line = self._in_scope(scope, node.body), self._exit(scope), node.lineno

        def run(f: Frame) -> Any:
            try:
                for store, value in zip(stores, values, strict=True):
                    store(f, value(f))
            except Exception as error:
                raise located(error, line) from error
            signal = body(f)
            leave(f)
            return signal

        return run

    def stop(self, node: nodes.Break) -> Run:
        return lambda f: BREAK

    def skip(self, node: nodes.Continue) -> Run:
        return lambda f: CONTINUE


_COMPILERS: dict[type[nodes.Node], Callable[[Compiler, Any], Run]] = {
    nodes.Output: Compiler.output,
    nodes.If: Compiler.conditional,
    nodes.For: Compiler.loop,
    nodes.Assign: Compiler.assignment,
    nodes.AssignBlock: Compiler.block_assignment,
    nodes.FilterBlock: Compiler.filter_block,
    nodes.With: Compiler.with_block,
    nodes.Macro: Compiler.macro,
    nodes.CallBlock: Compiler.call_block,
    nodes.Break: Compiler.stop,
    nodes.Continue: Compiler.skip,
}
