"""Chat templates: a conversation to the prompt text of one model, with Hugging Face's semantics.

Owns what a template sees and how its text stays apart from the user's: the result says where
control tokens may be recognized, and where tokens that messages carry stand for their content.
``messages`` checks the input, ``text.jinja`` runs the template, with strings that know what users
wrote. Knows nothing of what token ids mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqwen.errors import TemplateError
from pyqwen.text.control_text import ControlTextCutter
from pyqwen.text.messages import Messages, normalize_messages, plain_copy

if TYPE_CHECKING:
    from pyqwen.text.jinja.tracked import Span
    from pyqwen.text.tokenizer import Tokenizer

_KEY = "tokenizer.chat_template"
_SET_HERE = ("messages", "tools", "add_generation_prompt", "bos_token", "eos_token")
_UNITS_PER_STRING = 16  # short strings cost a template time, too

# Keys that messages and tools have by their form. All others are a user's text.
_FORMAL_KEYS = frozenset(
    [
        "arguments",
        "content",
        "description",
        "enum",
        "function",
        "id",
        "items",
        "name",
        "parameters",
        "properties",
        "reasoning",
        "reasoning_content",
        "required",
        "role",
        "text",
        "token_ids",
        "tool_call_id",
        "tool_calls",
        "type",
    ]
)

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Segment = str | tuple[int, ...]


@dataclass(frozen=True)
class Rendered:
    """A rendered prompt.

    ``text`` is exactly what the template wrote. ``segments`` are the same text, cut at places
    inside user text: a control token counts only where it lies within one segment
    (``Tokenizer.encode_segments``), so nothing a user wrote can become one. A segment of ids stands
    for the content of a message with ``token_ids``.
    """

    text: str
    segments: tuple[Segment, ...]


class ChatTemplate:
    """One compiled template. Immutable, may be used by any number of threads."""

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        control_texts: Iterable[str] = (),
    ) -> None:
        """Compile ``source`` (Jinja). ``control_texts``: texts that users must not be able to write
        as tokens (``Tokenizer.control_texts``). ``TemplateError`` for invalid templates.
        """
        from pyqwen.text.jinja.template import Template

        self.source = source
        self._template = Template(source)
        self._constants = {"bos_token": bos_token, "eos_token": eos_token}
        self._cutter = ControlTextCutter(control_texts)

    @classmethod
    def from_metadata(
        cls,
        metadata: Mapping[str, Any],
        tokenizer: Tokenizer,
        *,
        name: str | None = None,
        source: str = "",
    ) -> ChatTemplate:
        """A template of a GGUF file.

        ``name``: one that the file holds beside its own (``tokenizer.chat_template.NAME``), such as
        "tool_use"; None or "default" is the file's own. ``ValueError`` lists the names there are.
        A file without one of its own gets ChatML if its vocabulary has ChatML's tokens, else
        ``TemplateError``. ``source`` names the file in messages.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"a chat template is named by a str, not {type(name).__name__}")
        where = f"{source}: " if source else ""
        key = _KEY if name in (None, "default") else f"{_KEY}.{name}"
        template = metadata.get(key)
        if template is None and key != _KEY:
            known = ", ".join(template_names(metadata)) or "none"
            raise ValueError(f"{where}there is no chat template {name!r}; there are: {known}")
        if template is None:
            if not {"<|im_start|>", "<|im_end|>"} <= tokenizer.control_texts:
                raise TemplateError(
                    f"{where}the file has no chat template and no ChatML tokens: it is probably a "
                    "base model; use generate() with plain text instead of chat()"
                )
            template = CHATML
        if not isinstance(template, str):
            kind = type(template).__name__
            raise TemplateError(f"{where}{key} is {kind}, not a text")
        bos, eos = tokenizer.bos_id, tokenizer.eos_id
        try:
            return cls(
                template,
                bos_token="" if bos is None else tokenizer.id_to_piece(bos),
                eos_token="" if eos is None else tokenizer.id_to_piece(eos),
                control_texts=tokenizer.control_texts,
            )
        except TemplateError as error:
            named = "" if key == _KEY else f"{key}: "
            raise TemplateError(f"{where}{named}{error}") from error

    @property
    def repairs(self) -> tuple[str, ...]:
        """What was wrong in the template and was put right, one sentence each; usually empty."""
        return self._template.repairs

    @property
    def variables(self) -> frozenset[str]:
        """The variables that the template reads beside those that are always set, such as
        "enable_thinking": what ``template_variables`` can have an effect by.
        """
        return self._template.reads - {*_SET_HERE}

    @property
    def describes_tools(self) -> bool:
        """Whether the template writes what tools there are."""
        return "tools" in self._template.reads

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_variables: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The prompt for ``messages`` (see ``normalize_messages``).

        With ``continue_final_message`` it ends with the content of the last one, an assistant's, for an
        answer that goes on with it: ``ValueError`` where it is another's.

        The ``token_ids`` of a message, which the caller checked (``check_answer_tokens``), become a
        segment where the template writes the content as it is. Templates do not see them.

        ``tools``: function descriptions as JSON-like dicts. ``template_variables``: further ones
        that the template reads (``variables``), JSON-like as well; ``ValueError`` for names that
        are set here. ``TemplateError`` where the template fails, refuses or exceeds its limits.
        """
        from pyqwen.text.jinja.tracked import Text, user_text

        extra = self._checked_variables(template_variables)
        plain = normalize_messages(messages)
        answers = {
            i: ids
            for i, message in enumerate(plain)
            if (ids := tuple(message.pop("token_ids", ())))
        }
        final = len(plain) - 1
        if continue_final_message:
            _check_continued(plain[final], add_generation_prompt)
            if not plain[final]["content"]:  # what follows is an answer from its beginning
                return self.render(
                    messages[:-1], tools=tools, template_variables=template_variables
                )
        size = 0

        def text(value: str) -> str:
            nonlocal size
            size += len(value) + _UNITS_PER_STRING
            return user_text(str(value))

        def key(name: str) -> str:
            return text(name) if name not in _FORMAL_KEYS else str(name)

        given = {**extra, "messages": plain, "tools": list(tools) if tools else None}
        variables = {
            name: plain_copy(value, name, text=text, key=key) for name, value in given.items()
        }
        for i, message in enumerate(variables["messages"]):
            message["role"] = plain[i]["role"]  # ours: templates may build tokens of it
            if i in answers or (continue_final_message and i == final):
                message["content"] = user_text(plain[i]["content"], answer=i)
        variables |= {**self._constants, "add_generation_prompt": add_generation_prompt}
        prompt = self._template.render(variables, size)
        spans: Sequence[Span] = prompt.spans if isinstance(prompt, Text) else ()
        whole = str(prompt)
        if continue_final_message:
            end = _end_of_answer(whole, spans, final, plain[final]["content"])
            whole, spans = whole[:end], [(a, min(b, end), i) for a, b, i in spans if a < end]
        return Rendered(whole, tuple(self._segments(whole, spans, answers)))

    def _checked_variables(self, variables: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if variables is None:
            return {}
        if not isinstance(variables, Mapping):
            raise TypeError(f"template_variables must be a dict, not {type(variables).__name__}")
        taken = {*_SET_HERE, *self._template.functions}
        for name in variables:
            if not isinstance(name, str):
                raise TypeError(f"template_variables has the key {name!r}; keys must be strings")
            if name in taken:
                reads = ", ".join(sorted(self.variables)) or "no others"
                raise ValueError(
                    f"template_variables cannot set {name!r}, which is set for every template; "
                    f"this one reads: {reads}"
                )
        return variables

    def _segments(
        self,
        prompt: str,
        spans: Sequence[Span],
        answers: Mapping[int, tuple[int, ...]],
    ) -> Iterable[Segment]:
        cuts = set(self._cutter.cuts(prompt, [(start, end) for start, end, _ in spans]))
        ids = {start: (end, answers[i]) for start, end, i in spans if i in answers}
        position = 0
        for place in sorted({*cuts, *ids, len(prompt)}):
            if place < position:  # inside an answer
                continue
            if place > position:
                yield prompt[position:place]
                position = place
            if place in ids:
                position, tokens = ids[place]
                yield tokens


def template_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What ``ChatTemplate.from_metadata`` reads of a file's metadata, for when the file is closed."""
    keys = [key for key in metadata if key == _KEY or key.startswith(f"{_KEY}.")]
    return {key: metadata[key] for key in keys}


