"""Chat formats: the file's own template, and what programs register or hand over themselves.

A GGUF file has the template that its model was taught, which is used whatever ``chat_format`` says; where
the format named is another one, a warning says so. For a file that has none, ``known_templates`` has those of
some formats; the others that llama-cpp-python has built in are known by name only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, Protocol

from pyqwen.compat.known_templates import TEMPLATES
from pyqwen.compat.notices import warn_once
from pyqwen.errors import TemplateError

if TYPE_CHECKING:
    from pyqwen.compat.processors import StoppingCriteriaList
    from pyqwen.model import Model

# Built-in formats, with a text that tells templates of the same form; None: no template has it.
_BUILT_IN: dict[str, str | None] = {
    "chatml": "<|im_start|>",
    "chatml-function-calling": "<|im_start|>",
    "qwen": "<|im_start|>",
    "llama-2": "[INST]",
    "llama-3": "<|start_header_id|>",
    "mistral-instruct": "[INST]",
    "gemma": "<start_of_turn>",
    "zephyr": "<|user|>",
    **dict.fromkeys(
        [
            *("alpaca", "baichuan", "baichuan-2", "chatglm3", "functionary", "functionary-v1"),
            *("functionary-v2", "intel", "mistrallite", "oasst_llama", "open-orca", "openbuddy"),
            *("openchat", "phind", "pygmalion", "redpajama-incite", "saiga", "snoozy", "vicuna"),
        ]
    ),
}
_OWN = "chat_template."


class LlamaChatCompletionHandlerNotFoundException(ValueError):
    """There is no chat format of that name."""


class LlamaChatCompletionHandler(Protocol):
    """Answers a conversation: called with ``create_chat_completion``'s arguments and ``llama=``."""

    def __call__(self, *, llama: Any, messages: list[Any], **kwargs: Any) -> Any:
        """Return a chat completion, or with ``stream=True`` an iterator of its chunks."""


@dataclass
class ChatFormatterResponse:
    """A prompt that was made of messages, and what ends the answer.

    ``added_special``: the prompt begins with its own beginning-of-text token.
    """

    prompt: str
    stop: str | list[str] | None = None
    stopping_criteria: StoppingCriteriaList | None = None
    added_special: bool = False


class ChatFormatter(Protocol):
    """Makes a prompt of messages."""

    def __call__(self, *, messages: list[Any], **kwargs: Any) -> ChatFormatterResponse:
        """Return the prompt."""


_registered: dict[str, LlamaChatCompletionHandler] = {}


def register_chat_completion_handler(
    name: str,
) -> Callable[[LlamaChatCompletionHandler], LlamaChatCompletionHandler]:
    """A decorator: the function answers conversations of ``Llama(chat_format=name)``."""

    def register(handler: LlamaChatCompletionHandler) -> LlamaChatCompletionHandler:
        _registered[name] = handler
        return handler

    return register


def register_chat_format(name: str) -> Callable[[ChatFormatter], ChatFormatter]:
    """A decorator: the function makes prompts of ``Llama(chat_format=name)``."""

    def register(formatter: ChatFormatter) -> ChatFormatter:
        _registered[name] = chat_formatter_to_chat_completion_handler(formatter)
        return formatter

    return register


def get_chat_completion_handler(name: str) -> LlamaChatCompletionHandler:
    """What was registered under a name, or what uses the file's template for a built-in one."""
    if name in _registered:
        return _registered[name]
    template_of(name)

    def with_the_files_template(*, llama: Any, messages: list[Any], **kwargs: Any) -> Any:
        return llama.answer_with_template(messages, **kwargs)

    return with_the_files_template


def handler_of(chat_format: str | None) -> LlamaChatCompletionHandler | None:
    """What the program registered for a format; None for the file's template."""
    return _registered.get(chat_format) if isinstance(chat_format, str) else None


def template_of(chat_format: str | None) -> str | None:
    """The name of the file's template that a format means: None is the file's own.

    Raises ``LlamaChatCompletionHandlerNotFoundException`` for a name that is no format.
    """
    if chat_format is None or chat_format in _BUILT_IN:
        return None
    if isinstance(chat_format, str) and chat_format.startswith(_OWN):
        return chat_format.removeprefix(_OWN)
    known = ", ".join(sorted({*_BUILT_IN, *_registered}))
    raise LlamaChatCompletionHandlerNotFoundException(
        f"chat_format {brief(chat_format)} is not known; there are: {known}"
    )


