"""The meter of a template run, and the checks before each operation that could grow its result.

Owns the budget and the lists of what templates may use. The rule: before an operation whose result
may be longer than its operands, its size is computed and charged; after any other, the size of
its result is. So no object can be made that the budget does not cover, and no sum of them.
``template_sandbox`` sees to it that every operation comes through here.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from jinja2 import Undefined, pass_context
from jinja2.filters import do_indent, do_round, make_attrgetter
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference
from jinja2.utils import Cycler, Joiner, Namespace

from pyqwen.errors import TemplateError

METER = "the meter"  # its name among the variables; a template cannot spell it

# One unit is one character of a string made. A step (loop, call, filter, operator) and an element
# of a container cost several, about their time and memory in characters.
_STEP = 16
_ELEMENT = 16
_BASE_UNITS = 16_000_000
_UNITS_PER_INPUT_CHARACTER = 64  # an honest template copies each message some ten times
_SECONDS = 1.0  # of this thread's CPU time, so a busy machine changes nothing
_MAX_INTEGER_BITS = 1024
_MAX_INDENT = 32
_APPENDED = 64  # elements


class Meter:
    """What one run of a template may still spend."""

    def __init__(self, input_size: int, marks: str = "") -> None:
        self.marks = marks
        self._left = _BASE_UNITS + _UNITS_PER_INPUT_CHARACTER * input_size
        self._seconds = _SECONDS * (1 + input_size / 1_000_000)
        self._started = time.thread_time()
        self._next_look = 0.0
        self._depth = 0

    def spend(self, units: int = _STEP) -> None:
        """Charge units; ``TemplateError`` when the budget is used up."""
        self._left -= units
        if self._left < 0:
            raise TemplateError(
                "the chat template exceeds its limits: it loops too often or makes too much text"
            )
        now = time.perf_counter()
        if now >= self._next_look:  # the thread's CPU time is ten times slower to read
            self._next_look = now + 0.01
            if time.thread_time() - self._started > self._seconds:
                raise TemplateError(
                    f"the chat template exceeds its limits: it ran for {self._seconds:.0f} s"
                )

    @contextmanager
    def deeper(self, limit: int) -> Iterator[None]:
        """Count one level of calls."""
        self._depth += 1
        if self._depth > limit:
            raise TemplateError(f"the chat template calls itself more than {limit} levels deep")
        try:
            yield
        finally:
            self._depth -= 1

    def spend_for(self, value: Any) -> None:
        """Charge the text of ``value``, before it is made."""
        self.spend(self.text_size(value))

    def text_size(self, value: Any) -> int:
        """About ``len(str(value))``; walks (and charges) containers, which may share their parts
        and so be exponentially longer than they are large.
        """
        if isinstance(value, str):
            return len(value)
        size = 0
        pending = [value]
        while pending:
            self.spend(_ELEMENT)
            item = pending.pop()
            if isinstance(item, str):
                size += len(item) + 4
            elif isinstance(item, Mapping):
                pending += item.keys()
                pending += item.values()
            elif isinstance(item, list | tuple):
                pending += item
            elif isinstance(item, int):
                size += item.bit_length() // 3 + 8
            else:
                size += 32
        return size


def meter_of(context: Context) -> Meter:
    """The meter of the run that this context belongs to."""
    meter = context.resolve(METER)
    if not isinstance(meter, Meter):
        raise TemplateError("the chat template left its context")
    return meter


# What the rewritten syntax tree calls


@pass_context
def metered_loop(context: Context, iterable: Any) -> Iterator[Any]:
    """The items of ``iterable``, each charged as a step."""
    meter = meter_of(context)
    for item in iterable:
        meter.spend(_STEP + len(item) if isinstance(item, str) else _STEP)
        yield item


@pass_context
def charge_container(context: Context, container: Any) -> Any:
    """Charge a list, tuple or dict just written out, with all it contains."""
    meter_of(context).text_size(container)
    return container


@pass_context
def charge_result(context: Context, result: Any) -> Any:
    """Charge a result that is no longer than what it was made from; meter one that comes lazily."""
    meter = meter_of(context)
    if isinstance(result, str | list | tuple | dict):
        meter.spend(_STEP + meter.text_size(result))
    elif isinstance(result, Iterator):
        return metered_loop(context, result)
    elif isinstance(result, int):
        _check_bits(result.bit_length())
    return result


@pass_context
def concatenate(context: Context, values: list[Any]) -> str:
    """``a ~ b``."""
    meter = meter_of(context)
    for value in values:
        meter.spend_for(value)
    return "".join(str(printable(context, value)) for value in values)


@pass_context
def printable(context: Context, value: Any) -> Any:
    """Every value that is written to the output passes here, literals too."""
    if not isinstance(value, str | int | float | list | tuple | dict | Undefined | None):
        raise TemplateError(f"the chat template prints a {type(value).__name__}")
    meter_of(context).spend_for(value)
    return value


# Operators


def check_operator(meter: Meter, operator: str, left: Any, right: Any) -> None:
    """Charge ``left operator right``, or refuse it."""
    meter.spend()
    if operator == "+":
        meter.spend(_length(left) + _length(right))
        # Appending is charged by length alone, lest honest templates that collect a list pay for
        # all of it each time; but lists that keep doubling would soon refer to endless text.
        if min(_length(left), _length(right)) > _APPENDED * _ELEMENT:
            meter.spend_for([left, right])
    elif operator == "%" and isinstance(left, str):
        check_percent_format(meter, left, right)
    elif operator == "*":
        if isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() + right.bit_length())
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, str | list | tuple) and isinstance(count, int):
                meter.spend(meter.text_size(sequence) * max(count, 0))
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(right, 0))


def check_percent_format(meter: Meter, text: str, values: Any) -> None:
    """Charge ``text % values``; each place may repeat all values."""
    if re.search(r"%[^%a-zA-Z]*(\*|\d{3})", text):
        raise TemplateError("the chat template formats with a width of more than 99")
    meter.spend(len(text) + text.count("%") * (100 + meter.text_size(values)))


def _check_brace_format(meter: Meter, text: str, values: Any) -> None:
    if re.search(r"\{[^{}]*:[^{}]*(\{|\d{3})", text):
        raise TemplateError("the chat template formats with a width of more than 99")
    meter.spend(len(text) + text.count("{") * (100 + meter.text_size(values)))


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return len(value) * _ELEMENT if isinstance(value, list | tuple) else 0


def _check_bits(bits: int) -> None:
    if bits > _MAX_INTEGER_BITS:
        raise TemplateError("the chat template computes with too large numbers")


# Attributes and methods


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_METHODS: dict[type, frozenset[str]] = {
    str: _names(
        """capitalize casefold center count endswith find index isalnum isalpha isascii isdecimal
        isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition
        removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split
        splitlines startswith strip swapcase title upper zfill"""
    ),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
}
_JINJA_OBJECTS = (BlockReference, Cycler, Joiner, LoopContext, Macro, Namespace, TemplateReference)


def is_safe_attribute(obj: Any, attribute: str) -> bool:
    """Whether a template may have ``obj.attribute``: of data only the methods listed, of Jinja's
    own objects what its sandbox allows, of anything else nothing.
    """
    for kind, methods in _METHODS.items():
        if isinstance(obj, kind):
            return attribute in methods
    return isinstance(obj, _JINJA_OBJECTS)


def check_call(
    meter: Meter, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Charge a call; returns the arguments, iterators among them read out."""
    meter.spend()
    if not isinstance(function, Macro) or function.catch_varargs or function.catch_kwargs:
        meter.text_size([*args, *kwargs.values()])  # they can come back as a new container
    method = getattr(function, "__wrapped__", function)  # Jinja wraps str.format
    text = getattr(method, "__self__", None)
    if not isinstance(text, str):
        return args
    name = method.__name__
    if name == "join" and args:
        return (_charge_join(meter, text, args[0]), *args[1:])
    if name == "replace" and len(args) > 1:
        _charge_replace(meter, text, args[0], args[1])
    elif name in ("format", "format_map"):
        _check_brace_format(meter, text, [*args, *kwargs.values()])
    elif name in ("center", "ljust", "rjust", "zfill") and args and isinstance(args[0], int):
        meter.spend(max(args[0], 0))
    return args


