"""A session: positions of one text that stay in the cache, with explicit steps: read, look, go back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from operator import index
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast
from weakref import ref

from pyqwen.engine.hold import Hold
from pyqwen.engine.prefix_cache import PrefixCache, common_prefix
from pyqwen.engine.session_file import Contents, Kind, SessionFile, write_session
from pyqwen.engine.session_requests import Errand, Reading
from pyqwen.engine.stream import Waiter
from pyqwen.errors import ClosedError, ContextOverflowError, OutOfMemoryError, PyQwenError
from pyqwen.os_errors import raising_file_errors
from pyqwen.output_file import OutputFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pyqwen.engine.engine import Engine
    from pyqwen.engine.request import Request


_sources = count(1)  # numbers of files that were loaded
_BATCH_BYTES = 16 << 20  # copied at once, while others wait


class Session:
    """The tokens that it has read, whose keys and values the model keeps for it until it is closed.

    Made by ``Model.session()``. It takes no place among the running requests; its memory counts
    against ``prefix_cache_bytes``, and where that has no room for more, ``OutOfMemoryError`` is raised
    and the session is as before. Results are those of any other way to read the same tokens. It
    belongs to one call at a time: another one at the same moment raises ``PyQwenError``. If the model
    was unloaded meanwhile (``unload_after``), the next call reads the tokens again.

    Close it, use it as a context manager, or let go of it.
    """

    def __init__(
        self,
        owner: object,
        engine: Engine,
        *,
        check: Callable[[Sequence[int]], list[int]],
        context: int,
        vocab_rows: int,
        model: Path,
        adapter: Hashable = None,
    ) -> None:
        """``owner``: the model, which is kept, and its file, ``model``. ``check`` refuses what are no
        tokens of it."""
        self._owner, self._engine, self._model = owner, engine, model
        self.extra: dict[str, Any] | None = None
        """What its file holds besides, such as the messages of a conversation: what JSON can say."""
        self._check, self._context, self._vocab_rows = check, context, vocab_rows
        self._hold = Hold(adapter)
        self._busy = threading.Lock()
        self._user: ref[Request] | None = None  # the answer that it is used for
        self._logits: npt.NDArray[np.float32] | None = None
        self._closed = False

    @property
    def tokens(self) -> list[int]:
        """The tokens that were read, in order: a copy."""
        return self._hold.tokens.copy()

    def __len__(self) -> int:
        return len(self._hold.tokens)

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return self._closed

    def sync(self, ids: Sequence[int]) -> int:
        """Have the session hold exactly ``ids``, whatever it held; return how many had to be read.

        What it holds of them, and what the cache has of other requests, is not read again.
        """
        tokens = self._check(ids)
        with self._working():
            held = self._hold.tokens
            if common_prefix(held, tokens) == len(tokens):
                self._shrink(len(tokens))
                return 0
            return self._read(tokens)

    def eval(self, ids: Sequence[int]) -> None:
        """Read further tokens, at least one."""
        further = self._check(ids)
        with self._working():
            tokens = self._hold.tokens + further
            if len(tokens) > self._context:
                raise ContextOverflowError(
                    f"{len(further):,} tokens after {len(self._hold.tokens):,} do not fit the context "
                    f"of {self._context:,}: rewind the session, or open the model with a longer one",
                    tokens=len(tokens),
                    context=self._context,
                )
            self._read(tokens)

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """The raw logits after the last token: float32 (``config.vocab_rows``), nothing masked.

        They are at hand after ``sync`` and ``eval``; after ``rewind``, ``load`` or an answer the last
        token is read once more for them.
        """
        with self._working():
            if not self._hold.tokens:
                raise ValueError("the session is empty: there are no logits before the first token")
            if self._logits is None:
                self._read(self._hold.tokens.copy())
            assert self._logits is not None
            return self._logits.copy()

    def rewind(self, n: int) -> None:
        """Keep the first ``n`` tokens only."""
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"n must be a number of tokens, not {type(n).__name__}")
        with self._working():
            if not 0 <= index(n) <= len(self._hold.tokens):
                raise ValueError(
                    f"the session holds {len(self._hold.tokens):,} tokens: it cannot go back to {n:,}"
                )
            self._shrink(index(n))

    @raising_file_errors
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the session to a file: its tokens, their keys and values, and ``extra``.

        What has that name is replaced when the file is whole. ``load`` needs the same model file, and
        the same ``kv_type`` and ``exact``. Raises ``FileAccessError``, and ``ValueError`` for an
        ``extra`` that is no JSON.
        """
        target = Path(path)
        with self._working(), self._engine.staying_loaded():
            hold = self._hold
            if hold.adapter is not None:
                raise ValueError("a session that was read with an adapter cannot be saved")
            if not self._run(lambda cache: cache.holds_all(hold)):  # the model was unloaded
                self._read(hold.tokens.copy())
                if not self._run(lambda cache: cache.holds_all(hold)):
                    raise OutOfMemoryError("there is no memory to hold the session that is saved")
            contents = Contents(hold.tokens, self.extra)
            kind = self._kind()
            write_session(target, kind, contents, self._blocks(kind), model=self._model)

    @raising_file_errors
    def load(self, path: str | os.PathLike[str]) -> None:
        """Hold what a file holds, ``extra`` too, instead of what the session held.

        Other requests do not begin with what comes from a file. Raises ``SessionFileError`` for one
        that is damaged or of another model, ``FileAccessError``, ``ContextOverflowError``,
        ``OutOfMemoryError``; the session is then as before.
        """
        source = Path(path)
        with self._working(), self._engine.staying_loaded():
            sizes = {"context": self._context, "vocab_rows": self._vocab_rows}
            kind = self._kind()
            with SessionFile(source, kind, **sizes) as file:
                fresh = Hold(source=next(_sources))
                try:
                    self._fill(fresh, file, kind)
                    self._logits = None
                    self._run(lambda _: self._hold.take(fresh))
                except BaseException:
                    self._engine.note(fresh.release)
                    raise
                self.extra = file.contents.extra

    def close(self) -> None:
        """Give up what the session holds. May be called twice."""
        if not self._closed:
            self._closed = True
            self._engine.note(self._hold.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if "_closed" in self.__dict__:  # else __init__ failed
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Session cannot be pickled or copied: save it to a file")

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self):,} tokens"
        return f"<Session: {state}>"

    def check_target(self, path: Path) -> None:
        """Raise what ``save`` would where no file can be."""
        OutputFile(path, inputs=[self._model], n_bytes=0)

    @property
    def has_answer(self) -> bool:
        """Whether a request that it was used for began to run, so that it holds what that left."""
        return self._hold.has_answer

    def use_for(self, request: Request) -> None:
        """Have the session hold what a request that writes has read in the end."""
        with self._working():
            request.hold = self._hold
            self._user = ref(request)
            self._logits = None

    @contextmanager
    def _working(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise PyQwenError("the session is in use by another call")
        try:
            if self._closed:
                raise ClosedError("the session was closed")
            self._engine.check_caller()
            user = self._user() if self._user is not None else None
            if user is not None and not user.done:
                raise PyQwenError("the session is in use by an answer that is being written")
            yield
        finally:
            self._busy.release()

    def _read(self, tokens: list[int]) -> int:
        """Hold ``tokens``, the logits after the last one at hand; return how many were read."""
        import numpy as np  # which answers do without

        logits = np.empty(self._vocab_rows, np.float32)
        waiter = Waiter(self._engine)
        read = waiter.last_event(Reading(tokens, waiter.deliver, self._hold, logits)).value
        self._logits = logits
        return int(read)

    def _shrink(self, n: int) -> None:
        if n < len(self._hold.tokens):
            self._logits = None
            del self._hold.tokens[n:]
            if n == 0:
                self._hold.source = None  # nothing is left of a file
            self._engine.note(partial(self._hold.shrink, n))

    def _kind(self) -> Kind:
        return cast(Kind, self._run(lambda cache: Kind(cache.identity(), *cache.block_sizes)))

    def _blocks(self, kind: Kind) -> Iterator[bytearray]:
        """The bytes of the blocks, each as long as no other is asked for."""
        hold, first = self._hold, 0
        room = _room_for(kind, -(-len(hold.tokens) // kind.positions))
        while n := self._run(partial(_copy_blocks, hold=hold, first=first, room=room)):
            yield from room[:n]
            first += n

    def _fill(self, hold: Hold, file: SessionFile, kind: Kind) -> None:
        tokens, first = file.contents.tokens, 0
        self._run(lambda cache: cache.begin_loading(hold, tokens, self._hold))
        room = _room_for(kind, file.n_blocks)
        while first < file.n_blocks:
            blocks = room[: file.n_blocks - first]
            for i, block in enumerate(blocks, first):
                file.block(i, block)
            end = min(len(tokens), (first + len(blocks)) * kind.positions)
            add = partial(_add_blocks, hold=hold, tokens=tokens[:end], first=first, blocks=blocks)
            self._run(add)
            first += len(blocks)

    def _run(self, work: Callable[[PrefixCache], Any]) -> Any:
        """Let the engine do something short with the cache."""
        waiter = Waiter(self._engine)
        return waiter.last_event(Errand(waiter.deliver, work)).value


def _room_for(kind: Kind, n_blocks: int) -> list[bytearray]:
    """Memory for some of ``n_blocks``, used again and again: new pages would take longer than copying."""
    count = max(1, _BATCH_BYTES // kind.block_bytes)
    return [bytearray(kind.block_bytes) for _ in range(min(count, n_blocks))]


def _copy_blocks(cache: PrefixCache, hold: Hold, first: int, room: list[bytearray]) -> int:
    return cache.copy_blocks(hold, first, room)


def _add_blocks(
    cache: PrefixCache, hold: Hold, tokens: list[int], first: int, blocks: list[bytearray]
) -> None:
    cache.add_blocks(hold, tokens, first, blocks)
