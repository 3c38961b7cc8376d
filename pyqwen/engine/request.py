"""One request on its way through the engine: what it has read and written, and what it needs next.

A request knows its own text, limits and results. It knows nothing of batches, threads or of the
other requests; the engine's worker is the only one who calls it after it was submitted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from pyqwen._native import Draw, Run, Sample
from pyqwen.engine.answer_parts import AnswerParts, Piece
from pyqwen.engine.logits_processing import ProcessedDraw
from pyqwen.engine.prompt_scores import PromptScores
from pyqwen.engine.shared_prompt import SharedPrompt
from pyqwen.engine.step import Constraint, Draft, Step, plan_run
from pyqwen.errors import CancelledError
from pyqwen.results import (
    ChatCompletion,
    Chunk,
    Completion,
    FinishReason,
    Timings,
    TokenLogprob,
    Usage,
)
from pyqwen.text.text_stream import TextStream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen._native import Adapters, SamplerHandle, SessionHandle
    from pyqwen.engine.hold import Hold
    from pyqwen.engine.slot import Slot
    from pyqwen.engine.speculation import Speculation
    from pyqwen.sampling import SamplingParams
    from pyqwen.text.tokenizer import Tokenizer


_MORE_BEFORE_A_DRAFT = 3  # tokens that are written at once where drafts are looked up


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """``done`` of ``total`` tokens of the prompt are read."""

    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request that writes nothing ends with."""

    value: Any


Event: TypeAlias = (
    "Chunk | PromptProgress | Completion | Outcome | npt.NDArray[np.float32] | BaseException"
)
Deliver = Callable[[Event], None]
"""Called by the engine's thread with each event, in order; must not block."""
Conclusion = Callable[[Completion], Completion]
"""Makes something more of a whole answer; may take a while, and raise."""
NO_PIECE = Piece()
Outbox = list[tuple["Request", Event]]
"""Events that the engine will deliver when it has the time."""


class Request(ABC):
    """What all requests have in common: tokens to run through one sequence of the session.

    ``tokens`` is everything known of the sequence; those that its slot does not hold yet are run
    next. The engine asks for the ``next`` step, runs it and calls ``advance``; a step that could not
    be run is asked for again. The request is over once an event other than a chunk or progress was
    delivered.
    """

    leaves_cache = True  # whether what it leaves in its slot is likely to be of use
    adapter: Adapters | None = None  # whose positions are not those of others
    preparation: Callable[[], None] | None = None  # what takes time before the engine gets it
    abandon: Callable[[], None] | None = None  # ends the preparation, while it lasts
    conclusion: Conclusion | None = None  # what those who wait make of the whole answer
    hold: Hold | None = None  # of the session that has its positions afterwards
    timeout: float | None = None  # seconds

    def __init__(self, tokens: list[int], deliver: Deliver) -> None:
        self.tokens = tokens
        self.deliver = deliver
        self.outbox: Outbox = []  # the engine puts its own here
        self.slot: Slot | None = None
        self.speculation: Speculation | None = None  # the engine's, where it drafts
        self.cancel_requested = False
        self.timed_out = False  # and cancelled therefore
        self.done = False

    @property
    def may_reuse(self) -> bool:
        """Whether positions that are cached already need not be run."""
        return True

    @property
    def salt(self) -> Hashable:
        """What its positions depend on besides tokens: those of another one are not its own."""
        return self.adapter if self.hold is None else self.hold.salt(self.adapter)

    @property
    def may_start(self) -> bool:
        """Whether a slot would be of use now; False while another request does what this one needs."""
        return True

    def started(self) -> None:  # noqa: B027 (nothing to do for most)
        """The request got its slot, which holds the beginning of ``tokens``."""

    @property
    def placed(self) -> Slot:
        """The slot of a request that has one."""
        assert self.slot is not None, "the request has no slot"
        return self.slot

    @property
    def remaining(self) -> int:
        """How many tokens are waiting to be run."""
        return len(self.tokens) - len(self.placed.tokens)

    @property
    def is_reading(self) -> bool:
        """Whether more than one token is waiting: a prompt rather than an answer."""
        return self.remaining > 1

    @property
    def drafts(self) -> bool:
        """Whether it writes, so that guesses of what comes next may save steps."""
        return False

    @property
    def most_drafted(self) -> int:
        """How many tokens may be drafted before the end is reached."""
        return 0

    @abstractmethod
    def next(self, room: int) -> Step:
        """Return what to run next, at most ``room`` tokens (at least 1); changes nothing."""

    @abstractmethod
    def advance(self, samples: Sequence[Sample]) -> Event | None:
        """The step was run, its tokens are in the slot: take what was sampled, in order.

        Returns the last event if the request is over; samples behind the last one that it needs are
        dropped.
        """

    @abstractmethod
    def cancelled(self) -> Event:
        """The last event of a request that its owner cancelled, or whose time is up."""


