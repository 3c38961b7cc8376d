"""The objects that a template sees beside strings, numbers, None, lists, tuples, dicts and ranges.

None of them has an attribute or a method in Python that a template could reach: what a template
gets of an object is what ``access`` lists for its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from pyqwen.text.jinja.budget import ELEMENT, OBJECT, Budget, Fault
from pyqwen.text.jinja.tracked import Text, cut


class Missing:
    """The value of a variable that nobody has set."""


MISSING = Missing()


class Undefined:
    """What a template gets for what is not there: it prints as nothing, and can do little else."""

    __slots__ = ("_hint", "_name", "_owner")

    def __init__(self, name: Any = None, owner: Any = MISSING, hint: str = "") -> None:
        self._name = name
        self._owner = owner
        self._hint = hint

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return type(other) is Undefined

    def __hash__(self) -> int:
        return id(Undefined)

    def fail(self) -> NoReturn:
        """Raise what any use of it but the few allowed ones is."""
        if self._hint:
            raise Fault(self._hint)
        if self._owner is MISSING:
            raise Fault(f"{self._name!r} is undefined")
        kind = "None" if self._owner is None else f"{kind_of(self._owner)} object"
        if isinstance(self._name, str):
            raise Fault(f"{kind!r} has no attribute {self._name[:200]!r}")
        what = repr(self._name) if isinstance(self._name, int | float) else kind_of(self._name)
        raise Fault(f"{kind} has no element {what}")


class Namespace:
    """``namespace()``: the one thing that a template can change."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values


class Lazy:
    """The items that a filter such as ``map`` gives: to be gone through once."""

    __slots__ = ("_items", "_next")

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items
        self._next = 0

    def take_all(self) -> Sequence[Any]:
        items = self._items[self._next :] if self._next else self._items
        self._items, self._next = (), 0
        return items

    def take(self) -> Any:
        """The next item, or ``MISSING``."""
        if self._next >= len(self._items):
            return MISSING
        self._next += 1
        return self._items[self._next - 1]


