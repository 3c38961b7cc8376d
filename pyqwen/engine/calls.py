"""From the calls of a model's owner to requests: prompts made of texts and messages, settings completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Protocol

from pyqwen import _native
from pyqwen.engine.request import Deliver, Generation, TokenTexts
from pyqwen.errors import ContextOverflowError
from pyqwen.options import ChatOptions, GenerateOptions, sampling_of
from pyqwen.sampling import SamplingOptions, SamplingParams
from pyqwen.text.answer_tokens import check_answer_tokens
from pyqwen.text.chat_template import ChatTemplate
from pyqwen.text.messages import Messages, normalize_messages
from pyqwen.text.reasoning import ReasoningStream, is_closed, is_open, is_thinking
from pyqwen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pyqwen.constraints.grammars import Grammars

Prompt = str | Sequence[int]

CHAT_MAX_TOKENS = 8192
"""Answers of a chat are cut here unless ``max_tokens`` says otherwise: Qwen2.5 was trained for no more."""
THINKING_MAX_TOKENS = 32_768
"""The same for models that think before they answer, as Qwen3's model cards recommend."""


class Sizes(Protocol):
    """What is asked of a model's hyperparameters."""

    @property
    def context(self) -> int:
        """The longest sequence that the model was trained for."""

    @property
    def vocab_rows(self) -> int:
        """The rows of the output matrix: ids that can be evaluated."""

    @property
    def real_tokens(self) -> int:
        """The ids that can be sampled."""


class Calls:
    """Makes the requests of one model; nothing of it changes."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: Callable[[str | None], ChatTemplate],
        defaults: SamplingParams,
        without_thinking: SamplingParams,
        context: int,
        config: Sizes,
        grammars: Callable[[], Grammars],
    ) -> None:
        """``defaults`` complete the settings of a call, and ``without_thinking`` those of an answer
        that a thinking model is to begin at once. ``context``: the most tokens of one request."""
        self._tokenizer = tokenizer
        self._texts = TokenTexts(tokenizer)
        self._template = template
        self._defaults = defaults
        self._without_thinking = without_thinking
        self._context = context
        self._config = config
        self._grammars = grammars

    def continuation(
        self,
        prompt: Prompt,
        params: SamplingParams | None,
        options: GenerateOptions,
        deliver: Deliver,
        streaming: bool = False,
    ) -> Generation:
        """What goes on with a text or token ids; the arguments as in ``Model.generate``."""
        if isinstance(prompt, str):
            if not prompt:
                raise ValueError("the prompt is empty; the model needs at least one token")
            prompt = self._tokenizer.encode(prompt, options.get("special", False))
        settings = self._settings(params, sampling_of(options, GenerateOptions))
        request = self._generation(self.checked_ids(prompt), settings, deliver, streaming, False)
        return self._constrained(request, options)

    def answer(
        self,
        messages: Messages,
        params: SamplingParams | None,
        options: ChatOptions,
        deliver: Deliver,
        streaming: bool = False,
    ) -> Generation:
        """What answers a conversation; the arguments as in ``Model.chat``."""
        overrides = sampling_of(options, ChatOptions)
        settings = self._settings(params, overrides)
        messages = normalize_messages(messages)
        check_answer_tokens(messages, self._tokenizer)
        chat_template = self._template(options.get("template"))
        variables = options.get("template_variables")
        rendered = chat_template.render(messages, template_variables=variables)
        tokens = self.checked_ids(self._tokenizer.encode_segments(rendered.segments))
        reasoning = None
        if is_thinking(chat_template.source):
            reasoning = ReasoningStream(is_open=is_open(rendered.text))
            if is_closed(rendered.text):
                settings = self._settings(params, overrides, self._without_thinking)
        request = self._generation(tokens, settings, deliver, streaming, True, reasoning)
        return self._constrained(request, options)

    def _constrained(
        self, request: Generation, options: GenerateOptions | ChatOptions
    ) -> Generation:
        if options.get("response_format") is None:
            return request
        from pyqwen.constraints.response_format import response_format

        wanted = response_format(options["response_format"], strict=options.get("strict", False))
        if wanted is not None:
            request.constraint, request.unenforced = wanted.guide(self._grammars())
            request.conclusion = wanted.conclude
        return request

    def _settings(
        self,
        params: SamplingParams | None,
        overrides: SamplingOptions,
        defaults: SamplingParams | None = None,
    ) -> SamplingParams:
        if params is not None and not isinstance(params, SamplingParams):
            raise TypeError(f"params must be SamplingParams, not {type(params).__name__}")
        return (params or SamplingParams()).replace(**overrides).over(defaults or self._defaults)

    def _generation(
        self,
        tokens: list[int],
        settings: SamplingParams,
        deliver: Deliver,
        streaming: bool,
        is_chat: bool,
        reasoning: ReasoningStream | None = None,
    ) -> Generation:
        if settings.seed is None:
            settings = settings.replace(seed=SystemRandom().getrandbits(64))
        if settings.max_tokens is None:
            usual = THINKING_MAX_TOKENS if reasoning is not None else CHAT_MAX_TOKENS
            most = min(self._context, usual) if is_chat else self._context
            settings = settings.replace(max_tokens=most)
        return Generation(
            tokens,
            deliver,
            settings=settings,
            sampler=self._sampler(settings),
            texts=self._texts,
            end_ids=self._tokenizer.eog_ids,
            context=self._context,
            is_chat=is_chat,
            streaming=streaming,
            reasoning=reasoning,
        )

    def _sampler(self, settings: SamplingParams) -> _native.SamplerHandle:
        value: Any = settings.__getattribute__
        names = ("temperature", "top_k", "top_p", "min_p", "typical_p", "seed")
        penalties = ("repetition_penalty", "presence_penalty", "frequency_penalty")
        return _native.SamplerHandle(
            self._config.real_tokens,
            **{name: value(name) for name in (*names, *penalties)},
            logit_bias=dict(settings.logit_bias or {}),
            want_logprob=bool(settings.logprobs or settings.top_logprobs),
            top=settings.top_logprobs or 0,
        )

    def checked_ids(self, ids: Sequence[int]) -> list[int]:
        """The ids as a list of int; ``ValueError`` where they are not tokens or too many."""
        if isinstance(ids, str | bytes):
            raise TypeError("token ids are integers; encode texts with model.tokenizer.encode()")
        if not isinstance(ids, Iterable):
            kind = type(ids).__name__
            raise TypeError(f"a prompt is a text or a sequence of token ids, not {kind}")
        tokens = [index(token) for token in ids]
        if not tokens:
            raise ValueError("there are no tokens; the model needs at least one")
        rows = self._config.vocab_rows
        worst = max(tokens) if min(tokens) >= 0 else min(tokens)
        if not 0 <= worst < rows:
            raise ValueError(f"token id {worst} is outside this model's 0 to {rows - 1}")
        if len(tokens) > self._context:
            trained = self._config.context
            longer = f" or open the model with a longer context (it was trained for {trained:,})"
            raise ContextOverflowError(
                f"{len(tokens):,} tokens do not fit the context of {self._context:,}: shorten the "
                f"prompt{longer if self._context < trained else ''}"
            )
        return tokens