def compare_formats(chat_format: str, model: Model) -> None:
    """Warn if a model's template is not of the built-in format that was named; give it one if it has none.

    Raises ``LlamaChatCompletionHandlerNotFoundException`` for a name that is no format.
    """
    if handler_of(chat_format) is not None or template_of(chat_format) is not None:
        return
    template = ""
    try:
        template = model.chat_template.source
    except TemplateError:
        if chat_format in TEMPLATES:
            model._template_metadata["tokenizer.chat_template"] = TEMPLATES[chat_format]
            return  # as if the file had it; nobody else has this model yet
    mark = _BUILT_IN.get(chat_format, "")
    if mark is None or mark not in template:
        warn_once(
            f"chat_format={chat_format!r}",
            "the file has a chat template of another form, which is used"
            if template
            else "this format is not known here, and the file has no chat template",
        )


def chat_formatter_to_chat_completion_handler(
    chat_formatter: ChatFormatter,
) -> LlamaChatCompletionHandler:
    """A handler that continues the prompts that a formatter makes."""

    def handle(*, llama: Any, messages: list[Any], **kwargs: Any) -> Any:
        from pyqwen.compat.formatted import answer_formatted

        return answer_formatted(chat_formatter, llama, messages, kwargs)

    return handle


class Jinja2ChatFormatter:
    """Makes prompts with a Jinja template, in pyqwen's sandbox."""

    def __init__(
        self,
        template: str,
        eos_token: str,
        bos_token: str,
        add_generation_prompt: bool = True,
        stop_token_ids: Sequence[int] | None = None,
    ) -> None:
        """Raises ``TemplateError`` for a template that is none. ``stop_token_ids`` end answers."""
        from pyqwen.text.chat_template import ChatTemplate

        self.template = template
        self.eos_token, self.bos_token = eos_token, bos_token
        self.add_generation_prompt = add_generation_prompt
        self.stop_token_ids = set(stop_token_ids) if stop_token_ids is not None else None
        self._template = ChatTemplate(template, bos_token=bos_token, eos_token=eos_token)

    def __call__(
        self,
        *,
        messages: list[Any],
        functions: Any = None,
        function_call: Any = None,
        tools: Any = None,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> ChatFormatterResponse:
        from pyqwen.compat.processors import StoppingCriteriaList

        rendered = self._template.render(
            messages, tools=tools, add_generation_prompt=self.add_generation_prompt
        )
        ends, criteria = self.stop_token_ids, None
        if ends is not None:
            criteria = StoppingCriteriaList([lambda ids, _: int(ids[-1]) in ends])
        return ChatFormatterResponse(rendered.text, [self.eos_token], criteria, True)

    def to_chat_handler(self) -> LlamaChatCompletionHandler:
        """What ``Llama(chat_handler=...)`` takes."""
        return chat_formatter_to_chat_completion_handler(self)


def format_mistral_instruct(messages: list[Any], **kwargs: Any) -> ChatFormatterResponse:
    """A prompt in the format "mistral-instruct", with the names of its model's control tokens."""
    formatter = Jinja2ChatFormatter(TEMPLATES["mistral-instruct"], "</s>", "<s>")
    return formatter(messages=messages, **kwargs)


def hf_tokenizer_config_to_chat_formatter(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> ChatFormatter:
    """The template of a tokenizer_config.json.

    Its prompts end with an empty message of the assistant if ``add_generation_prompt``, as in
    llama-cpp-python: for templates that write nothing else to begin an answer.
    """
    names = ("chat_template", "bos_token", "eos_token")
    for name in names:
        if not isinstance(tokenizer_config, Mapping) or not isinstance(
            tokenizer_config.get(name), str
        ):
            raise TypeError(f"tokenizer_config must have a text for {name}")
    template, bos, eos = (str(tokenizer_config[name]) for name in names)
    formatter = Jinja2ChatFormatter(template, eos, bos, add_generation_prompt=False)

    def format_messages(*, messages: list[Any], **kwargs: Any) -> ChatFormatterResponse:
        begun = [{"role": "assistant", "content": ""}] if add_generation_prompt else []
        made = formatter(messages=[*messages, *begun], **kwargs)
        return ChatFormatterResponse(made.prompt, [eos, bos], None, True)

    return format_messages


def hf_tokenizer_config_to_chat_completion_handler(
    tokenizer_config: Mapping[str, Any], add_generation_prompt: bool = True
) -> LlamaChatCompletionHandler:
    """A handler with the template of a tokenizer_config.json."""
    return chat_formatter_to_chat_completion_handler(
        hf_tokenizer_config_to_chat_formatter(tokenizer_config, add_generation_prompt)
    )