class TokenTexts:
    """The bytes of tokens as an answer shows them, looked up once each: control tokens show nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.bytes_of = tokenizer.token_bytes
        self.shown: Mapping[int, bytes] = _Shown(tokenizer)

    def feed(self, stream: TextStream, token: int) -> str:
        """Give a stream the next token; return the text that is now certain."""
        shown = self.shown[token]
        if shown:
            return stream.feed(shown)
        return stream.feed_unseen(self.bytes_of(token).decode("utf-8", "replace"))

    def describe(self, sample: Sample) -> TokenLogprob:
        """What results say of a sample."""
        text_of = self.bytes_of
        top = tuple(TokenLogprob(token, text_of(token), value) for token, value in sample.top)
        return TokenLogprob(sample.token, text_of(sample.token), sample.logprob, top)


class _Shown(dict[int, bytes]):
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, token: int) -> bytes:
        is_control = self._tokenizer.is_control(token)
        self[token] = b"" if is_control else self._tokenizer.token_bytes(token)
        return self[token]


class Generation(Request):
    """Writes an answer to a prompt."""

    def __init__(
        self,
        prompt: list[int],
        deliver: Deliver,
        *,
        settings: SamplingParams,
        sampler: SamplerHandle,
        texts: TokenTexts,
        end_ids: frozenset[int],
        context: int,
        is_chat: bool,
        streaming: bool,
        parts: AnswerParts,
    ) -> None:
        """``settings`` are complete: ``seed`` and ``max_tokens`` are numbers."""
        super().__init__(prompt, deliver)
        self._is_chat = is_chat
        self.sampler = sampler
        self._texts = texts
        self._context, self._max_tokens = context, settings.max_tokens or 0
        self._streaming = streaming
        self._seed = settings.seed or 0
        self._stop_ids = frozenset(settings.stop_token_ids or ())
        self._end_ids = self._stop_ids if settings.ignore_eos else self._stop_ids | end_ids
        self._text = TextStream(settings.stop or ())
        self._parts = parts
        self._pending: list[int] = []  # tokens of no chunk yet
        self._logprobs: list[TokenLogprob] | None = [] if sampler.want_logprob else None
        self._sampled = 0
        self._plain_run = Run(sampler, (Draw(0),))
        self.draft: Draft | None = None
        self.constraint: Constraint | None = None  # stands at the beginning of the answer
        self.unenforced: tuple[str, ...] = ()  # of the schema, by the constraint
        self.shared: SharedPrompt | None = None  # with other answers to the same prompt
        self.prompt_scores: PromptScores | None = None
        self.processed: ProcessedDraw | None = None
        self.begun: Mapping[str, Any] | None = None  # the message that the answer goes on with
        self.prompt_length = len(prompt)
        self._unread = len(prompt)
        self.cached = 0
        self._submitted = perf_counter()
        self._start = self._first = self._last = 0.0

    @property
    def has_read(self) -> bool:
        """Whether the whole prompt was read."""
        return self._unread == 0

    @property
    def may_reuse(self) -> bool:
        return self.prompt_scores is None or self.prompt_scores.is_complete

    @property
    def may_start(self) -> bool:
        return self.shared is None or self.shared.may_start(self)

    def started(self) -> None:
        self._start = perf_counter()
        self.cached = len(self.placed.tokens)
        self._max_tokens = min(self._max_tokens, self._context - self.prompt_length)
        if self.prompt_scores is not None and not self.prompt_scores.is_complete:
            self.prompt_scores.restart()
        self.sampler.accept(self.tokens, generated=False)

    @property
    def drafts(self) -> bool:
        return self.processed is None

    @property
    def most_drafted(self) -> int:
        return self._max_tokens - (len(self.tokens) - self.prompt_length) - 1

    @property
    def _is_drafting(self) -> bool:
        return self.speculation is not None and self.speculation.is_drafting

    def next(self, room: int) -> Step:
        first = len(self.placed.tokens)
        tokens = self.tokens[first : first + room]
        n = len(tokens)
        scores = self.prompt_scores
        if scores is not None and not scores.is_complete:
            del tokens[self.prompt_length - 1 - first :]  # after the last one nothing is scored
            return Step(tokens, [1] * len(tokens), read=scores.read)
        if first + n < len(self.tokens) or self._max_tokens == 0:
            return Step(tokens, [0] * n)
        if self.processed is not None:
            return Step(tokens, [0] * (n - 1) + [1], read=self._draw_processed)
        draft = self.draft or (self.speculation if self._is_drafting else None)
        if draft is None and self.constraint is None:
            if n > 1:
                return Step(tokens, [0] * (n - 1) + [1], self._plain_run)
            more = self.most_drafted if self._sampled else 0  # the first token is waited for
            if self.speculation is not None:  # which has to look now and then what it could draft
                more = 0 if self.speculation.has_guess else min(more, _MORE_BEFORE_A_DRAFT)
            return Step(tokens, [1], self._plain_run, more=more, end_ids=self._end_ids)
        wants_logprobs = self._logprobs is not None
        draws, proposals = plan_run(
            self.tokens,
            min(room - n, self.most_drafted),
            draft=draft,
            constraint=self.constraint,
            end_ids=self._end_ids,
            wants_logprobs=wants_logprobs,
        )
        outputs = [0] * (n - 1) + [int(wants_logprobs or not draw.forced) for draw in draws]
        return Step(tokens + proposals, outputs, Run(self.sampler, draws), len(proposals))

    def _draw_processed(self, session: SessionHandle, output: int, index: int, n: int) -> None:
        assert self.processed is not None
        self.processed.draw(session, output, self.tokens, self.constraint)

    def advance(self, samples: Sequence[Sample]) -> Event | None:
        if self._unread:
            self._note_prompt()
            if self._unread == 0 and self._max_tokens == 0:
                self._first = perf_counter()
                return self._completion("length")
        if self.processed is not None:
            samples = self.processed.take()
        for sample in samples:
            event = self._take(sample)
            if event is not None:
                return event
        return self._take_forced_end() if self.constraint is not None and samples else None

    def _take_forced_end(self) -> Event | None:
        """Take what is left of the answer, if there is only one way to end it: without running the model."""
        assert self.constraint is not None
        if self._logprobs is not None:
            return None
        rest = self.constraint.forced()
        if not rest:
            return None
        for token in rest:
            self.constraint.accept(token)
        is_all = self.constraint.finished()
        self.constraint.rewind(len(rest))
        if not is_all:
            return None
        for token in rest:
            event = self._take(Sample(token, 0.0, []))
            if event is not None:
                return event
        raise AssertionError("the constraint had finished")

    def _note_prompt(self) -> None:
        """A part of the prompt was read: tell."""
        done = min(len(self.placed.tokens), self.prompt_length)
        self._unread = self.prompt_length - done
        if self._streaming and (self._unread or self._max_tokens):
            self.outbox.append((self, PromptProgress(done, self.prompt_length)))

    def _take(self, sample: Sample) -> Event | None:
        """Take the next token; return the completion if it is the last."""
        token = sample.token
        self._last = perf_counter()
        if self._sampled == 0:
            self._first = self._last
        self._sampled += 1
        if token in self._end_ids:
            return self._completion("stop", stop_reason=token if token in self._stop_ids else None)
        self.tokens.append(token)
        self._pending.append(token)
        if self.constraint is not None:
            self.constraint.accept(token)
        if self._logprobs is not None:
            self._logprobs.append(self._texts.describe(sample))
        piece = self._parts.add(self._texts.feed(self._text, token))
        if self._text.matched_stop is not None:
            return self._completion("stop", piece, self._text.matched_stop)
        if self._parts.is_over or (self.constraint is not None and self.constraint.finished()):
            return self._completion("stop", piece)
        if len(self.tokens) - self.prompt_length >= self._max_tokens:
            return self._completion("length", piece)
        if any(piece) and self._streaming:
            self._send(piece, None)
        return None

    def cancelled(self) -> Event:
        return self._completion("timeout" if self.timed_out else "cancelled")

    def _completion(
        self,
        reason: FinishReason,
        unsent: Piece = NO_PIECE,
        stop_reason: str | int | None = None,
    ) -> Completion:
        """The whole answer; its last chunk is sent before it."""
        parts = self._parts
        rest = parts.add(self._text.flush(), is_end=True)
        if parts.calls and reason == "stop":
            reason = "tool_calls"
        if self._streaming:
            self._send(unsent + rest, reason)
        written = self.tokens[self.prompt_length :]
        thoughts = parts.reasoning_tokens(written, self._texts.shown)
        usage = Usage(self.prompt_length, len(written), self.cached, thoughts)
        timings = self._timings()
        facts = (
            parts.text,
            written,
            reason,
            usage,
            timings,
            self._logprobs,
            self._seed,
            stop_reason,
        )
        scores = self.prompt_scores
        further: dict[str, Any] = {
            "unenforced": self.unenforced,
            "prompt_logprobs": scores.entries if scores and scores.is_complete else None,
        }
        if not self._is_chat:
            return Completion(*facts, **further)
        ids = parts.content_ids(written, self._texts.shown)
        calls = list(parts.calls)
        return ChatCompletion(*facts, ids, parts.reasoning, self.begun, calls, **further)

    def _send(self, piece: Piece, reason: FinishReason | None) -> None:
        ids, self._pending = self._pending, []
        logprobs = None
        if self._logprobs is not None:
            logprobs = self._logprobs[len(self._logprobs) - len(ids) :]
        self.outbox.append(
            (self, Chunk(piece.text, ids, reason, logprobs, piece.reasoning, list(piece.calls)))
        )

    def _timings(self) -> Timings:
        start = self._start or perf_counter()
        prompt = max(self._first - start, 0.0)
        decode = self._last - self._first if self._sampled else 0.0
        drafted, accepted = (0, 0) if self.speculation is None else self.speculation.counts()
        return Timings(
            queue_seconds=start - self._submitted,
            prompt_seconds=prompt,
            first_token_seconds=self._first - self._submitted if self._sampled else None,
            decode_seconds=decode,
            prompt_tokens_per_second=_rate(self.prompt_length - self.cached, prompt),
            decode_tokens_per_second=_rate(self._sampled - 1, decode),
            drafted=drafted,
            accepted=accepted,
        )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0


class Scoring(Request):
    """Evaluates given tokens and keeps numbers about every position, made a few rows at a time."""

    leaves_cache = False  # scored texts are seldom continued

    def __init__(
        self,
        tokens: list[int],
        deliver: Deliver,
        *,
        targets: list[int] | None = None,
        logits: npt.NDArray[np.float32] | None = None,
        hidden: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Fills ``logits`` (len(tokens), vocab_rows) or the final states ``hidden`` (len(tokens), hidden),
        or else scores one target per token."""
        import numpy as np  # which plain answers do without

        super().__init__(tokens, deliver)
        self._targets = targets
        self._logits, self._hidden = logits, hidden
        self._result = np.empty(len(tokens), np.float32)
        self._first = 0  # position of the step's first token

    @property
    def may_reuse(self) -> bool:
        return False  # the outputs of positions that are cached are gone

    def next(self, room: int) -> Step:
        self._first = len(self.placed.tokens)
        tokens = self.tokens[self._first : self._first + room]
        return Step(tokens, [1] * len(tokens), read=self._read)

    def advance(self, samples: Sequence[Sample]) -> Event | None:
        if self.remaining:
            return None
        results = (self._logits, self._hidden, self._result)
        return next(result for result in results if result is not None)

    def _read(self, session: SessionHandle, output: int, index: int, n: int) -> None:
        start = self._first + index
        here = slice(start, start + n)
        if self._logits is not None:
            session.logits(output, n, self._logits[here])
        elif self._hidden is not None:
            session.hidden(output, n, self._hidden[here])
        elif self._targets is not None:
            self._result[here] = session.logprobs(output, self._targets[here])

    def cancelled(self) -> Event:
        return CancelledError("the evaluation was cancelled")
