"""Filters on lists and other things with items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyqwen.text.jinja import methods
from pyqwen.text.jinja.access import get_item
from pyqwen.text.jinja.budget import CALL, ELEMENT, OBJECT, Budget, Fault
from pyqwen.text.jinja.comparing import equal, less, ordered
from pyqwen.text.jinja.registry import call_filter, call_test
from pyqwen.text.jinja.tracked import Markup, Text, cut, joined, user_text, without_markup
from pyqwen.text.jinja.values import (
    MISSING,
    Lazy,
    Undefined,
    bounded,
    checked_key,
    iterate,
    kind_of,
    listed,
)
from pyqwen.text.jinja.writing import to_text

_Getter = Callable[[Any], Any]


def _paid_items(budget: Budget, value: Any) -> Sequence[Any]:
    items = iterate(budget, value)
    budget.spend(CALL + OBJECT * len(items))
    return items


# Attributes and keys


def _getter(
    budget: Budget, attribute: Any, case_sensitive: Any = True, default: Any = None
) -> _Getter:
    """What finds the attribute ``a.b.0`` of an item; the item itself for None."""
    if attribute is None:
        parts: list[Any] = []
    elif isinstance(attribute, str):
        if len(attribute) > 1000:
            raise Fault("it uses a path of more than 1000 characters")
        parts = [int(x) if x.isdigit() else x for x in str(attribute).split(".")]
    else:
        parts = [attribute]

    def get(item: Any) -> Any:
        for part in parts:
            budget.spend(OBJECT)
            item = get_item(budget, item, part)
            if default is not None and isinstance(item, Undefined):
                item = default
        return item if case_sensitive else _lowered(budget, item)

    return get


def _lowered(budget: Budget, value: Any) -> Any:
    return methods.lower(budget, without_markup(value)) if isinstance(value, str) else value


def _sort(
    budget: Budget,
    value: Any,
    reverse: Any = False,
    case_sensitive: Any = False,
    attribute: Any = None,
) -> list[Any]:
    items = _paid_items(budget, value)
    if isinstance(attribute, str) and "," in attribute:
        getters = [_getter(budget, part, case_sensitive) for part in attribute.split(",")]
        keys: list[Any] = [tuple(get(item) for get in getters) for item in items]
        return ordered(budget, items, keys, bool(reverse), False)
    get = _getter(budget, attribute, case_sensitive)
    return ordered(budget, items, [get(item) for item in items], bool(reverse), True)


def _dictsort(
    budget: Budget, value: Any, case_sensitive: Any = False, by: Any = "key", reverse: Any = False
) -> list[Any]:
    if by not in ("key", "value"):
        raise Fault('dictsort: sort by either "key" or "value"')
    pairs = _pairs(budget, value)
    place = 0 if by == "key" else 1
    keys = [pair[place] if case_sensitive else _lowered(budget, pair[place]) for pair in pairs]
    return ordered(budget, pairs, keys, bool(reverse), False)


def _pairs(budget: Budget, value: Any) -> list[Any]:
    if not isinstance(value, dict):
        if isinstance(value, Undefined):
            value.fail()
        raise TypeError(f"a mapping is required, not {kind_of(value)!r}")
    budget.spend(CALL + 3 * OBJECT * len(value))
    return list(value.items())


def _items(budget: Budget, value: Any) -> Lazy:
    return Lazy(() if isinstance(value, Undefined) else _pairs(budget, value))


def _unique(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Lazy:
    get = _getter(budget, attribute, case_sensitive)
    seen = set()
    kept = []
    for item in _paid_items(budget, value):
        key = checked_key(get(item))
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return Lazy(kept)


def _groupby(
    budget: Budget, value: Any, attribute: Any, default: Any = None, case_sensitive: Any = False
) -> list[Any]:
    items = _paid_items(budget, value)
    get = _getter(budget, attribute, case_sensitive, default)
    keys = [get(item) for item in items]
    places = ordered(budget, range(len(items)), keys, False, False)
    groups: list[tuple[Any, list[Any]]] = []
    last: Any = MISSING
    for i in places:
        budget.spend(3 * OBJECT)
        if last is MISSING or not equal(budget, last, keys[i]):
            last = keys[i]
            shown = _getter(budget, attribute, True, default)(items[i])
            groups.append((shown, []))
        groups[-1][1].append(items[i])
    return groups


def _extreme(largest: bool) -> Callable[..., Any]:
    def run(budget: Budget, value: Any, case_sensitive: Any = False, attribute: Any = None) -> Any:
        items = _paid_items(budget, value)
        if not len(items):
            return Undefined(hint="No aggregated item, sequence was empty.")
        get = _getter(budget, attribute, case_sensitive)
        best, best_key = items[0], get(items[0])
        for item in items[1:]:
            key = get(item)
            if less(budget, best_key, key) if largest else less(budget, key, best_key):
                best, best_key = item, key
        return best

    return run


def _sum(budget: Budget, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    get = _getter(budget, attribute)
    total = start
    for item in (start, *_paid_items(budget, value)):
        number = item if item is start else get(item)
        if not isinstance(number, bool | int | float):
            if isinstance(number, Undefined):
                number.fail()
            raise TypeError("sum: only numbers can be summed up")
        if item is not start:
            total = bounded(total + bounded(number))
    return total


# Picking and rearranging


def _first(budget: Budget, value: Any) -> Any:
    if isinstance(value, Lazy):
        item = value.take()
        return Undefined(hint="No first item, sequence was empty.") if item is MISSING else item
    if isinstance(value, str):
        items: Sequence[Any] = cut(value, 0, min(1, len(value)), budget)
        return items if items else Undefined(hint="No first item, sequence was empty.")
    items = iterate(budget, value)
    return items[0] if len(items) else Undefined(hint="No first item, sequence was empty.")


def _last(budget: Budget, value: Any) -> Any:
    if isinstance(value, Lazy):
        raise TypeError("'generator' object is not reversible")
    if isinstance(value, str):
        return cut(value, len(value) - 1, len(value), budget) if value else _no_last()
    items = iterate(budget, value)
    return items[-1] if len(items) else _no_last()


def _no_last() -> Undefined:
    return Undefined(hint="No last item, sequence was empty.")


def _reverse(budget: Budget, value: Any) -> Any:
    if isinstance(value, str):
        budget.spend(2 * len(value) + CALL)
        if isinstance(value, Markup):
            raise Fault("it reverses a text marked as safe, which is not supported")
        return user_text(value[::-1]) if isinstance(value, Text) else value[::-1]
    items = listed(budget, value)
    items.reverse()
    # Jinja gives an iterator where Python can go backwards, else a list.
    return items if isinstance(value, Lazy) else Lazy(items)


def _list(budget: Budget, value: Any) -> list[Any]:
    return listed(budget, value)


def _join(budget: Budget, value: Any, d: Any = "", attribute: Any = None) -> str:
    separator = without_markup(to_text(budget, d))
    get = _getter(budget, attribute)
    pieces: list[str] = []
    for item in _paid_items(budget, value):
        if pieces:
            pieces.append(separator)
        pieces.append(without_markup(to_text(budget, get(item) if attribute is not None else item)))
    return joined(pieces, budget)


def _batch(budget: Budget, value: Any, linecount: Any, fill_with: Any = None) -> Lazy:
    if not isinstance(linecount, int):
        raise TypeError("batch: the size must be a number")
    items = _paid_items(budget, value)
    if linecount < 1:
        raise Fault("batch: the size must be at least 1")
    rows = [list(items[i : i + linecount]) for i in range(0, len(items), linecount)]
    budget.spend(3 * OBJECT * len(rows))
    if rows and fill_with is not None and len(rows[-1]) < linecount:
        budget.spend(ELEMENT * linecount)
        rows[-1] += [fill_with] * (linecount - len(rows[-1]))
    return Lazy(rows)


def _slice(budget: Budget, value: Any, slices: Any, fill_with: Any = None) -> Lazy:
    if not isinstance(slices, int):
        raise TypeError("slice: the number of slices must be a number")
    items = listed(budget, value)
    budget.spend(3 * OBJECT * max(slices, 0))
    each, extra = divmod(len(items), slices)
    columns = []
    start = 0
    for i in range(slices):
        end = start + each + (1 if i < extra else 0)
        column = items[start:end]
        if fill_with is not None and i >= extra:
            column.append(fill_with)
        columns.append(column)
        start = end
    return Lazy(columns)


# Filters that run filters or tests


def _map(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> Lazy:
    if not value:
        return Lazy(())
    if not args and "attribute" in kwargs:
        attribute, default = kwargs.pop("attribute"), kwargs.pop("default", None)
        if kwargs:
            raise Fault(f"map: unexpected keyword argument {next(iter(kwargs))!r}")
        get = _getter(budget, attribute, default=default)
        return Lazy([get(item) for item in _paid_items(budget, value)])
    if not args:
        raise Fault("map: it needs a filter or an attribute")
    items = _paid_items(budget, value)
    return Lazy([call_filter(budget, args[0], item, args[1:], kwargs) for item in items])


def _selecting(wanted: bool, by_attribute: bool) -> Callable[..., Lazy]:
    def run(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> Lazy:
        if not value:
            return Lazy(())
        get: _Getter = _getter(budget, None)
        if by_attribute:
            if not args:
                raise Fault("it selects by an attribute without naming one")
            get, args = _getter(budget, args[0]), args[1:]
        kept = []
        for item in _paid_items(budget, value):
            tested = get(item)
            if args:
                tested = call_test(budget, args[0], tested, args[1:], kwargs)
            if bool(tested) is wanted:
                kept.append(item)
        return Lazy(kept)

    return run


FILTERS: dict[str, Callable[..., Any]] = {
    "batch": _batch,
    "dictsort": _dictsort,
    "first": _first,
    "groupby": _groupby,
    "items": _items,
    "join": _join,
    "last": _last,
    "list": _list,
    "map": _map,
    "max": _extreme(True),
    "min": _extreme(False),
    "reject": _selecting(False, False),
    "rejectattr": _selecting(False, True),
    "reverse": _reverse,
    "select": _selecting(True, False),
    "selectattr": _selecting(True, True),
    "slice": _slice,
    "sort": _sort,
    "sum": _sum,
    "unique": _unique,
}
