"""From the calls of a model's owner to requests: prompts made of texts and messages, settings completed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from operator import index
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Protocol

from pyqwen import _native
from pyqwen.engine.adapters import adapters_of, checked_names
from pyqwen.engine.answer_parts import AnswerParts
from pyqwen.engine.breakers import Breakers
from pyqwen.engine.logits_processing import ProcessedDraw
from pyqwen.engine.prompt_scores import PromptScores
from pyqwen.engine.request import Deliver, Generation, TokenTexts
from pyqwen.engine.session_use import use_session
from pyqwen.engine.shared_prompt import SharedPrompt
from pyqwen.engine.task import Task, extras_of, flag_of
from pyqwen.errors import ContextOverflowError
from pyqwen.options import (
    ChatOptions,
    GenerateOptions,
    InfillOptions,
    sampling_of,
)
from pyqwen.sampling import DRY_BREAKERS, NEUTRAL, SamplingOptions, SamplingParams
from pyqwen.text.answer_tokens import check_answer_tokens
from pyqwen.text.chat_template import ChatTemplate
from pyqwen.text.infill import Infill, checked_files, checked_infill, checked_text
from pyqwen.text.messages import Messages, normalize_messages
from pyqwen.text.reasoning import ReasoningStream, is_closed, is_inside, is_open, is_thinking
from pyqwen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pyqwen.constraints.grammars import Grammars
    from pyqwen.constraints.response_format import ResponseFormat
    from pyqwen.engine.session import Session
    from pyqwen.tools.grammar import Thinking
    from pyqwen.tools.offer import Offer

Prompt = str | Sequence[int]

CHAT_MAX_TOKENS = 8192
"""Answers of a chat are cut here unless ``max_tokens`` says otherwise: Qwen2.5 was trained for no more."""
THINKING_MAX_TOKENS = 32_768
"""The same for models that think before they answer, as Qwen3's model cards recommend."""
INFILL_MAX_TOKENS = 512
"""The same for what is filled in between two texts."""
MOST_ANSWERS = 1024
"""To one prompt in one call."""


