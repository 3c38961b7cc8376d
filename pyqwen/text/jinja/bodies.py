"""Scopes, bodies and targets of assignments: what the statements of a template are made of.

A frame is a list: the output so far, the frame of the function around, the budget, the template's
variables, then the slots that ``scopes`` gave out. A closure for statements returns None, or a
signal that ends the body it is in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jinja2 import nodes

from pyqwen.text.jinja.budget import NODE, OBJECT, Fault
from pyqwen.text.jinja.expressions import ExpressionCompiler, Frame, Run
from pyqwen.text.jinja.scopes import BUDGET, OUTPUT, VARIABLES, Scope
from pyqwen.text.jinja.tracked import joined, without_markup
from pyqwen.text.jinja.values import MISSING, Namespace, iterate, kind_of

BREAK, CONTINUE = 1, 2

Store = Callable[[Frame, Any], None]
_Made = TypeVar("_Made")


class BodyCompiler(ExpressionCompiler, ABC):
    """Compiles what is around and inside statements; ``statements`` adds these."""

    @abstractmethod
    def statement(self, node: nodes.Node) -> Run:
        """The closure of one statement."""

    def _entrance(self, scope: Scope) -> Callable[[Frame], None]:
        """What gives the variables of a scope their first values."""
        steps: list[tuple[int, Run]] = []
        for place, (kind, origin) in scope.loads.items():
            if kind == "resolve":
                self.reads.add(origin)
                steps.append((place.slot, _resolver(origin)))
            elif kind == "alias":
                steps.append((place.slot, self.raw_name(origin)))
            elif kind == "undefined":
                steps.append((place.slot, lambda f: MISSING))
        self.cost += NODE * len(steps)

        def enter(f: Frame) -> None:
            for slot, value in steps:
                f[slot] = value(f)

        return enter

    @staticmethod
    def _exit(scope: Scope) -> Callable[[Frame], None]:
        """What ends a scope: macros that outlive it find its variables unset."""
        slots = [place.slot for place in scope.loads]

        def leave(f: Frame) -> None:
            for slot in slots:
                f[slot] = MISSING

        return leave

    def _inner(self) -> Scope:
        return Scope(self.function, self.effort, self.scope)

    def _in_scope(self, scope: Scope, statements: Sequence[nodes.Node]) -> Run:
        """The body of a scope, which was visited; unknown filters in it fail at once."""
        outer, soft = self.scope, self.soft
        self.scope, self.soft = scope, 0
        try:
            enter = self._entrance(scope)
            body = self._body(statements)
        finally:
            self.scope, self.soft = outer, soft
        if not scope.loads:
            return body

        def run(f: Frame) -> Any:
            enter(f)
            return body(f)

        return run

    def _body(self, statements: Sequence[nodes.Node]) -> Run:
        runs = [self.statement(node) for node in statements]
        if len(runs) == 1:
            return runs[0]

        def run(f: Frame) -> Any:
            for statement in runs:
                signal = statement(f)
                if signal is not None:
                    return signal
            return None

        return run

    def _priced(self, compile_it: Callable[[], _Made]) -> tuple[_Made, int]:
        """What ``compile_it`` makes, and what one run of it costs."""
        before, self.cost = self.cost, 0
        made = compile_it()
        cost, self.cost = self.cost, before
        return made, cost

    def _captured(self, body: Run) -> Run:
        """What ``body`` writes, as a text."""

        def run(f: Frame) -> str:
            outside, f[OUTPUT] = f[OUTPUT], []
            try:
                body(f)
                return joined(f[OUTPUT], f[BUDGET])
            finally:
                f[OUTPUT] = outside

        self.cost += OBJECT
        return run

    # Targets of assignments

    def _store(self, target: nodes.Node) -> Store:
        if isinstance(target, nodes.Name):
            slot = self.scope.place_of(target.name).slot

            def store(f: Frame, value: Any) -> None:
                f[slot] = value

            return store
        if isinstance(target, nodes.NSRef):
            read, attribute = self.raw_name(self.scope.place_of(target.name)), target.attr

            def store_attribute(f: Frame, value: Any) -> None:
                namespace = read(f)
                if type(namespace) is not Namespace:
                    raise Fault("cannot assign attribute on non-namespace object")
                f[BUDGET].spend(OBJECT)
                namespace.values[attribute] = value

            return store_attribute
        assert isinstance(target, nodes.Tuple)
        stores = [self._store(item) for item in target.items]

        def unpack(f: Frame, value: Any) -> None:
            items = iterate(f[BUDGET], value)
            if len(items) != len(stores):
                raise ValueError(f"{len(stores)} values are expected, not {len(items)}")
            for store, item in zip(stores, items, strict=True):
                store(f, item)

        return unpack


def _resolver(name: str) -> Run:
    return lambda f: f[VARIABLES].get(name, MISSING)


def write_text(f: Frame, text: Any) -> None:
    """Write what a block made; Jinja takes nothing but texts there."""
    if not isinstance(text, str):
        raise TypeError(f"a block must make a text, not {kind_of(text)!r}")
    f[BUDGET].spend(len(text))
    f[OUTPUT].append(without_markup(text))