def _charge_join(meter: Meter, separator: str, parts: Iterable[Any]) -> list[Any]:
    whole = []
    for part in parts:
        meter.spend(_ELEMENT)
        meter.spend(meter.text_size(part) + len(separator))
        whole.append(part)
    return whole


def _charge_replace(meter: Meter, text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str):
        meter.spend(len(text) + text.count(old) * len(new))


# Filters

_PLAIN_FILTERS = _names(
    """abs capitalize count d default dictsort e escape first float forceescape groupby int items
    last length list lower map max min reject rejectattr reverse safe select selectattr sort
    string title trim unique upper"""
)
_LAZY_FILTERS = _names("map reject rejectattr select selectattr")
_TEXT_FILTERS = _names("capitalize e escape forceescape lower safe string title trim upper")


def metered_filters(originals: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The filters that templates may use, each behind the meter."""
    filters = {name: _metered(name, originals[name]) for name in _PLAIN_FILTERS}
    return filters | {
        "format": _percent_format,
        "indent": _indent,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "sum": _sum,
        "tojson": tojson,
    }


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    passes = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def metered(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter_of(context).spend()
        if name in _TEXT_FILTERS:
            meter_of(context).spend_for(value)
        elif name in _LAZY_FILTERS and value:  # they take none and undefined for empty
            value = metered_loop(context, value)
        lead: tuple[Any, ...] = ()
        if passes is not None:
            lead = (
                {
                    "context": context,
                    "eval_context": context.eval_ctx,
                    "environment": context.environment,
                }[passes.name],
            )
        return charge_result(context, function(*lead, value, *args, **kwargs))

    return metered


@pass_context
def _percent_format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    meter = meter_of(context)
    meter.spend_for(value)
    values = kwargs or args
    check_percent_format(meter, str(value), values)
    return str(value) % values


@pass_context
def _indent(
    context: Context, value: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    meter = meter_of(context)
    meter.spend_for(value)
    if isinstance(width, int) and width > _MAX_INDENT:
        raise TemplateError(f"the chat template indents by more than {_MAX_INDENT}")
    text = str(value)
    size = len(width) if isinstance(width, str) else _MAX_INDENT
    meter.spend((len(text.splitlines()) + 1) * size)
    return do_indent(text, width, first, blank)


@pass_context
def _join(
    context: Context, value: Iterable[Any], d: Any = "", attribute: str | int | None = None
) -> str:
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    separator = str(d)
    parts = _charge_join(meter_of(context), separator, value)
    return separator.join(map(str, parts))


@pass_context
def _replace(context: Context, value: Any, old: Any, new: Any, count: int = -1) -> str:
    meter = meter_of(context)
    for operand in (value, old, new):
        meter.spend_for(operand)
    text, old, new = str(value), str(old), str(new)
    _charge_replace(meter, text, old, new)
    return text.replace(old, new, count)


@pass_context
def _round(context: Context, value: Any, precision: int = 0, method: Any = "common") -> float:
    meter_of(context).spend()
    if abs(precision) > _MAX_INDENT:
        raise TemplateError(f"the chat template rounds to {precision} digits")
    return do_round(value, precision, method)


@pass_context
def _sum(
    context: Context,
    value: Iterable[Any],
    attribute: str | int | None = None,
    start: int | float = 0,
) -> Any:
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    if not isinstance(start, int | float):  # lists would be copied again for each element
        raise TemplateError("the chat template sums up something other than numbers")
    return sum(metered_loop(context, value), start)


@pass_context
def tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as Hugging Face's templates expect it: nothing is escaped for HTML."""
    meter = meter_of(context)
    meter.spend_for(value)
    if indent is not None and not 0 <= indent <= _MAX_INDENT:
        raise TemplateError(f"the chat template indents JSON by {indent}")
    encoder = json.JSONEncoder(
        ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys
    )
    parts = []
    for part in encoder.iterencode(value):  # piece by piece: indentation grows with depth
        meter.spend(len(part))
        parts.append(part)
    text = "".join(parts)
    if ensure_ascii:
        meter.spend(12 * len(text))
        text = "".join(c if c < "\x80" or c in meter.marks else json.dumps(c)[1:-1] for c in text)
    return text


# Globals


def raise_exception(message: Any) -> NoReturn:
    """What templates call when they cannot render these messages."""
    raise TemplateError(f"the chat template refuses these messages: {str(message)[:1000]}")


def strftime_now(layout: str) -> str:
    """Today's date. Plain conversions only: C libraries pad to any width a number asks for."""
    if len(layout) > 200 or re.search(r"%[^a-zA-Z%]", layout):
        raise TemplateError(f"the chat template asks for the date as {layout[:60]!r}")
    return datetime.datetime.now().astimezone().strftime(layout)
