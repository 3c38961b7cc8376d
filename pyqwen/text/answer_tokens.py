"""The tokens of answers, which messages carry so that a conversation goes on with exactly them.

A text can be cut into tokens in several ways, and a model does not always write the way its
tokenizer cuts. The key ``token_ids`` of an assistant's message says which tokens its content is.
Owns what such ids must be; ``chat_template`` sets them into the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqwen.text.tokenizer import Tokenizer


def ids_of_answer(
    text: str, written: Sequence[int], shown: Mapping[int, bytes], before: str = ""
) -> list[int] | None:
    """Those of the ids ``written`` that make exactly ``text``, which follows a text ``before`` it.

    ``shown`` are the bytes that each token shows. None where no ids make the text, for it begins or a
    stop string ended it inside a token, and where a control token, which shows nothing, is in it.
    """
    room = len(before.encode())
    start = tokens_before(room, written, shown)
    if sum(len(shown[token]) for token in written[:start]) != room:
        return None
    written = written[start:]
    pieces = [shown[token] for token in written]
    while len(made := _decoded(pieces)) > len(text):
        pieces.pop()
    if made != text or not all(pieces):
        return None
    return list(written[: len(pieces)])


def tokens_before(room: int, written: Sequence[int], shown: Mapping[int, bytes]) -> int:
    """How many of the ids ``written`` begin within the first ``room`` bytes that they show."""
    start = 0
    while room > 0 and start < len(written):
        room -= len(shown[written[start]])
        start += 1
    return start


def check_answer_tokens(messages: Iterable[Mapping[str, Any]], tokenizer: Tokenizer) -> None:
    """Check the ``token_ids`` of normalized messages; ``ValueError`` names the message.

    They must make the content, and be neither control tokens, which no content can become, nor
    padding.
    """
    for i, message in enumerate(messages):
        ids = message.get("token_ids")
        problem = "" if ids is None else _problem(message["content"], ids, tokenizer)
        if problem:
            raise ValueError(
                f"messages[{i}].token_ids {problem}; leave the key out where the content was "
                "changed or another model wrote it"
            )


def drop_foreign_tokens(messages: Iterable[dict[str, Any]], tokenizer: Tokenizer) -> None:
    """Take the ``token_ids`` out of normalized messages that another model wrote."""
    for message in messages:
        ids = message.get("token_ids")
        if ids is not None and _problem(message["content"], ids, tokenizer):
            del message["token_ids"]


def _problem(content: str, ids: Sequence[int], tokenizer: Tokenizer) -> str:
    size = tokenizer.vocab_size
    for token in ids:
        if not 0 <= token < size:
            return f"have {token}, but the vocabulary ends at {size - 1}"
        if tokenizer.is_control(token) or tokenizer.is_padding(token):
            return f"have {token}, a token that stands for no text"
    if _decoded(map(tokenizer.token_bytes, ids)) != content:
        return "are not the tokens of its content"
    return ""


def _decoded(pieces: Iterable[bytes]) -> str:
    return b"".join(pieces).decode("utf-8", "replace")