_SAMPLER_SETTINGS = (
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "seed"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "xtc_probability", "xtc_threshold"),
    *("top_n_sigma", "samplers"),
)


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
        is_coder: bool,
        open_session: Callable[[], Session],
        infill: Infill | None = None,
        source: str = "",
        adapters: Collection[str] = (),
    ) -> None:
        """``defaults`` complete the settings of a call, and ``without_thinking`` those of an answer
        that a thinking model is to begin at once. ``context``: the most tokens of one request.
        ``is_coder``: the model was taught to write code rather than to call tools. ``source`` names
        the file in messages."""
        self._tokenizer = tokenizer
        self._texts = TokenTexts(tokenizer)
        self._breakers = Breakers(tokenizer)
        self._template = template
        self._defaults = defaults
        self._without_thinking = without_thinking
        self._context = context
        self._config = config
        self._grammars = grammars
        self._infill, self._source = infill, source
        self._open_session = open_session
        self._adapters = adapters
        self._is_coder = is_coder

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

    def chat_prompt(self, messages: Messages, options: ChatOptions) -> list[int]:
        """The tokens that the request for an answer reads."""
        return self._answering(messages, None, options).tokens

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

    def filling(
        self,
        prefix: str,
        suffix: str,
        params: SamplingParams | None,
        options: InfillOptions,
        deliver: Deliver,
        streaming: bool = False,
    ) -> Generation:
        """What stands between two texts; the arguments as in ``Model.infill``."""
        extras = extras_of(options)
        settings = self._settings(params, sampling_of(options, InfillOptions), extras.format)
        if settings.max_tokens is None:
            settings = settings.replace(max_tokens=INFILL_MAX_TOKENS)
        files = checked_files(options.get("files"))
        names = {name: options.get(name) for name in ("filename", "repository")}
        for name, value in {"prefix": prefix, "suffix": suffix, **names}.items():
            if value is not None or name not in names:
                checked_text(name, value)
        infill = checked_infill(
            self._infill, self._source, with_files=bool(files) or names["filename"] is not None
        )
        tokens = infill.prompt(
            prefix,
            suffix,
            files=files,
            filename=options.get("filename"),
            repository=options.get("repository"),
            room=self._context - min(settings.max_tokens or 0, self._context // 2),
        )
        task = Task(self.checked_ids(tokens), settings, extras, end_ids=infill.end_ids)
        return self._generation(task, deliver, streaming)

    def _continuing(
        self, prompt: Prompt, params: SamplingParams | None, options: GenerateOptions
    ) -> Task:
        if isinstance(prompt, str):
            if not prompt:
                raise ValueError("the prompt is empty; the model needs at least one token")
            prompt = self._tokenizer.encode(prompt, options.get("special", False))
        extras = extras_of(options)
        settings = self._settings(params, sampling_of(options, GenerateOptions), extras.format)
        return Task(self.checked_ids(prompt), settings, extras)

    def _answering(
        self, messages: Messages, params: SamplingParams | None, options: ChatOptions
    ) -> Task:
        overrides = sampling_of(options, ChatOptions)
        extras = extras_of(options)
        settings = self._settings(params, overrides, extras.format)
        said = normalize_messages(messages)
        messages, calls = self._as_written(said)
        check_answer_tokens(messages, self._tokenizer)
        begun = messages[-1] if flag_of(options, "continue_final_message") else None
        chat_template = self._template(options.get("template"))
        offer = self._offer(options, chat_template, begun=begun is not None)
        if offer is not None:
            described = chat_template.describes_tools
            messages = offer.messages(
                messages, calls=calls, describe=not described, encode=self._encode
            )
        rendered = chat_template.render(
            messages,
            tools=offer.specs() if offer is not None else None,
            add_generation_prompt=begun is None,
            continue_final_message=begun is not None,
            template_variables=options.get("template_variables"),
        )
        tokens = self.checked_ids(self._tokenizer.encode_segments(rendered.segments))
        reasons = is_thinking(chat_template.source)
        may_think = reasons and not is_closed(rendered.text)
        if offer is not None or (reasons and not may_think):
            defaults = self._without_thinking if reasons and not may_think else None
            settings = self._settings(
                params, overrides, extras.format, defaults, calls=offer is not None
            )
        in_reasoning = reasons and is_open(rendered.text)
        if begun is not None:  # what goes on with an answer thinks no more
            reasons = in_reasoning = may_think = reasons and is_inside(begun["content"])
            if not rendered.text.endswith(begun["content"]):  # the template drops white space
                begun = {**begun, "content": begun["content"].rstrip()}
        return Task(
            tokens,
            settings,
            extras,
            is_chat=True,
            reasons=reasons,
            in_reasoning=in_reasoning,
            begun=begun,
            may_think=may_think,
            offer=offer,
            messages=said[:-1] if begun is not None else said,
        )

    def _as_written(
        self, messages: list[dict[str, Any]]
    ) -> tuple[list[dict[str, Any]], Collection[int]]:
        """Calls of the conversation as the model wrote them, where its tokens are there, and where."""
        if not any("tool_calls" in message and "token_ids" in message for message in messages):
            return messages, ()
        from pyqwen.tools.history import with_calls_as_written

        return with_calls_as_written(messages, self._tokenizer.decode)

    def _offer(self, options: ChatOptions, template: ChatTemplate, *, begun: bool) -> Offer | None:
        """The tools that the answer may call; ``begun``: it goes on with words."""
        tools, choice = options.get("tools"), options.get("tool_choice")
        parallel = options.get("parallel_tool_calls", True)
        if tools is None and choice is None and parallel is True:
            return None
        from pyqwen.tools.offer import read_offer

        writes_tags = "<tool_call>" in template.source and not self._is_coder
        guided = not (writes_tags or begun)
        return read_offer(tools, choice, parallel, guided=guided, is_tag=self._tokenizer.is_marker)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_bos=False)

    def _settings(
        self,
        params: SamplingParams | None,
        overrides: SamplingOptions,
        wanted: ResponseFormat | None,
        defaults: SamplingParams | None = None,
        *,
        calls: bool = False,
    ) -> SamplingParams:
        """Complete the settings of a call; ``calls``: tools are offered."""
        if params is not None and not isinstance(params, SamplingParams):
            raise TypeError(f"params must be SamplingParams, not {type(params).__name__}")
        given = (params or SamplingParams()).replace(**overrides)
        defaults = defaults or self._defaults
        if wanted is None and not calls:
            return given.over(defaults)
        from pyqwen.engine.constraining import constrained, without_penalties

        if wanted is None:
            return given.over(without_penalties(defaults))

        return constrained(given, defaults, wanted)

    def _answers(
        self, task: Task, delivers: Sequence[Deliver], streaming: bool
    ) -> list[Generation]:
        """A request for each of ``delivers``, number i with the seed of the first plus i."""
        if task.extras.session is not None:
            raise ValueError("a session has one answer: ask for several without it")
        seed = task.settings.seed
        if seed is None:
            seed = SystemRandom().getrandbits(64)
        shared = SharedPrompt()
        requests: list[Generation] = []
        for i, deliver in enumerate(delivers):
            settings = task.settings.replace(seed=(seed + i) % 2**64)
            # Each has its own list of tokens, which grows.
            extras = task.extras._replace(prompt_logprobs=task.extras.prompt_logprobs and i == 0)
            own = task._replace(tokens=list(task.tokens), settings=settings, extras=extras)
            request = self._generation(own, deliver, streaming)
            request.shared = shared
            if requests:
                request.prompt_scores = requests[0].prompt_scores
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
        wanted = task.extras.format
        sampler = self._sampler(settings, wanted is not None)
        reasoning = ReasoningStream(is_open=task.in_reasoning) if task.reasons else None
        calls = None
        if task.offer is not None:
            calls = task.offer.scanner(settings.seed, task.tokens)
        request = Generation(
            task.tokens,
            deliver,
            settings=settings,
            sampler=sampler,
            texts=self._texts,
            end_ids=self._tokenizer.eog_ids | task.end_ids,
            context=self._context,
            is_chat=task.is_chat,
            streaming=streaming,
            parts=AnswerParts(reasoning, calls),
        )
        if task.offer is not None:
            self._bind_calls(request, task, task.offer)
        elif wanted is not None:
            from pyqwen.engine.constraining import constrain

            constrain(request, wanted, self._grammars(), self._tokenizer, task)
        request.begun = task.begun
        request.adapter = checked_names(task.extras.adapters, self._adapters)
        if task.extras.session is not None:
            if request.adapter is not None and isinstance(task.extras.session, Path):
                raise ValueError("a session's file cannot hold what was read with an adapter")
            use_session(request, task.extras.session, self._open_session, task.messages)
        request.timeout = task.extras.timeout
        if task.extras.prompt_logprobs:
            request.prompt_scores = self._prompt_scores(task)
        process = task.extras.logits_processor
        if process is not None:
            scorer = self._scorer(settings)
            request.processed = ProcessedDraw(process, sampler, scorer, self._config.vocab_rows)
        return request

    def _bind_calls(self, request: Generation, task: Task, offer: Offer) -> None:
        from pyqwen.engine.constraining import constrain
        from pyqwen.tools.guiding import CallsFormat

        thinking: Thinking = None  # which this grammar has a place for
        if task.may_think:
            thinking = "open" if task.in_reasoning else "possible"
            task = task._replace(may_think=False, begun=None)
        wanted = CallsFormat(offer, thinking, task.extras.format)
        constrain(request, wanted, self._grammars(), self._tokenizer, task)

    def _scorer(self, settings: SamplingParams) -> _native.SamplerHandle:
        """What reports the model's own log-probabilities of given tokens."""
        return self._sampler(
            NEUTRAL.replace(logprobs=True, top_logprobs=settings.top_logprobs, seed=0)
        )

    def _prompt_scores(self, task: Task) -> PromptScores:
        tokens = task.tokens
        if max(tokens) >= self._config.real_tokens:
            raise ValueError(
                f"token id {max(tokens)} is padding, which has no probability: leave prompt_logprobs out"
            )
        return PromptScores(list(tokens), self._scorer(task.settings), self._texts.describe)

    def _sampler(
        self, settings: SamplingParams, spare_structure: bool = False
    ) -> _native.SamplerHandle:
        """``spare_structure``: penalties are not for the tokens that JSON is structured with."""
        penalties = ("repetition_penalty", "presence_penalty", "frequency_penalty")
        spare_structure &= bool(settings.dry_multiplier) or any(
            getattr(settings, name) != getattr(NEUTRAL, name) for name in penalties
        )
        given = {name: getattr(settings, name) for name in _SAMPLER_SETTINGS}
        breakers = None
        if settings.dry_multiplier:
            texts = settings.dry_breakers
            breakers = self._breakers.of(DRY_BREAKERS if texts is None else tuple(texts))
        return _native.SamplerHandle(
            self._config.real_tokens,
            **{name: value for name, value in given.items() if value is not None},
            breakers=breakers,
            logit_bias=dict(settings.logit_bias or {}),
            want_logprob=bool(settings.logprobs or settings.top_logprobs),
            top=settings.top_logprobs or 0,
            unpenalized=self._grammars().structural_tokens() if spare_structure else None,
        )

    @staticmethod
    def checked_count(n: int) -> int:
        """How many answers are wanted; ``ValueError`` or ``TypeError`` where it cannot be."""
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"n must be an integer, not {type(n).__name__}")
        if not 1 <= index(n) <= MOST_ANSWERS:
            raise ValueError(f"n must be from 1 to {MOST_ANSWERS:,} answers, not {index(n)}")
        return index(n)

    def checked_adapter(self, adapter: Any) -> _native.Adapters | None:
        """What an option ``adapter`` asks for; ``ValueError`` or ``TypeError`` where it cannot be."""
        return checked_names(adapters_of(adapter), self._adapters)

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
                f"prompt{longer if self._context < trained else ''}",
                tokens=len(tokens),
                context=self._context,
            )
        return tokens
