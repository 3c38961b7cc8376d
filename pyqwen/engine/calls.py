"""From the calls of a model's owner to requests: prompts made of texts and messages, settings completed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import index
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pyqwen import _native
from pyqwen.engine.request import Deliver, Generation, TokenTexts
from pyqwen.engine.shared_prompt import SharedPrompt
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
    from pyqwen.constraints.response_format import ResponseFormat

Prompt = str | Sequence[int]

CHAT_MAX_TOKENS = 8192
"""Answers of a chat are cut here unless ``max_tokens`` says otherwise: Qwen2.5 was trained for no more."""
THINKING_MAX_TOKENS = 32_768
"""The same for models that think before they answer, as Qwen3's model cards recommend."""


MOST_ANSWERS = 1024
"""To one prompt in one call."""


class Task(NamedTuple):
    """What is asked of the model, from which any number of requests can be made."""

    tokens: list[int]
    settings: SamplingParams
    format: ResponseFormat | None
    is_chat: bool = False
    reasons: bool = False  # the model thinks before it answers
    in_reasoning: bool = False  # and the prompt has begun that


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
        return self._generation(self._continuing(prompt, params, options), deliver, streaming)

    def continuations(
        self,
        prompt: Prompt,
        params: SamplingParams | None,
        options: GenerateOptions,
        delivers: Sequence[Deliver],
        streaming: bool = False,
    ) -> list[Generation]:
        """Several answers to one prompt, which is read once."""
        return self._answers(self._continuing(prompt, params, options), delivers, streaming)

    def answer(
        self,
        messages: Messages,
        params: SamplingParams | None,
        options: ChatOptions,
        deliver: Deliver,
        streaming: bool = False,
    ) -> Generation:
        """What answers a conversation; the arguments as in ``Model.chat``."""
        return self._generation(self._answering(messages, params, options), deliver, streaming)

    def answers(
        self,
        messages: Messages,
        params: SamplingParams | None,
        options: ChatOptions,
        delivers: Sequence[Deliver],
        streaming: bool = False,
    ) -> list[Generation]:
        """Several answers to one conversation, which is read once."""
        return self._answers(self._answering(messages, params, options), delivers, streaming)

    def _continuing(
        self, prompt: Prompt, params: SamplingParams | None, options: GenerateOptions
    ) -> Task:
        if isinstance(prompt, str):
            if not prompt:
                raise ValueError("the prompt is empty; the model needs at least one token")
            prompt = self._tokenizer.encode(prompt, options.get("special", False))
        settings = self._settings(params, sampling_of(options, GenerateOptions))
        return Task(self.checked_ids(prompt), settings, _format(options))

    def _answering(
        self, messages: Messages, params: SamplingParams | None, options: ChatOptions
    ) -> Task:
        overrides = sampling_of(options, ChatOptions)
        settings = self._settings(params, overrides)
        messages = normalize_messages(messages)
        check_answer_tokens(messages, self._tokenizer)
        chat_template = self._template(options.get("template"))
        variables = options.get("template_variables")
        rendered = chat_template.render(messages, template_variables=variables)
        tokens = self.checked_ids(self._tokenizer.encode_segments(rendered.segments))
        wanted = _format(options)
        if not is_thinking(chat_template.source):
            return Task(tokens, settings, wanted, is_chat=True)
        if is_closed(rendered.text):
            settings = self._settings(params, overrides, self._without_thinking)
        return Task(tokens, settings, wanted, True, True, is_open(rendered.text))

    def _settings(
        self,
        params: SamplingParams | None,
        overrides: SamplingOptions,
        defaults: SamplingParams | None = None,
    ) -> SamplingParams:
        if params is not None and not isinstance(params, SamplingParams):
            raise TypeError(f"params must be SamplingParams, not {type(params).__name__}")
        return (params or SamplingParams()).replace(**overrides).over(defaults or self._defaults)

    def _answers(
        self, task: Task, delivers: Sequence[Deliver], streaming: bool
    ) -> list[Generation]:
        """A request for each of ``delivers``, number i with the seed of the first plus i."""
        seed = task.settings.seed
        if seed is None:
            seed = SystemRandom().getrandbits(64)
        shared = SharedPrompt()
        requests = []
        for i, deliver in enumerate(delivers):
            settings = task.settings.replace(seed=(seed + i) % 2**64)
            # Each has its own list of tokens, which grows.
            own = task._replace(tokens=list(task.tokens), settings=settings)
            request = self._generation(own, deliver, streaming)
            request.shared = shared
            requests.append(request)
        return requests

    def _generation(self, task: Task, deliver: Deliver, streaming: bool) -> Generation:
        settings = task.settings
        if settings.seed is None:
            settings = settings.replace(seed=SystemRandom().getrandbits(64))
        if settings.max_tokens is None:
            usual = THINKING_MAX_TOKENS if task.reasons else CHAT_MAX_TOKENS
            most = min(self._context, usual) if task.is_chat else self._context
            settings = settings.replace(max_tokens=most)
        request = Generation(
            task.tokens,
            deliver,
            settings=settings,
            sampler=self._sampler(settings),
            texts=self._texts,
            end_ids=self._tokenizer.eog_ids,
            context=self._context,
            is_chat=task.is_chat,
            streaming=streaming,
            reasoning=ReasoningStream(is_open=task.in_reasoning) if task.reasons else None,
        )
        if task.format is not None:
            request.constraint, request.unenforced = task.format.guide(self._grammars())
            request.conclusion = task.format.conclude
        return request

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

    @staticmethod
    def checked_count(n: int) -> int:
        """How many answers are wanted; ``ValueError`` or ``TypeError`` where it cannot be."""
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"n must be an integer, not {type(n).__name__}")
        if not 1 <= index(n) <= MOST_ANSWERS:
            raise ValueError(f"n must be from 1 to {MOST_ANSWERS:,} answers, not {index(n)}")
        return index(n)

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


def _format(options: GenerateOptions | ChatOptions) -> ResponseFormat | None:
    if options.get("response_format") is None:
        return None
    from pyqwen.constraints.response_format import response_format

    return response_format(options["response_format"], strict=options.get("strict", False))
