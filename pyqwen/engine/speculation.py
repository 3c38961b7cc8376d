"""Whether drafts pay: for each request what its guesses were worth, for all together who may guess.

Drafts never change an answer (``step.py``), so all that is decided here is time. A token of a draft is a
row more in the step of everyone, and saves its request a step if it is right. How likely that is, is
counted per request, also of guesses that were not run; what a row costs, is measured (``step_costs.py``).
Rows are given to the likeliest guesses first, as many as make the most tokens per second of all requests
together. On top of that each request has an account: what its drafts cost, less what they saved, may never
exceed ``_LOSS`` of its steps, so that wrong expectations cost no more than that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from pyqwen.engine.ngrams import Match, NgramIndex, RecentAnswers
from pyqwen.engine.step_costs import MOST_ROWS, TRUSTED_STEPS, StepCosts
from pyqwen.errors import PyQwenError

if TYPE_CHECKING:
    from pyqwen._native import Progress
    from pyqwen.engine.draft_model import DraftModel, DraftText
    from pyqwen.engine.step import Step

_log = logging.getLogger("pyqwen")

_LOSS = 0.02  # of the steps of a request that its drafts may cost in vain
_ADVANCE = 0.5  # steps that they may cost before anything is known
_MOST_CREDIT = 8.0  # steps saved that are remembered
_LEAST_GAIN = 1.02  # tokens per second with a draft, over those without
_MODEL_COST = (
    0.2  # by so much more must a model's guess be likely than what is looked up for nothing
)
_BESIDE_LOSS = 0.10  # of the speed of a request to the drafts of others
_CHECK_STEPS = 64  # after so many steps with drafts one without, to know what it costs
_LONGEST = MOST_ROWS - 1  # tokens of a draft

# Chances that a guessed token is right, by how it was found, before anything is known: in a text that came
# back to its path by 1, 2, 3 tokens, where 3, 4 to 5, 6 to 9, 10 to 15, 16 or more agree; by a model.
_RETURNED, _AGREES, _BY_MODEL = 0, 3, 8
_FIRST_CHANCES = (0.45, 0.6, 0.75, 0.35, 0.5, 0.7, 0.85, 0.92, 0.65)
_FIRST_WEIGHT = 4.0  # guesses that these count for
_MEMORY = 60.0  # guesses of a kind that are remembered


def _kind_of(length: int, returned: bool) -> int:
    if returned and length <= 3:
        return _RETURNED + length - 1
    if length >= 10:
        return _AGREES + 3 + (length >= 16)
    return _AGREES + (length >= 4) + (length >= 6)


class _Chances:
    """How often guesses of each kind were right."""

    def __init__(self, expected: Sequence[float], weight: float, memory: float) -> None:
        self._right = [chance * weight for chance in expected]
        self._tried = [weight] * len(expected)
        self._memory = memory

    def __getitem__(self, kind: int) -> float:
        return self._right[kind] / self._tried[kind]

    def note(self, kind: int, right: bool) -> None:
        tried, was_right = self._tried[kind] + 1.0, self._right[kind] + right
        if tried > self._memory:
            fade = self._memory / tried
            tried, was_right = self._memory, was_right * fade
        self._tried[kind], self._right[kind] = tried, was_right


class Guess:
    """What a request could draft now: how likely each token is, given those before it."""

    __slots__ = ("by_model", "chances", "tokens")

    def __init__(self, chances: list[float], tokens: list[int], by_model: bool) -> None:
        self.chances, self.tokens, self.by_model = chances, tokens, by_model


class Speculation:
    """The drafts of one request, a ``step.Draft``: it proposes what it was allowed last."""

    def __init__(self, tokens: list[int], shared: Speculator) -> None:
        """``tokens``: the request's own list, to which the answer is added."""
        self.tokens = tokens
        self.steps = 0
        self.proposed = self.accepted = 0
        self.account = 0.0  # steps lost
        self._shared = shared
        self._prompt_length = len(tokens)
        self._index = NgramIndex(tokens) if shared.looks_up else None
        self._chances = shared.chances_of_request()
        self._guessed: list[int] = []  # with the kind of each, behind the text of `_at` tokens
        self._kinds: list[int] = []
        self._at = len(tokens)
        self._place: Match | None = None  # of the last guess
        self._left: tuple[NgramIndex, int] | None = None  # where the text left what it followed
        self._left_at = 0
        self._draft: list[int] = []
        self._cost = 0.0  # that was charged for it
        self._reading = 0.0  # steps that the first reading of a model cost
        self.model_text: DraftText | None = None

    def propose(self, tokens: list[int]) -> list[int]:
        """The tokens that were allowed; none if others were written since."""
        return self._draft if len(tokens) == self._at else []

    @property
    def is_drafting(self) -> bool:
        """Whether there is something to propose."""
        return bool(self._draft) and len(self.tokens) == self._at

    @property
    def has_guess(self) -> bool:
        """Whether anything was found that could be drafted now, worth it or not."""
        return bool(self._kinds)

    def counts(self) -> tuple[int, int]:
        """How many tokens were drafted and run so far, and how many of them were right."""
        draft = self._draft if len(self.tokens) > self._at else []  # what became of it is known
        right = 0
        while right < min(len(draft), len(self.tokens) - self._at):
            if draft[right] != self.tokens[self._at + right]:
                break
            right += 1
        return self.proposed - len(self._draft) + len(draft), self.accepted + right

    @property
    def may_lose(self) -> bool:
        """Whether its drafts have not cost too much yet."""
        return self.account < _ADVANCE + self._reading + _LOSS * self.steps

    def guess(self, most: int) -> Guess | None:
        """Return what could be drafted, at most ``most`` tokens, after noting what became of the last."""
        self._settle()
        self._at = len(self.tokens)
        self._draft, self._guessed, self._kinds, self._cost = [], [], [], 0.0
        looked_up = self._look_up(most)
        model = self._shared.model
        if model is None:
            return looked_up
        chance = self._chances[_BY_MODEL]
        if looked_up is not None and looked_up.chances[0] >= chance - _MODEL_COST:
            return looked_up
        self._guessed = []
        self._kinds = [_BY_MODEL] * min(most, model.longest)
        return Guess([chance] * len(self._kinds), [], by_model=True)

    def draft(self, guess: Guess, n: int, cost: float) -> None:
        """Propose the first ``n`` tokens of a guess, which will cost so many steps."""
        self._cost = cost
        self.account += cost
        self._draft = guess.tokens[:n]
        if guess.by_model:
            self._guessed = list(self._draft)
        self.proposed += len(self._draft)

    def charge(self, steps: float, *, is_first: bool = False) -> None:
        """A model took so many steps' time; the first time it had to read, which pays later."""
        self.account += steps
        if is_first:
            self._reading = steps

    def ended(self) -> None:
        """The answer is complete."""
        self._settle()
        if self.model_text is not None:
            self.model_text.close()

    @property
    def answer(self) -> list[int]:
        return self.tokens[self._prompt_length :]

    def _settle(self) -> None:
        """Note which guesses were right, those that were not run, too."""
        tokens, at = self.tokens, self._at
        written = len(tokens) - at
        if not written:  # the step did not run
            self.account -= self._cost
            self.proposed -= len(self._draft)
            return
        right = 0
        for i, (guess, kind) in enumerate(zip(self._guessed, self._kinds, strict=False)):
            if i >= written:
                break
            is_right = guess == tokens[at + i]
            self._chances.note(kind, is_right)
            self._shared.chances.note(kind, is_right)
            if not is_right:
                break
            right += 1
        saved = min(right, len(self._draft))
        self.steps += max(written - saved, 1)
        self.accepted += saved
        self.account = max(self.account - saved, -_MOST_CREDIT)
        if self._place is not None and right < min(written, len(self._guessed)):
            self._left = (self._place.source, self._place.at + right)
            self._left_at = at + right

    def _look_up(self, most: int) -> Guess | None:
        if self._index is None:
            return None
        self._index.index_to(len(self.tokens) - 1)
        match = self._index.find(self.tokens)
        returned = False
        if match is None or match.length < 2 * 3:
            recent = self._shared.recent.find(self.tokens)
            if recent is not None and (match is None or recent.length > match.length):
                match = recent
        if match is None and self._left is not None:
            index, at = self._left
            if len(self.tokens) - self._left_at <= 12:
                match = index.return_to(self.tokens, at)
                returned = match is not None
            else:
                self._left = None
        self._place = match
        if match is None:
            return None
        guessed = match.source.following(match.at, most)
        if -1 in guessed:  # the end of an earlier answer
            guessed = guessed[: guessed.index(-1)]
        if not guessed:
            return None
        self._guessed = guessed
        self._kinds = [_kind_of(match.length + i, returned) for i in range(len(guessed))]
        return Guess([self._chances[kind] for kind in self._kinds], guessed, by_model=False)


