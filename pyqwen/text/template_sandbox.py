"""Running chat templates of unknown origin: Jinja, with a budget on everything it may do.

Owns the compiling and running of one template so that it ends within about a second and some tens
of megabytes, whatever it says, in a thread of any program on any platform: no signals, no resource
limits of the process. A template arrives in a downloaded file, so it is hostile until shown
otherwise. Jinja's sandbox keeps it from the interpreter's internals, but not from using up time and
memory; so the syntax tree is rewritten before compiling, and every loop step, call, filter,
operator, container and piece of output passes a meter. ``template_guards`` holds the meter and
the operations that could grow their result. Knows nothing of messages or tokens.

Semantics: Hugging Face's ``apply_chat_template`` (transformers, utils/chat_template_utils.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from pyqwen.errors import TemplateError
from pyqwen.text import template_guards as guards

MAX_SOURCE = 131_072  # characters; the longest published templates have some 30,000
_MAX_CALL_DEPTH = 40

# Filters that the tree's rewriting inserts. A template cannot spell these names.
_LOOP, _CONTAINER, _CONCAT, _SIZED = "loop over", "container of", "concatenation of", "size of"


class SandboxedTemplate:
    """A compiled template. Immutable, may be rendered by any number of threads at once."""

    def __init__(self, source: str) -> None:
        """Compile; ``TemplateError`` says in which line the template is wrong."""
        if len(source) > MAX_SOURCE:
            raise TemplateError(
                f"the chat template has {len(source):,} characters; the limit is {MAX_SOURCE:,}"
            )
        environment = _Environment()
        rewriter = _Rewriter()
        try:
            tree = rewriter.visit(environment.parse(source))
            self._template = environment.from_string(tree)
        except TemplateSyntaxError as error:
            raise TemplateError(
                f"the chat template is invalid in line {error.lineno}: {error.message}"
            ) from error
        except RecursionError as error:
            raise TemplateError("the chat template is nested too deeply") from error
        except (JinjaError, SyntaxError, ValueError, MemoryError) as error:
            raise TemplateError(
                f"the chat template cannot be compiled: {type(error).__name__}: {error}"
            ) from error
        self.literals: frozenset[str] = frozenset(rewriter.literals)
        self.repairs: tuple[str, ...] = tuple(rewriter.repairs)

    def render(self, variables: Mapping[str, Any], input_size: int, marks: str = "") -> str:
        """The text for these variables (plain data). ``TemplateError`` for whatever goes wrong.

        ``input_size``: characters in the variables, to which the budget is proportional. ``marks``:
        characters in the variables that must survive every filter as they are.
        """
        meter = guards.Meter(input_size, marks)
        try:
            return self._template.render({**variables, guards.METER: meter})
        except TemplateError:
            raise
        except RecursionError as error:
            raise TemplateError("the chat template recurses too deeply") from error
        except JinjaError as error:
            raise TemplateError(f"the chat template failed: {error.message}") from error
        except Exception as error:  # a template can provoke any error of any operation
            raise TemplateError(
                f"the chat template failed with {type(error).__name__}: {error}"
            ) from error


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja with Hugging Face's settings, metered, and without what no chat template needs."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _GenerationTag],
            finalize=guards.printable,
            # Constant expressions would be computed while compiling, outside any meter.
            optimized=False,
        )
        self.filters = guards.metered_filters(self.filters)
        self.filters |= {
            _LOOP: guards.metered_loop,
            _CONTAINER: guards.charge_container,
            _CONCAT: guards.concatenate,
            _SIZED: guards.charge_result,
        }
        del self.globals["lipsum"]
        self.globals["raise_exception"] = guards.raise_exception
        self.globals["strftime_now"] = guards.strftime_now

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return guards.is_safe_attribute(obj, attr) and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        guards.check_operator(guards.meter_of(context), operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(
        __self,  # Jinja's way to leave all names to keyword arguments
        __context: Context,
        __obj: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        meter = guards.meter_of(__context)
        args = guards.check_call(meter, __obj, args, kwargs)
        if isinstance(__obj, LoopContext) and args:  # one level deeper in a recursive loop
            args = (guards.metered_loop(__context, args[0]), *args[1:])
        with meter.deeper(_MAX_CALL_DEPTH):
            result = super().call(__context, __obj, *args, **kwargs)
        return guards.charge_result(__context, result)


class _GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` marks what an assistant wrote, for training: its
    content is rendered as if the tag were not there.
    """

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Rewriter(NodeTransformer):
    """Leads everything that costs time or memory through a metering filter."""

    def __init__(self) -> None:
        self.literals: set[str] = set()
        self.repairs: list[str] = []

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        assert isinstance(node.iter, nodes.Expr)  # the parser makes nothing else
        node.iter = _filtered(node.iter, _LOOP)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _CONTAINER)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _CONTAINER)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _CONTAINER) if node.ctx == "load" else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _CONCAT)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, _SIZED) if isinstance(node.arg, nodes.Slice) else node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:
        # As a constant it passes ``finalize``, which charges it; as template data it would not.
        self.literals.add(node.data)
        return nodes.Const(node.data, lineno=node.lineno)

    def visit_Const(self, node: nodes.Const) -> nodes.Node:
        if isinstance(node.value, str):
            repaired = _undouble_braces(node.value)
            if repaired != node.value:
                self.repairs.append(f"line {node.lineno}: braces of a JSON example were doubled")
                node.value = repaired
            self.literals.add(node.value)
        return node


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _undouble_braces(literal: str) -> str:
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
