"""What a request gives back: completions, the chunks of a stream, and the numbers about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "cancelled", "timeout", "tool_calls"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its natural-log probability in the model's own distribution.

    ``top`` holds the likeliest tokens in its place, the likeliest first, if they were asked for.
    ``bytes`` is what the token writes, which can be a part of a character.
    """

    token_id: int
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The bytes as text; U+FFFD where they are not whole characters."""
        return self.bytes.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written. ``cached_tokens`` of the prompt did not have to be computed.

    ``reasoning_tokens`` of those written come before a thinking model's answer, its tags included.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens read and written."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds by the wall clock, and the rates that follow from them (0 where nothing was done).

    ``queue_seconds``: waiting for a free sequence. ``prompt_seconds``: reading the part of the
    prompt that was not cached. ``first_token_seconds``: from the call to the first token (None if
    there was none). ``decode_seconds``: from the first token to the last. ``drafted``: tokens that a
    draft guessed and that were checked, of which ``accepted`` were right.
    """

    queue_seconds: float
    prompt_seconds: float
    first_token_seconds: float | None
    decode_seconds: float
    prompt_tokens_per_second: float
    decode_tokens_per_second: float
    drafted: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool.

    ``arguments_json`` is the text that the model wrote, ``arguments`` what it says. Of a call that is
    malformed ``error`` says what is wrong, and ``arguments`` is empty; its name can be empty, too.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    arguments_json: str
    error: str | None = None

    @property
    def openai(self) -> dict[str, Any]:
        """The call as messages have it in OpenAI's form."""
        arguments = self.arguments_json if self.error is None else "{}"
        function = {"name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a call in a stream.

    The first of a call has its ``id`` and ``name``, later ones None. ``arguments`` of all of them together
    are ``ToolCall.arguments_json`` of the call with the same ``index``.
    """

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of a streamed answer.

    The texts of all chunks together are the text of the completion. ``token_ids`` are the tokens
    since the chunk before; their text may lie in a later chunk, where characters had to be held
    back. Only the last chunk, whose text may be empty, has a ``finish_reason``. In a chat with a
    thinking model, ``reasoning`` is the next piece of what it writes before its answer. Where tools
    were offered, ``tool_calls`` are the next pieces of calls.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprob] | None = None
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer.

    ``token_ids`` are the tokens written, without the end token; ``finish_reason`` is ``stop`` (end
    token or stop string), ``length`` (``max_tokens`` or the context), ``cancelled`` or ``timeout``.
    ``seed`` makes the same answer again. ``logprobs`` has one entry for each of ``token_ids``, or is
    None. ``stop_reason`` is the stop string, or the id in ``stop_token_ids``, that ended the answer;
    None for the model's own end. With a ``response_format``, ``parsed`` is what the answer says: an
    instance of the type, else plain data; None where the answer was cut off. ``unenforced`` names the
    keywords of the schema that the answer was only checked against when it was finished.
    ``prompt_logprobs`` has one entry for each token of the prompt, None for the first, which has nothing
    before it; None where they were not asked for, or the answer ended before the prompt was read.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None
    seed: int
    stop_reason: str | int | None = None
    parsed: Any = field(default=None, kw_only=True)
    unenforced: tuple[str, ...] = field(default=(), kw_only=True)
    prompt_logprobs: list[TokenLogprob | None] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class ChatCompletion(Completion):
    """A finished answer to a chat.

    ``content_ids`` are the tokens that make exactly ``text``: ``token_ids`` up to a stop string. None
    where there are no such tokens: a stop string began inside one, or a control token is among them.
    ``reasoning`` is what a thinking model wrote before its answer, which ``text`` and ``message`` leave
    out; None if it did not think. ``token_ids`` and ``logprobs`` are of both. ``begun`` is the message
    that ``continue_final_message`` went on with, which ``message`` has in front of ``text``, else None.
    ``tool_calls`` are the calls of the tools that were offered; ``text`` is what was written beside them,
    ``content_ids`` are of both, and the ``finish_reason`` is ``tool_calls`` unless something else ended
    the answer. ``messages`` are all that was said in a run of tools, up to this answer.
    """

    content_ids: list[int] | None = None
    reasoning: str | None = None
    begun: Mapping[str, Any] | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def message(self) -> dict[str, Any]:
        """The answer as the next message of the conversation.

        Its ``token_ids`` let the conversation go on with the tokens that the model wrote, where
        encoding the text again might give others, so that they need not be read again. Leave the
        key out to change the content or to ask another model. After ``continue_final_message`` it
        takes the place of the final message, whose content it begins with. Calls are in ``tool_calls``,
        in OpenAI's form; of one that is malformed the arguments are left out there.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        ids = list(self.content_ids or ())
        if self.begun is not None:
            message = {**self.begun, "content": self.begun["content"] + self.text}
            first = message.pop("token_ids", ())
            whole = first and (ids or not self.text) and not self.tool_calls
            ids = [*first, *ids] if whole else []
        if self.tool_calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [call.openai for call in self.tool_calls]
        if ids:
            message["token_ids"] = ids
        return message