def _check_continued(message: Mapping[str, Any], add_generation_prompt: bool) -> None:
    if add_generation_prompt:
        raise ValueError("continue_final_message goes on with a message, add_generation_prompt not")
    if message["role"] != "assistant":
        raise ValueError(
            "continue_final_message goes on with the last message, which must be an assistant's, not "
            f"that of {message['role']!r}"
        )
    if message.get("tool_calls"):
        raise ValueError("continue_final_message cannot go on with a message that has tool_calls")


def _end_of_answer(prompt: str, spans: Sequence[Span], number: int, content: str) -> int:
    """Where the content of the final message ends; without white space where the template drops that."""
    end = max((end for _, end, i in spans if i == number), default=-1)
    if end >= 0:
        return end
    kept = content.strip()
    start = prompt.rfind(kept)
    if not kept or start < 0:
        raise TemplateError(
            "the chat template does not write the last message as it is, so that no answer can go on "
            "with it: leave continue_final_message out"
        )
    rest = content.lstrip()
    return start + len(rest if prompt.startswith(rest, start) else kept)


def template_names(metadata: Mapping[str, Any]) -> list[str]:
    """The names of the chat templates in a GGUF file's metadata; "default" is the file's own."""
    default = ["default"] if _KEY in metadata else []
    named = (key.removeprefix(f"{_KEY}.") for key in metadata if key.startswith(f"{_KEY}."))
    return default + sorted(named)
