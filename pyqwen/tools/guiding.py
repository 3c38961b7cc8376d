"""From an offer of tools to what guides the answer: the grammar compiled, without what no grammar says.

It stands in the place of a ``ResponseFormat``, whose answer it lets through where the model calls no tool.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pyqwen.constraints.constraint import Constraint
from pyqwen.constraints.response_format import Guided
from pyqwen.errors import ConstraintError

if TYPE_CHECKING:
    from pyqwen.constraints.compiling import Compiled
    from pyqwen.constraints.grammars import Grammars
    from pyqwen.constraints.response_format import ResponseFormat
    from pyqwen.results import Completion
    from pyqwen.tools.grammar import Thinking
    from pyqwen.tools.offer import Offer
    from pyqwen.tools.tool import Tool

_MOST_REFUSED = 64


class CallsFormat:
    """What an answer looks like that may call tools."""

    # For those that were refused.
    _bindable: ClassVar[OrderedDict[Constraint, Constraint]] = OrderedDict()
    _lock = threading.Lock()

    def __init__(self, offer: Offer, thinking: Thinking, words: ResponseFormat | None) -> None:
        """``words``: what an answer without calls must look like."""
        self._offer, self._thinking, self._words = offer, thinking, words

    def find(self, grammars: Grammars) -> Guided | None:
        """Return what guides an answer, if that takes no time."""
        if self._words is not None and (not self._words.is_known or not self._words.find(grammars)):
            return None
        constraint = self._constraint(self._offer)
        with self._lock:
            constraint = self._bindable.get(constraint, constraint)
        compiled = grammars.find(constraint)
        return None if compiled is None else self._guided(grammars, compiled)

    def make(self, grammars: Grammars) -> Guided:
        """Return what guides an answer.

        A schema that no grammar can express binds no arguments, unless the tool is ``strict``:
        ``ConstraintError`` then, and where the format of words cannot be a part of a grammar.
        """
        constraint = self._constraint(self._offer)
        with self._lock:
            constraint = self._bindable.get(constraint, constraint)
        try:
            compiled = grammars.compiled(constraint)
        except ConstraintError:
            tools = tuple(self._bound(grammars, tool) for tool in self._offer.offered)
            smaller = self._constraint(replace(self._offer, offered=tools))
            compiled = grammars.compiled(smaller)
            with self._lock:
                self._bindable[constraint] = smaller
                if len(self._bindable) > _MOST_REFUSED:
                    self._bindable.popitem(last=False)
        return self._guided(grammars, compiled)

    def _constraint(self, offer: Offer) -> Constraint:
        words = self._words.constraint()[0] if self._words is not None else None
        return Constraint.lark(offer.grammar(thinking=self._thinking, words=words))

    def _guided(self, grammars: Grammars, compiled: Compiled) -> Guided:
        guide = grammars.guide(compiled)
        if self._words is None:
            return Guided(guide, (), _as_it_is)
        return self._words.make(grammars)._replace(guide=guide)

    def _bound(self, grammars: Grammars, tool: Tool) -> Tool:
        """The tool, with any object for its arguments if they cannot be bound by its schema."""
        alone = replace(self._offer, offered=(tool,), must_call=True)
        try:
            grammars.compiled(Constraint.lark(alone.grammar(thinking=None)))
        except ConstraintError as error:
            if tool.strict:
                raise ConstraintError(
                    f"the parameters of the tool {tool.name!r}, which is strict: {error}"
                ) from None
            return replace(tool, parameters={"type": "object"})
        return tool


def _as_it_is(completion: Completion, begun: str) -> Completion:
    return completion
