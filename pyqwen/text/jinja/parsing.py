"""The source of a template to Jinja's syntax tree, within bounds that are checked before.

Jinja's lexer is linear and its parser recursive; so the length is bounded before the lexer sees the
source, and the number of tokens and their nesting before the parser does. Nothing is computed:
Jinja's optimizer, which folds constants, belongs to its compiler and never runs.

Settings and semantics are those of Hugging Face's ``apply_chat_template`` (transformers,
utils/chat_template_utils.py).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jinja2 import Environment, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols

from pyqwen.text.jinja.budget import Fault

MAX_SOURCE = 131_072  # characters; the longest published templates have some 30,000
_MAX_TOKENS = 40_000  # the longest published templates have some 8,000
_MAX_NESTING = 40  # of brackets, of blocks, of prefix operators
_MAX_INLINE_IFS = 40  # in one tag: each is parsed inside the one before
MAX_CHAIN = 100  # of operators, attributes, calls and filters on each other

_BLOCKS = frozenset(
    ["for", "if", "macro", "call", "filter", "with", "generation", "block", "autoescape", "trans"]
)


class _GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` marks what an assistant wrote, for training: its
    content is rendered as if the tag were not there.
    """

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)  # type: ignore[no-any-return]


@cache
def _environment() -> Environment:
    return Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )


def parse(source: str) -> nodes.Template:
    """The syntax tree of ``source``; ``Fault`` names the line of what is wrong or too much."""
    if len(source) > MAX_SOURCE:
        raise Fault(f"it has {len(source):,} characters; the limit is {MAX_SOURCE:,}")
    environment = _environment()
    try:
        _check_tokens(environment, source)
        tree = environment.parse(source)
    except TemplateSyntaxError as error:
        raise Fault(str(error.message), error.lineno) from error
    except RecursionError as error:
        raise Fault("it is nested too deeply") from error
    except (ValueError, UnicodeError) as error:  # literals that Python refuses
        raise Fault(f"{type(error).__name__}: {error}") from error
    _check_chains(tree)
    return tree


def _check_tokens(environment: Environment, source: str) -> None:
    """Bound the parser's work, and everything by which it calls itself, from the tokens alone."""
    blocks = brackets = prefixes = inline_ifs = tokens = 0
    tag = ""  # the first word of the current block tag; "" outside of them
    assigns = False
    for line, token, value in environment.lexer.tokeniter(source, None):
        if token == "block_begin":
            tag, assigns, inline_ifs, brackets = "?", False, 0, 0
        elif token == "variable_begin":
            tag, inline_ifs, brackets = "", 0, 0
        elif token == "block_end":
            if tag in _BLOCKS or (tag == "set" and not assigns):
                blocks += 1
            elif tag.startswith("end"):
                blocks -= 1
            tag = ""
        elif token == "name":
            if tag == "?":
                tag = value
            elif value == "if":
                inline_ifs += 1
            prefixes = prefixes + 1 if value == "not" else 0
        elif token == "operator":
            if value in "([{":
                brackets += 1
            elif value in ")]}":
                brackets -= 1
            elif value == "=" and not brackets:
                assigns = True
            prefixes = prefixes + 1 if value in "+-" else 0
        elif token not in ("whitespace", "linecomment", "comment"):
            prefixes = 0
        tokens += token != "whitespace"
        if tokens > _MAX_TOKENS:
            raise Fault(f"it has more than {_MAX_TOKENS:,} names, numbers and signs", line)
        if max(blocks, brackets, prefixes) > _MAX_NESTING or inline_ifs > _MAX_INLINE_IFS:
            raise Fault(f"it is nested more than {_MAX_NESTING} levels deep", line)


def _check_chains(tree: nodes.Template) -> None:
    """Bound the height of the tree: what comes after the parser calls itself, too.

    The left sides of sums and of logical operators do not count, for these are gone through in
    loops; templates add up many parts.
    """
    pending: list[tuple[nodes.Node, int, type | None]] = [(tree, 0, None)]
    while pending:
        node, depth, above = pending.pop()
        if depth > MAX_CHAIN + 4 * _MAX_NESTING:
            raise Fault("it is nested too deeply", node.lineno)
        flat = isinstance(node, nodes.Add | nodes.And | nodes.Or) and type(node) is above
        depth = depth if flat else depth + 1
        for child in node.iter_child_nodes():
            is_left = isinstance(node, nodes.BinExpr) and child is node.left
            pending.append((child, depth, type(node) if is_left else None))


def undouble_braces(literal: str) -> str:
    """Undo an escape meant for Python's ``str.format`` that was left in a template.

    The first Qwen2.5 templates (and the official GGUF files made from them) show the model
    ``{{"name": <function-name>, ...}}`` as the form of a tool call; the corrected template has
    single braces. It is that mistake, not text someone meant, if every brace of the literal is
    doubled around an object whose values are such placeholders: no JSON begins like that.
    """
    single = literal.replace("{{", "").replace("}}", "")
    if not re.search(r'\{\{"[^"{}]+": <', literal) or "{" in single or "}" in single:
        return literal
    return literal.replace("{{", "{").replace("}}", "}")
