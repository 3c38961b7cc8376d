"""Which variable a name means: Jinja's rules, worked out before the template runs.

A scope is a loop's body, a macro, a block: names that are set in it are its own. Entering a scope
gives its variables their first values (``loads``): what the name means outside, what the caller
passed, or nothing. The rules are those of Jinja's identifier tracking (``jinja2.idtracking``),
whose oddities templates rely on. Variables live in the slots of a frame, one frame for each run of a
function: the template itself, a macro, a recursive loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from jinja2 import nodes

from pyqwen.text.jinja.budget import Fault

OUTPUT, OUTER, BUDGET, VARIABLES, FIRST_SLOT = range(5)
"""The slots of every frame that are not variables."""

_MAX_EFFORT = 400_000  # names copied and nodes looked at

Load = tuple[str, Any]
"""How a slot gets its first value: ``("parameter" | "undefined", None)``, ``("resolve", name)`` or
``("alias", place)``."""


class Effort:
    """What working out the names of one template may take; Jinja's rules are not linear."""

    def __init__(self) -> None:
        self._left = _MAX_EFFORT

    def spend(self, steps: int, line: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise Fault("it has too many variables and nested blocks", line)


class FunctionScope:
    """The frame layout of one function."""

    def __init__(self, outer: FunctionScope | None = None) -> None:
        self.outer = outer
        self.size = FIRST_SLOT

    def new_slot(self) -> int:
        self.size += 1
        return self.size - 1


class Place:
    """A variable: its function and its slot there."""

    __slots__ = ("function", "name", "slot")

    def __init__(self, function: FunctionScope, name: str) -> None:
        self.function = function
        self.name = name
        self.slot = function.new_slot()


class Scope:
    """The names of one scope."""

    def __init__(
        self, function: FunctionScope, effort: Effort, parent: Scope | None = None
    ) -> None:
        self.function = function
        self.effort = effort
        self.parent = parent
        self.names: dict[str, Place] = {}
        self.loads: dict[Place, Load] = {}
        self.stores: set[str] = set()
        self._places: dict[str, Place] = {}

    def find(self, name: str) -> Place | None:
        scope: Scope | None = self
        while scope is not None:
            place = scope.names.get(name)
            if place is not None:
                return place
            scope = scope.parent
        return None

    def place_of(self, name: str) -> Place:
        place = self.find(name)
        if place is None:  # in the filter of a set block, which Jinja's rules forget
            raise Fault(f"it uses the variable {name!r} where it cannot be found")
        return place

    def is_parameter(self, place: Place) -> bool:
        scope: Scope | None = self
        while scope is not None:
            load = scope.loads.get(place)
            if load is not None:
                return load[0] == "parameter"
            scope = scope.parent
        return False

    def _define(self, name: str, load: Load) -> None:
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = Place(self.function, name)
        self.names[name] = place
        self.loads[place] = load

    # What the statements of a scope do with names

    def declare_parameter(self, name: str) -> None:
        self.stores.add(name)
        self._define(name, ("parameter", None))

    def store(self, name: str) -> None:
        self.stores.add(name)
        if name not in self.names:
            outer = self.parent.find(name) if self.parent else None
            self._define(name, ("alias", outer) if outer else ("undefined", None))

    def load(self, name: str) -> None:
        if self.find(name) is None:
            self._define(name, ("resolve", name))

    def load_all(self, expression: nodes.Node | None) -> None:
        """Load the names of an expression."""
        pending: list[nodes.Node] = [] if expression is None else [expression]
        while pending:
            node = pending.pop()
            if isinstance(node, nodes.Name):
                self.load(node.name)
            else:
                pending.extend(node.iter_child_nodes())

    def bind(self, target: nodes.Node, how: Callable[[str], None]) -> None:
        """Store the names of an assignment's target, or declare them as parameters."""
        if isinstance(target, nodes.Name):
            how(target.name)
        elif isinstance(target, nodes.NSRef):
            self.load(target.name)
        elif isinstance(target, nodes.Tuple):
            for item in target.items:
                self.bind(item, how)
        else:
            raise Fault("it assigns to something that cannot be assigned to", target.lineno)

    def visit(self, statements: Iterable[nodes.Node]) -> None:
        """Go through statements of this scope, in their order, but not into scopes inside it."""
        for node in statements:
            if isinstance(node, nodes.If):
                self._visit_if(node)
            elif isinstance(node, nodes.Macro):
                self.store(node.name)
            elif isinstance(node, nodes.Assign):
                self.load_all(node.node)
                self.bind(node.target, self.store)
            elif isinstance(node, nodes.AssignBlock):
                self.bind(node.target, self.store)
            elif isinstance(node, nodes.For):
                self.load_all(node.iter)
            elif isinstance(node, nodes.CallBlock):
                self.load_all(node.call)
            elif isinstance(node, nodes.FilterBlock):
                self.load_all(node.filter)
            elif isinstance(node, nodes.With):
                for value in node.values:
                    self.load_all(value)
            elif isinstance(node, nodes.Output):
                for part in node.nodes:
                    self.load_all(part)

    def _visit_if(self, node: nodes.If) -> None:
        self.load_all(node.test)
        before = self.names, self.loads, self.stores
        branches = []
        for statements in (node.body, node.elif_, node.else_):
            self.effort.spend(len(before[0]) + 1, node.lineno)
            self.names, self.loads, self.stores = (
                before[0].copy(),
                before[1].copy(),
                before[2].copy(),
            )
            self.visit(statements)
            branches.append((self.names, self.loads, self.stores))
        self.names, self.loads, self.stores = before
        stored = set().union(*(branch[2] for branch in branches)) - self.stores
        for names, loads, stores in branches:
            self.names.update(names)
            self.loads.update(loads)
            self.stores.update(stores)
        for name in stored:
            outer = self.parent.find(name) if self.parent else None
            self.loads[self.names[name]] = ("alias", outer) if outer else ("resolve", name)


def undeclared(statements: Iterable[nodes.Node], names: Iterable[str], effort: Effort) -> set[str]:
    """Which of ``names`` the statements read before they set them, scopes inside included."""
    wanted = set(names)
    found: set[str] = set()
    pending = list(statements)[::-1]
    while pending and wanted:
        node = pending.pop()
        effort.spend(1, node.lineno)
        if isinstance(node, nodes.Name):
            if node.ctx == "load" and node.name in wanted:
                found.add(node.name)
            else:
                wanted.discard(node.name)
        elif not isinstance(node, nodes.Block):
            pending.extend(list(node.iter_child_nodes())[::-1])
    return found