class Writer(Protocol):
    """What is known of a request here."""

    tokens: list[int]
    speculation: Speculation | None

    @property
    def drafts(self) -> bool:
        """Whether drafts may save it steps."""

    @property
    def most_drafted(self) -> int:
        """How many tokens may be drafted before the answer is as long as it may be."""


class Speculator:
    """Who may draft, and how much: one for an engine, whose worker is the only user."""

    def __init__(
        self, *, looks_up: bool, open_model: Callable[[Progress | None], DraftModel] | None = None
    ) -> None:
        """``open_model(progress)`` opens the model that drafts, now and after each ``unload``."""
        self.looks_up = looks_up
        self._open_model = open_model
        self.drafts = looks_up or open_model is not None
        self.model = open_model(None) if open_model is not None else None
        self.costs = StepCosts()
        self.chances = _Chances(_FIRST_CHANCES, 2 * _FIRST_WEIGHT, 500.0)
        self.recent = RecentAnswers()
        self._steps_with_drafts = 0

    def chances_of_request(self) -> _Chances:
        """What to expect of a new request: what was seen of others, never quite hopeless."""
        pairs = enumerate(_FIRST_CHANCES)
        expected = [max(self.chances[kind], 0.3 * first) for kind, first in pairs]
        return _Chances(expected, _FIRST_WEIGHT, _MEMORY)

    def begin(self, request: Writer) -> None:
        """Let a request draft, if it writes."""
        if self.drafts and request.drafts:
            request.speculation = Speculation(request.tokens, self)

    def ended(self, request: Writer) -> None:
        """A request is over: remember its answer."""
        speculation, request.speculation = request.speculation, None
        if speculation is not None:
            speculation.ended()
            if self.looks_up and (answer := speculation.answer):
                self.recent.add(answer)

    def cancel(self, on: bool = True) -> None:
        """Stop a model that drafts, or let it go on; any thread may call this."""
        model = self.model
        if model is not None:
            model.cancel(on)

    def unload(self) -> None:
        """Free the model that drafts; may be called twice."""
        model, self.model = self.model, None
        if model is not None:
            model.close()

    def load(self, progress: Progress) -> None:
        """Bring it back. If it cannot be had any more, answers are the same without.

        ``progress`` returning False stops that, too.
        """
        if self._open_model is not None and self.model is None:
            try:
                self.model = self._open_model(progress)
            except (PyQwenError, OSError) as error:
                _log.warning("answers are written without a draft model: %s", error)

    def note_cost(self, work: Sequence[tuple[Writer, Step]], seconds: float) -> None:
        """Steps that were run together took this long; those that write only are of interest."""
        rows = sum([len(step.tokens) for _, step in work])
        if rows == sum([sum(step.outputs) for _, step in work if step.run is not None]):
            self.costs.note(rows, max([len(writer.tokens) for writer, _ in work]), seconds)

    def allot(self, requests: Sequence[Writer], room: int, beside: int) -> None:
        """Let those of ``requests``, which all write, draft that gain by it.

        ``room``: rows of the batch; ``beside``: rows of prompts that are read in the same step.
        """
        n = len(requests)
        most = min(_LONGEST, MOST_ROWS - n, room - n - beside)
        depth = max([len(request.tokens) for request in requests])
        guesses = []
        for request in requests:
            speculation = request.speculation
            if speculation is not None:
                wanted = min(most, request.most_drafted)
                guess = speculation.guess(max(wanted, 1))
                if guess is not None and wanted > 0 and speculation.may_lose:
                    guesses.append((speculation, guess))
        if guesses:
            self._draft(guesses, n, beside, depth)

    def _draft(
        self, guesses: list[tuple[Speculation, Guess]], n: int, beside: int, depth: int
    ) -> None:
        seconds = self._seconds(n + beside, min(MOST_ROWS - n, _LONGEST), depth)
        if seconds[0] <= 0.0:
            return
        if self._steps_with_drafts >= _CHECK_STEPS and self.costs.is_stale(n, depth, _CHECK_STEPS):
            self._steps_with_drafts = 0
            return
        if not beside:
            seconds = seconds[: max(self.costs.most_to_try(depth) - n, 1) + 1]
        if n > len(guesses) and not self.costs.is_stale(n + beside + 1, depth, TRUSTED_STEPS):
            slowest = (1.0 + _BESIDE_LOSS) * seconds[0]  # else one row is tried
            seconds = [second for second in seconds if second <= slowest]
        elif n > len(guesses):
            seconds = seconds[:2]
        counts = self._best(guesses, n, seconds)
        rows = sum(counts)
        if not rows:
            return
        self._steps_with_drafts += 1
        lost = n * (seconds[rows] / seconds[0] - 1.0)  # tokens that all could have written instead
        for (speculation, guess), count in zip(guesses, counts, strict=True):
            if count:
                if guess.by_model:
                    self._ask_model(speculation, guess, count, n / seconds[0])
                speculation.draft(guess, count, lost * count / rows)

    def _seconds(self, rows: int, more: int, depth: int) -> list[float]:
        """What steps of ``rows`` rows take, and of up to ``more`` further ones."""
        if rows + more <= MOST_ROWS:
            return self.costs.curve(depth)[rows : rows + more + 1]
        return [self.costs.seconds(rows + i, depth) for i in range(more + 1)]

    def _best(
        self, guesses: list[tuple[Speculation, Guess]], n: int, seconds: list[float]
    ) -> list[int]:
        """How many tokens each may draft: those that make the most tokens per second of all."""
        counts = [0] * len(guesses)
        best = counts
        chances = [guess.chances[0] for _, guess in guesses]  # of the next token of each, from here
        drafting = self.model.token_seconds if self.model is not None else 0.0
        base = n / seconds[0]
        best_rate = _LEAST_GAIN * base
        tokens, by_model = float(n), 0
        for rows in range(1, len(seconds)):
            i = max(range(len(chances)), key=chances.__getitem__)
            if chances[i] < 0.02:
                break
            guess = guesses[i][1]
            tokens += chances[i]
            by_model += guess.by_model
            counts = [*counts]
            counts[i] += 1
            at = counts[i]
            chances[i] *= guess.chances[at] if at < len(guess.chances) else 0.0
            duration = seconds[rows] + by_model * drafting
            if tokens / duration > best_rate:
                best_rate, best = tokens / duration, counts
        return best

    def _ask_model(
        self, speculation: Speculation, guess: Guess, n: int, tokens_per_second: float
    ) -> None:
        assert self.model is not None
        is_first = speculation.model_text is None
        if speculation.model_text is None:
            speculation.model_text = self.model.begin(speculation.tokens)
        if speculation.model_text is not None:
            guess.tokens, seconds = speculation.model_text.propose(n)
            speculation.charge(seconds * tokens_per_second, is_first=is_first)
