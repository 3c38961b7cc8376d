"""The explicit state of a ``Llama``: tokens that were evaluated, and tokens drawn after them.

A state here is a list of tokens. What is computed for them is held by a ``pyqwen.Session`` that is brought up
to date when it is needed: so nothing can be stale, and calls that need no such state pay nothing for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from operator import index
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from pyqwen.compat.base import TokensOfFile
from pyqwen.compat.llama_grammar import constraint_of
from pyqwen.compat.processors import Watch
from pyqwen.compat.sampling import Seeds, checked_seed, sampling_options
from pyqwen.errors import ContextOverflowError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen.compat.llama_grammar import LlamaGrammar
    from pyqwen.engine.session import Session
    from pyqwen.options import GenerateOptions


class LlamaState:
    """What ``Llama.save_state`` returns. It can be pickled."""

    def __init__(
        self,
        input_ids: npt.NDArray[np.intc],
        scores: npt.NDArray[np.single],
        n_tokens: int,
        llama_state: bytes,
        llama_state_size: int,
        seed: int,
    ) -> None:
        self.input_ids = input_ids
        self.scores = scores
        self.n_tokens = n_tokens
        self.llama_state = llama_state
        self.llama_state_size = llama_state_size
        self.seed = seed


class State(TokensOfFile):
    """A part of :class:`pyqwen.compat.Llama`."""

    _seeds: Seeds
    _tokens: list[int]
    _logits_all: bool
    _session: Session | None

    @property
    def n_tokens(self) -> int:
        """How many tokens were evaluated. Setting a smaller number takes the last ones back."""
        return len(self._tokens)

    @n_tokens.setter
    def n_tokens(self, count: int) -> None:
        if not 0 <= index(count) <= len(self._tokens):
            raise ValueError(f"n_tokens can be set from 0 to {len(self._tokens)}, not to {count}")
        self._tokens = self._tokens[:count]

    @property
    def input_ids(self) -> npt.NDArray[np.intc]:
        """A new array of ``n_ctx`` ids that begins with the evaluated tokens; the rest is 0."""
        import numpy as np

        ids = np.zeros(self.n_ctx(), np.intc)
        ids[: len(self._tokens)] = self._tokens
        return ids

    @property
    def _input_ids(self) -> npt.NDArray[np.intc]:
        import numpy as np

        return np.asarray(self._tokens, np.intc)

    @property
    def scores(self) -> npt.NDArray[np.single]:
        """The logits after the evaluated tokens, float32 (``n_tokens``, ``n_vocab``), made now.

        With ``logits_all=True`` after every one of them, which are computed again; else after the last,
        and the other rows are 0.
        """
        import numpy as np

        if self._logits_all and self._tokens:
            return self.pyqwen_model.logits(self._tokens, **self._adapter)
        logits = np.zeros((len(self._tokens), self.n_vocab()), np.float32)
        if self._tokens:
            logits[-1] = self._held().logits
        return logits

    _scores = scores

    @property
    def eval_tokens(self) -> deque[int]:
        """The evaluated tokens."""
        return deque(self._tokens, maxlen=self.n_ctx())

    @property
    def eval_logits(self) -> deque[list[float]]:
        """The rows of ``scores`` as lists: all with ``logits_all=True``, else the last."""
        if self._logits_all or not self._tokens:
            return deque(self.scores.tolist())
        return deque([self._held().logits.tolist()], maxlen=1)

    def set_seed(self, seed: int) -> None:
        """Set the seed from which calls without one take theirs; -1 for random ones."""
        self._seeds.seed = checked_seed(seed)

    def reset(self) -> None:
        """Forget what was evaluated."""
        self._tokens = []
        if self._session is not None:
            self._session.close()

    def _held(self) -> Session:
        """The session, which holds exactly the evaluated tokens, of which there is one at least."""
        if self._session is None or self._session.closed:
            self._session = self.pyqwen_model.session(**self._adapter)
        self._session.sync(self._tokens)
        return self._session

    def eval(self, tokens: Sequence[int]) -> None:
        """Go on with tokens. ``ContextOverflowError`` if they do not fit."""
        before = self._tokens
        both = [*before, *_checked_ids(tokens, self.n_vocab())]
        check_room(len(both), self.n_ctx(), allow_full=True)
        if len(both) > len(before):
            try:
                self._tokens = both
                self._held()
            except BaseException:
                self._tokens = before
                raise

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        idx: int | None = None,
    ) -> int:
        """Draw the token that follows the evaluated ones, or the first ``idx + 1`` of them.

        The seed of a draw is made of ``set_seed``'s and its place, so that the same state gives the same
        token. A grammar begins at this token.
        """
        place = len(self._tokens) if idx is None else index(idx) + 1
        if not 0 < place <= len(self._tokens):
            raise ValueError(
                f"there is no place {place - 1} to draw at: {len(self._tokens)} tokens are evaluated"
            )
        options = self._drawing(
            sampling_options(
                temperature=temp,
                top_p=top_p,
                min_p=min_p,
                typical_p=typical_p,
                top_k=top_k,
                frequency_penalty=frequency_penalty,
                presence_penalty=presence_penalty,
                repeat_penalty=repeat_penalty,
                tfs_z=tfs_z,
                mirostat_mode=mirostat_mode,
            ),
            grammar,
            Watch(logits_processor, None, self.n_vocab()),
        )
        options["seed"] = self._seeds.at(place)
        options["max_tokens"] = 1
        done = self.pyqwen_model.generate(self._tokens[:place], **options)
        if not done.token_ids:  # a grammar has nothing that follows
            return self.token_eos()
        return done.token_ids[0]

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        grammar: LlamaGrammar | None = None,
    ) -> Generator[int, Sequence[int] | None, None]:
        """Yield the tokens that follow ``tokens``, end tokens too, until the context is full.

        ``reset=False`` puts them behind what was evaluated before. Tokens sent into the generator are
        put behind the last one. The model writes ahead of who reads; leaving the loop stops it.
        """
        settings = sampling_options(
            temperature=temp,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            top_k=top_k,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            repeat_penalty=repeat_penalty,
            tfs_z=tfs_z,
            mirostat_mode=mirostat_mode,
        )
        n_vocab = self.n_vocab()
        ids = [*([] if reset else self._tokens), *_checked_ids(tokens, n_vocab)]
        while True:
            watch = Watch(logits_processor, stopping_criteria, n_vocab)
            options = self._drawing(settings, grammar, watch)
            options["seed"] = self._seeds.current()
            check_room(len(ids), self.n_ctx(), allow_full=True)
            self._tokens = list(ids)
            room = self.n_ctx() - len(ids)
            if not room:
                return
            options["max_tokens"] = room
            given: Sequence[int] | None = None
            with self.pyqwen_model.stream(ids, **options) as stream:
                watch.attach(stream)
                for i, token in enumerate(token for chunk in stream for token in chunk.token_ids):
                    if watch.written is not None and i >= watch.written:
                        return
                    given = yield token
                    self._tokens.append(token)
                    if given:
                        break
            if not given:
                return
            ids = [*self._tokens, *_checked_ids(given, n_vocab)]

    def _drawing(
        self, settings: Any, grammar: LlamaGrammar | None, watch: Watch
    ) -> GenerateOptions:
        return cast(
            "GenerateOptions",
            {
                **settings,
                "ignore_eos": True,
                "response_format": constraint_of(grammar),
                "logits_processor": watch.hook(),
                **self._adapter,
            },
        )

    def save_state(self) -> LlamaState:
        """The evaluated tokens, the seed, and a copy of what was computed for them.

        Where an adapter is applied (``lora_path``) there is no such copy, and who loads the state computes
        again. ``scores`` of it is empty: ``Llama.scores`` makes them.
        """
        computed = b""
        if self._tokens and not self._adapter:
            with TemporaryDirectory(prefix="pyqwen-") as folder:
                path = Path(folder) / "session"
                self._held().save(path)
                computed = path.read_bytes()
        return self._state_of(computed)

    def _state_of(self, computed: bytes) -> LlamaState:
        """A state of the evaluated tokens, whatever was kept of what they took to compute."""
        import numpy as np

        ids = self._input_ids
        scores = np.zeros((0, self.n_vocab()), np.float32)
        size = len(computed) or ids.nbytes
        return LlamaState(ids, scores, len(ids), computed, size, self._seeds.seed)

    def load_state(self, state: LlamaState) -> None:
        """Go back to a state, which another ``Llama`` of the same file may have saved.

        What it holds of computed keys and values serves ``eval`` and ``scores``; calls that write read
        its tokens once more, since nothing of a stranger's bytes reaches the model's prefix cache.
        """
        if not isinstance(state, LlamaState):
            raise TypeError(f"state must be a LlamaState, not {type(state).__name__}")
        tokens = _checked_ids(list(state.input_ids[: state.n_tokens]), self.n_vocab())
        check_room(len(tokens), self.n_ctx(), allow_full=True)
        seed = checked_seed(state.seed)
        computed = state.llama_state
        if not isinstance(computed, bytes | bytearray):
            raise TypeError(f"llama_state must be bytes, not {type(computed).__name__}")
        if computed:
            session = self._session_of(computed)
            if session.tokens != tokens:
                raise ValueError(
                    "the state is damaged: its tokens are not those that were computed"
                )
            self.reset()
            self._session = session
        self._tokens = tokens
        self._seeds.seed = seed

    def _session_of(self, computed: bytes | bytearray) -> Session:
        """A session that holds what ``save_state`` copied; ``SessionFileError`` if it is another model's."""
        session = self.pyqwen_model.session()
        with TemporaryDirectory(prefix="pyqwen-") as folder:
            path = Path(folder) / "session"
            path.write_bytes(computed)
            session.load(path)
        return session


def check_room(count: int, context: int, *, allow_full: bool = False) -> None:
    """Raise ``ContextOverflowError`` if so many tokens leave no room to write, or do not fit at all."""
    if count >= context + allow_full:
        raise ContextOverflowError(
            f"Requested tokens ({count}) exceed context window of {context}",
            tokens=count,
            context=context,
        )


def _checked_ids(tokens: Any, n_vocab: int) -> list[int]:
    if isinstance(tokens, str | bytes):
        raise TypeError(f"tokens must be a list of ids, not {type(tokens).__name__}")
    ids = [index(token) for token in tokens]
    wrong = next((token for token in ids if not 0 <= token < n_vocab), None)
    if wrong is not None:
        raise ValueError(f"token {wrong} is not in the vocabulary: 0 to {n_vocab - 1}")
    return ids