class View:
    """``keys()``, ``values()`` and ``items()`` of a dict."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: str, items: Sequence[Any]) -> None:
        self.kind = kind
        self.items = items

    def __len__(self) -> int:
        return len(self.items)


class Function:
    """A function of the runtime: ``run(budget, *args, **kwargs)``."""

    __slots__ = ("kind", "name", "owner", "run")

    def __init__(
        self, name: str, run: Callable[..., Any], owner: Any = MISSING, kind: str = "function"
    ) -> None:
        self.name = name
        self.run = run
        self.owner = owner  # for a method, whose it is
        self.kind = kind

    def call(self, budget: Budget, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if self.owner is MISSING:
            return self.run(budget, *args, **kwargs)
        return self.run(budget, self.owner, *args, **kwargs)


class Macro:
    """A macro, or the body of a call block, with the variables around it.

    ``invoke(budget, macro, arguments)`` runs it; arguments that were not given are ``MISSING``.
    """

    __slots__ = ("arguments", "catches_kwargs", "catches_varargs", "frame", "invoke", "name",
                 "uses_caller")  # fmt: skip

    def __init__(
        self,
        name: str | None,
        arguments: tuple[str, ...],
        uses: frozenset[str],
        invoke: Callable[[Budget, Macro, list[Any]], str],
        frame: list[Any],
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.uses_caller = "caller" in uses
        self.catches_kwargs = "kwargs" in uses
        self.catches_varargs = "varargs" in uses
        self.invoke = invoke
        self.frame = frame

    def call(self, budget: Budget, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        budget.spend(OBJECT + ELEMENT * (len(args) + len(kwargs)))
        kwargs = dict(kwargs)
        count = len(self.arguments)
        values = list(args[:count])
        has_caller = "caller" in self.arguments
        if len(values) < count:
            has_caller = "caller" in self.arguments[len(values) :]
            values += [kwargs.pop(name, MISSING) for name in self.arguments[len(values) :]]
        if self.uses_caller and not has_caller:
            caller = kwargs.pop("caller", None)
            values.append(Undefined(hint="No caller defined") if caller is None else caller)
        if self.catches_kwargs:
            values.append(kwargs)
        elif kwargs:
            name = next(iter(kwargs))
            raise TypeError(f"macro {self.name!r} takes no keyword argument {name!r}")
        if self.catches_varargs:
            values.append(tuple(args[count:]))
        elif len(args) > count:
            raise TypeError(f"macro {self.name!r} takes not more than {count} argument(s)")
        budget.enter()
        try:
            return self.invoke(budget, self, values)
        finally:
            budget.leave()


class Loop:
    """``loop`` inside a for loop."""

    __slots__ = ("depth0", "index0", "items", "last_value", "recurse")

    def __init__(
        self,
        items: Sequence[Any],
        depth0: int = 0,
        recurse: Callable[[Budget, Any, int], str] | None = None,
    ) -> None:
        self.items = items
        self.index0 = -1
        self.depth0 = depth0
        self.recurse = recurse
        self.last_value: Any = MISSING  # what ``changed`` was asked last

    def attribute(self, name: str) -> Any:
        """``loop.name``; ``MISSING`` for what a loop does not have."""
        index0, items = self.index0, self.items
        if name == "index0":
            return index0
        if name == "index":
            return index0 + 1
        if name == "first":
            return index0 == 0
        if name == "last":
            return index0 == len(items) - 1
        if name == "length":
            return len(items)
        if name == "revindex":
            return len(items) - index0
        if name == "revindex0":
            return len(items) - index0 - 1
        if name == "previtem":
            return items[index0 - 1] if index0 else Undefined(hint="there is no previous item")
        if name == "nextitem":
            if index0 + 1 < len(items):
                return items[index0 + 1]
            return Undefined(hint="there is no next item")
        if name == "depth":
            return self.depth0 + 1
        if name == "depth0":
            return self.depth0
        return MISSING

    def call(self, budget: Budget, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
        if self.recurse is None:
            raise TypeError("the loop must have the 'recursive' marker to be called")
        if len(args) != 1 or kwargs:
            raise TypeError("a loop is called with one argument")
        budget.enter()
        try:
            return self.recurse(budget, args[0], self.depth0 + 1)
        finally:
            budget.leave()


class Cycler:
    """``cycler('odd', 'even')``."""

    __slots__ = ("items", "position")

    def __init__(self, items: tuple[Any, ...]) -> None:
        if not items:
            raise Fault("cycler() needs at least one item")
        self.items = items
        self.position = 0


class Joiner:
    """``joiner(', ')``: nothing at the first call, then the separator."""

    __slots__ = ("_separator", "_used")

    def __init__(self, separator: Any) -> None:
        self._separator = separator
        self._used = False

    def call(self, budget: Budget, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if args or kwargs:
            raise TypeError("a joiner is called without arguments")
        if self._used:
            return self._separator
        self._used = True
        return ""


_KINDS: dict[type, str] = {
    Text: "str",
    Function: "function",
    Namespace: "Namespace",
    Lazy: "generator",
}


def kind_of(value: Any) -> str:
    """The type of a value, as messages name it."""
    if isinstance(value, str):
        return "str"
    if isinstance(value, View | Function):
        return value.kind
    return _KINDS.get(type(value), type(value).__name__)


def iterate(budget: Budget, value: Any) -> Sequence[Any]:
    """The items of ``value``; the cost of going through them is the caller's."""
    kind = type(value)
    if kind is list or kind is tuple or kind is range:
        return value  # type: ignore[no-any-return]
    if kind is dict:
        budget.spend(OBJECT + ELEMENT * len(value))
        return list(value)
    if isinstance(value, str):
        if kind is str:
            budget.spend(OBJECT * (len(value) + 1))
            return list(value)
        budget.spend(4 * OBJECT * (len(value) + 1))
        return [cut(value, i, i + 1, budget) for i in range(len(value))]
    if kind is Lazy:
        return value.take_all()  # type: ignore[no-any-return]
    if kind is View:
        return value.items  # type: ignore[no-any-return]
    if kind is Undefined:
        return ()
    if kind is Loop:
        raise Fault("it goes through the items of loop itself, which is not supported")
    raise TypeError(f"{kind_of(value)!r} object is not iterable")


def listed(budget: Budget, value: Any) -> list[Any]:
    """The items of ``value`` in a new list."""
    items = iterate(budget, value)
    budget.spend(OBJECT + ELEMENT * len(items) * (4 if type(items) is range else 1))
    return list(items)


def length(value: Any) -> int:
    """``len(value)``."""
    if isinstance(value, str | list | tuple | dict | range | View):
        return len(value)
    if isinstance(value, Undefined):
        return 0
    if isinstance(value, Loop):
        return len(value.items)
    raise TypeError(f"object of type {kind_of(value)!r} has no len()")


def checked_key(key: Any) -> Any:
    """``key``, if it may be a key of a dict.

    Strings are hashed with a secret and numbers are small, so no template can make keys that
    collide; of tuples it could, and a dict of such keys takes quadratic time.
    """
    if key is None or isinstance(key, str | bool | int | float | Undefined):
        return key
    if isinstance(key, tuple):
        raise Fault("it uses a tuple as a key, which is not supported")
    raise TypeError(f"unhashable type: {kind_of(key)!r}")


def bounded(number: Any) -> Any:
    """A number that an operation made, if it is of reasonable size."""
    if isinstance(number, int) and not -(2**63) <= number < 2**64:
        raise Fault("it computes with too large numbers")
    if isinstance(number, complex):
        raise Fault("it computes with complex numbers")
    return number


def keyed(budget: Budget, pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of these pairs."""
    made = {}
    for key, value in pairs:
        budget.spend(2 * OBJECT)
        made[checked_key(key)] = value
    return made
