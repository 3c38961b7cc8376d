"""Colors of code, by Pygments: which characters of which line are of which kind. Knows nothing of Qt."""

from __future__ import annotations

import html

from pygments.lexers import TextLexer, get_lexer_by_name
from pygments.token import Comment, Keyword, Name, Number, Operator, String, _TokenType
from pygments.util import ClassNotFound

Spans = list[list[tuple[int, int, str]]]
"""For each line its colored parts: first character, length, kind (a name in ``Colors.code``)."""

_KINDS: tuple[tuple[_TokenType, str], ...] = (
    (Comment, "comment"),
    (Keyword, "keyword"),
    (String, "string"),
    (Number, "number"),
    (Name.Function, "function"),
    (Name.Class, "class"),
    (Name.Exception, "class"),
    (Name.Tag, "keyword"),
    (Name.Attribute, "function"),
    (Name.Decorator, "builtin"),
    (Name.Builtin, "builtin"),
    (Operator.Word, "keyword"),
    (Operator, "operator"),
)


def color_spans(code: str, language: str) -> Spans:
    """The colored parts of every line; none for a language that is not known."""
    try:
        lexer = get_lexer_by_name(language) if language else TextLexer()
    except ClassNotFound:
        lexer = TextLexer()
    lines: Spans = [[]]
    column = 0
    for _, token, text in lexer.get_tokens_unprocessed(code):
        kind = next((name for parent, name in _KINDS if token in parent), None)
        for i, part in enumerate(text.split("\n")):
            if i:
                lines.append([])
                column = 0
            if kind and part:
                lines[-1].append((column, len(part), kind))
            column += len(part)
    return lines


def colored_html(code: str, language: str, colors: dict[str, str]) -> str:
    """The same as HTML, for code inside of lists and quotes."""
    lines = []
    for text, spans in zip(code.split("\n"), color_spans(code, language), strict=False):
        parts, end = [], 0
        for start, length, kind in spans:
            parts.append(html.escape(text[end:start]))
            end = start + length
            parts.append(
                f'<span style="color:{colors[kind]}">{html.escape(text[start:end])}</span>'
            )
        lines.append("".join(parts) + html.escape(text[end:]))
    return "\n".join(lines)
