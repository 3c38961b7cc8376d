"""The tools that the model may call: plain functions, whose signatures and docstrings describe them.

All are harmless: they read a clock and the text of the chat, compute, and write nothing.
"""

from __future__ import annotations

import ast
import json
import math
import operator
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS = {"sqrt": math.sqrt, "log": math.log, "exp": math.exp, "sin": math.sin, "cos": math.cos}


def calculate(expression: str) -> float:
    """Compute an arithmetic expression.

    Args:
        expression: numbers, + - * / // % **, parentheses, sqrt, log, exp, sin, cos, pi, e
    """
    return _value(ast.parse(expression, mode="eval").body)


def current_time(timezone: str = "") -> str:
    """Tell the date and the time.

    Args:
        timezone: an IANA name such as "Europe/Oslo"; empty for the user's own
    """
    now = datetime.now(ZoneInfo(timezone)) if timezone else datetime.now().astimezone()
    return now.strftime("%A, %d %B %Y, %H:%M %Z")


def count_text(text: str) -> dict[str, int]:
    """Count the characters, words and lines of a text, which language models cannot do by themselves.

    Args:
        text: the text to count
    """
    return {"characters": len(text), "words": len(text.split()), "lines": len(text.splitlines())}


TOOLS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (calculate, current_time, count_text)
}


def answer_call(call: Any) -> dict[str, Any]:
    """Run a ``pyqwen.ToolCall``; return the message that tells the model what came of it."""
    try:
        result = {"error": call.error} if call.error else TOOLS[call.name](**call.arguments)
    except Exception as error:  # the model is to know, and may try again
        result = {"error": f"{type(error).__name__}: {error}"}
    content = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    return {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": content}


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left), _value(right)
            if abs(power) > 1000 or abs(base) > 1e6:
                raise ValueError("that power is too large")
            return base**power
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(_value, args))
        case ast.Name(id="pi"):
            return math.pi
        case ast.Name(id="e"):
            return math.e
    raise ValueError(f"{ast.unparse(node)} is not arithmetic")
