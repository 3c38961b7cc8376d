"""A chat template of unknown origin, run so that it ends soon and stays small whatever it says.

A template arrives in a downloaded file, so it is hostile until shown otherwise. Jinja's sandbox
keeps one from Python's internals, but not from using up time and memory, and guarding Jinja's
compiled code, function after function, has no end. So only Jinja's parser is used; its syntax tree
is interpreted here. Time and memory are bounded by construction:

- The source's length is bounded before it is lexed, its nesting before it is parsed (``parsing``),
  and what follows is linear in it, or counted (``scopes``).
- Between two iterations of a loop and between two calls, a run evaluates each node of the tree at
  most once. Every iteration and every call pays for all nodes of its body before it begins
  (``statements``). So the nodes evaluated are bounded by the budget, and nodes cost the same
  whatever the data, but for what the operations pay for:
- Every operation whose time or result depends on its operands pays for the longest result it
  could have, and the longest time it could take, before it begins: ``operators``, ``comparing``,
  ``tracked``, ``writing``, ``formatting``. Containers are gone through one paid step at a time.
- Filters, tests, methods and functions are those of a table, each written for this and paid for
  (``filters``, ``sequences``, ``checks``, ``methods``, ``functions``); no other attribute of a Python
  object can be reached (``access``). What is not in a table is refused by name.
- Values are strings, bounded numbers, None, lists, tuples, dicts, ranges, and the objects of
  ``values``. Only a namespace can be changed, so nothing grows in place.
- Calls are nested at most 40 deep, containers 100 where they are gone through.

The budget is counted in units (``budget``), not in seconds: what a template may do is the same on
every machine. No single call into C takes longer than its units are worth, at most some tens of
milliseconds for the largest string that a budget pays for, so other threads run and Ctrl-C works.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyqwen.errors import TemplateError
from pyqwen.text.jinja.budget import Budget, Fault, Refusal, located
from pyqwen.text.jinja.functions import GLOBALS
from pyqwen.text.jinja.parsing import parse
from pyqwen.text.jinja.statements import Compiler


class Template:
    """A compiled template. Immutable, may be rendered by any number of threads at once."""

    def __init__(self, source: str) -> None:
        """Compile; ``TemplateError`` says in which line the template is wrong."""
        compiler = Compiler()
        try:
            self._render = compiler.template(parse(source))
        except Fault as fault:
            where = "" if fault.line is None else f" in line {fault.line}"
            raise TemplateError(f"the chat template is invalid{where}: {fault.message}") from fault
        except RecursionError as error:
            raise TemplateError("the chat template is nested too deeply") from error
        self.repairs: tuple[str, ...] = tuple(compiler.repairs)
        self.functions: frozenset[str] = frozenset(GLOBALS)
        # The variables that the template reads without setting them.
        self.reads: frozenset[str] = frozenset(compiler.reads) - self.functions

    def render(self, variables: Mapping[str, Any], input_size: int) -> str:
        """The text for these variables (plain data); a ``Text`` where users wrote some of it.

        ``input_size``: characters in the variables, to which the budget is proportional.
        ``TemplateError`` for whatever goes wrong.
        """
        try:
            return self._render(Budget(input_size), {**GLOBALS, **variables})
        except Refusal as refusal:
            raise TemplateError(f"the chat template refuses these messages: {refusal}") from refusal
        except Exception as error:  # a template can provoke any error of any operation
            fault = error if isinstance(error, Fault) else located(error, 0)
            where = f" in line {fault.line}" if fault.line else ""
            raise TemplateError(f"the chat template failed{where}: {fault.message}") from error
