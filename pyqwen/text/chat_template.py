"""Chat templates: a conversation to the prompt text of one model, with Hugging Face's semantics.

Owns what a template sees and how its text stays apart from the user's: the result says where
control tokens may be recognized, and where tokens that messages carry stand for their content
(``quoted_answers``). ``messages`` checks the input, ``template_sandbox`` runs the template. Knows
nothing of what token ids mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyqwen.errors import TemplateError
from pyqwen.text.control_text import ControlTextCutter
from pyqwen.text.messages import Messages, normalize_messages, plain_copy
from pyqwen.text.quoted_answers import Part, QuotedAnswers

if TYPE_CHECKING:
    from pyqwen.text.tokenizer import Tokenizer

# Unicode gives these 137,000 characters no meaning. A text with all of them does not fit a context.
_PRIVATE_USE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
_UNITS_PER_STRING = 16  # short strings cost a template time, too

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Rendered:
    """A rendered prompt.

    ``text`` is exactly what the template wrote. ``segments`` are the same text, cut at places
    inside user text: a control token counts only where it lies within one segment
    (``Tokenizer.encode_segments``), so nothing a user wrote can become one. A segment of ids stands
    for the content of a message with ``token_ids``.
    """

    text: str
    segments: tuple[str | tuple[int, ...], ...]


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
        from pyqwen.text.template_sandbox import SandboxedTemplate

        self.source = source
        self._template = SandboxedTemplate(source)
        self._constants = {"bos_token": bos_token, "eos_token": eos_token}
        self._cutter = ControlTextCutter(control_texts, self._template.literals)

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], tokenizer: Tokenizer, *, source: str = ""
    ) -> ChatTemplate:
        """The template of a GGUF file (``tokenizer.chat_template``).

        A file without one gets ChatML if its vocabulary has ChatML's tokens, else
        ``TemplateError``. ``source`` names the file in messages.
        """
        where = f"{source}: " if source else ""
        template = metadata.get("tokenizer.chat_template")
        if template is None:
            if not {"<|im_start|>", "<|im_end|>"} <= tokenizer.control_texts:
                raise TemplateError(
                    f"{where}the file has no chat template and no ChatML tokens: it is probably a "
                    "base model; use generate() with plain text instead of chat()"
                )
            template = CHATML
        if not isinstance(template, str):
            kind = type(template).__name__
            raise TemplateError(f"{where}tokenizer.chat_template is {kind}, not a text")
        bos, eos = tokenizer.bos_id, tokenizer.eos_id
        try:
            return cls(
                template,
                bos_token="" if bos is None else tokenizer.id_to_piece(bos),
                eos_token="" if eos is None else tokenizer.id_to_piece(eos),
                control_texts=tokenizer.control_texts,
            )
        except TemplateError as error:
            raise TemplateError(f"{where}{error}") from error

    @property
    def repairs(self) -> tuple[str, ...]:
        """What was wrong in the template and was put right, one sentence each; usually empty."""
        return self._template.repairs

    def render(
        self,
        messages: Messages,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **extra: Any,
    ) -> Rendered:
        """The prompt for ``messages`` (see ``normalize_messages``).

        The ``token_ids`` of a message, which the caller checked (``check_answer_tokens``), become a
        segment where the template writes the content as it is. Templates do not see them.

        ``tools``: function descriptions as JSON-like dicts. ``extra``: further variables that the
        template knows. ``TemplateError`` where the template fails, refuses or exceeds its limits.
        """
        plain = normalize_messages(messages)
        all_ids = [tuple(message.pop("token_ids", ())) for message in plain]
        variables = {**extra, "messages": plain, "tools": list(tools) if tools else None}
        strings: list[str] = []
        variables = _copies(variables, _collector(strings))
        answers = {
            i: (message["content"], ids)
            for i, (message, ids) in enumerate(zip(variables["messages"], all_ids, strict=True))
            if ids
        }
        mark, quote = self._choose_marks(strings, bool(answers))
        if mark:
            roles = [message["role"] for message in variables["messages"]]
            variables = _copies(variables, self._marker(mark))
            for message, role in zip(variables["messages"], roles, strict=True):
                message["role"] = role  # ours, not the user's: templates may build tokens of it
        variables |= {**self._constants, "add_generation_prompt": add_generation_prompt}
        size = sum(map(len, strings)) + _UNITS_PER_STRING * len(strings)
        text = self._template.render(variables, size, mark)
        parts = self._with_answers(text, variables, answers, size, mark, quote) or [(text, ())]
        return Rendered(text.replace(mark, ""), _segments(parts, mark))

    def _with_answers(
        self,
        text: str,
        variables: dict[str, Any],
        answers: dict[int, Part],
        size: int,
        mark: str,
        quote: str,
    ) -> list[Part]:
        """The parts of ``text``, the rendered prompt, that are answers, and those between them.

        A template that does something to the answers would do it to the quotes. So it must write
        the same with and without them. One that trims can still do with answers that need none.
        """
        trimmed = {i: answer for i, answer in answers.items() if answer[0] == answer[0].strip()}
        for some in (answers, trimmed if len(trimmed) < len(answers) else {}):
            if some:
                quoted = QuotedAnswers(some, quote)
                seen = {**variables, "messages": quoted.quote(variables["messages"])}
                try:
                    rendered = self._template.render(seen, size + quoted.extra_size, mark + quote)
                except TemplateError:
                    continue
                parts = quoted.split(rendered, mark)
                if "".join(part for part, _ in parts) == text:
                    return parts
        return []

    def _choose_marks(self, strings: list[str], has_answers: bool) -> tuple[str, str]:
        """Two characters that occur nowhere: one to carry cuts through the template, and one to
        quote answers; "" for what is not needed, the first because no string could form a control
        token.
        """
        has_cuts = any(self._cutter.cuts(text) for text in strings)
        if not has_cuts and not has_answers:
            return "", ""
        used = set().union(*self._template.literals, *self._constants.values(), *strings)
        free = (c for block in _PRIVATE_USE for c in map(chr, block) if c not in used)
        return next(free) if has_cuts else "", next(free) if has_answers else ""

    def _marker(self, mark: str) -> Callable[[str], str]:
        def marked(text: str) -> str:
            ends = [*self._cutter.cuts(text), len(text)]
            starts = [0, *ends]
            return mark.join(text[a:b] for a, b in zip(starts, ends, strict=False))

        return marked


def _copies(variables: Mapping[str, Any], text: Callable[[str], str]) -> dict[str, Any]:
    return {name: plain_copy(value, name, text) for name, value in variables.items()}


def _collector(strings: list[str]) -> Callable[[str], str]:
    def collect(text: str) -> str:
        strings.append(text)
        return text

    return collect


def _segments(parts: list[Part], mark: str) -> tuple[str | tuple[int, ...], ...]:
    segments: list[str | tuple[int, ...]] = []
    for text, ids in parts:
        if ids:
            segments.append(ids)
        else:
            segments += filter(None, text.split(mark) if mark else [text])
    return tuple(segments)
