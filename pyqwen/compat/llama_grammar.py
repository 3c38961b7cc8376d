"""LlamaGrammar: a form of answers, made of GBNF or of a JSON schema."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pyqwen.constraints.constraint import Constraint

LLAMA_GRAMMAR_DEFAULT_ROOT = "root"

JSON_GBNF = r"""
root   ::= object
value  ::= ( object | array | string | number | "true" | "false" | "null" ) ws
object ::= "{" ws ( member ( "," ws member )* )? "}"
member ::= string ws ":" ws value
array  ::= "[" ws ( value ( "," ws value )* )? "]"
string ::= "\"" character* "\""
character ::= [^"\\\x00-\x1F] | "\\" ( ["\\/bfnrt] | "u" hex hex hex hex )
hex    ::= [0-9a-fA-F]
number ::= "-"? ( "0" | [1-9] [0-9]* ) ( "." [0-9]+ )? ( [eE] [-+]? [0-9]+ )?
ws     ::= [ \t\n]{0,20}
"""
"""Any JSON object."""


class LlamaGrammar:
    """What an answer must look like. ``constraint`` is the same as pyqwen has it.

    It is checked when it is made: ``ConstraintError`` for a text that is no grammar, or no schema.
    """

    def __init__(self, constraint: Constraint, text: str) -> None:
        self.constraint = constraint
        self._grammar = text
        self._root = LLAMA_GRAMMAR_DEFAULT_ROOT

    @classmethod
    def from_string(cls, grammar: str, verbose: bool = True) -> Self:
        """Read a grammar in llama.cpp's notation (GBNF)."""
        from pyqwen.constraints.constraint import Constraint

        return cls(Constraint.gbnf(grammar), grammar)

    @classmethod
    def from_file(cls, file: str | os.PathLike[str], verbose: bool = True) -> Self:
        """Read a file with such a grammar. Raises ``FileAccessError`` if it cannot be read."""
        from pyqwen.errors import FileAccessError

        try:
            text = Path(file).read_text("utf-8")
        except OSError as error:
            raise FileAccessError(f"the grammar {file!s:.300} cannot be read: {error}") from error
        if not text.strip():
            raise ValueError(f"the grammar {file!s:.300} is empty")
        return cls.from_string(text)

    @classmethod
    def from_json_schema(cls, json_schema: str, verbose: bool = True) -> Self:
        """JSON by a schema, given as JSON text."""
        from pyqwen.constraints.constraint import Constraint

        constraint = Constraint.json(json_schema)
        return cls(constraint, constraint.text)


def constraint_of(grammar: Any) -> Constraint | None:
    """What a ``grammar=`` argument means; ``TypeError`` where it is no grammar."""
    if grammar is None:
        return None
    if isinstance(grammar, str):
        grammar = LlamaGrammar.from_string(grammar)
    if not isinstance(grammar, LlamaGrammar):
        raise TypeError(f"grammar must be a LlamaGrammar, not {type(grammar).__name__}")
    return grammar.constraint
