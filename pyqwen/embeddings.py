"""The calls of a model that turn texts into vectors whose angles say how much the texts have in common."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from operator import index
from reprlib import repr as brief
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pyqwen.engine.calls import Calls
from pyqwen.engine.embedding import Embedding
from pyqwen.engine.engine import Engine
from pyqwen.engine.feeding import Feeder
from pyqwen.errors import CancelledError, ContextOverflowError, NumericError, PyQwenError
from pyqwen.loading.config import ModelConfig
from pyqwen.text.embedding_settings import (
    EmbeddingSettings,
    Pooling,
    read_embedding_settings,
)
from pyqwen.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from pyqwen.engine.request import Deliver

Texts = str | Iterable[str | Sequence[int]]
"""A text, or any number of texts, each of which may be given as its token ids."""

POOLINGS: tuple[Pooling, ...] = ("mean", "cls", "last")


class _Wanted(NamedTuple):
    """What a call asks for, checked."""

    prefix: str | None
    pooling: Pooling
    final_id: int | None
    normalize: bool
    dimensions: int


class Embeddings:
    """A part of :class:`pyqwen.Model`, which has the engine."""

    config: ModelConfig
    tokenizer: Tokenizer
    max_sequences: int
    _engine: Engine
    _calls: Calls
    _batch: int
    _embedding_metadata: Mapping[str, Any]
    _source: str
    _settings: EmbeddingSettings | None = None

    @property
    def embedding_settings(self) -> EmbeddingSettings:
        """How ``embed`` works where its arguments do not say otherwise: ``pooling``, the token after each
        text, ``prompts`` by name, and whether the model was made for it.

        ``UnsupportedModelError`` for models that have no embeddings.
        """
        if self._settings is None:
            self._settings = read_embedding_settings(
                self._embedding_metadata, self.tokenizer, source=self._source
            )
        return self._settings

    def embed(
        self,
        texts: Texts,
        *,
        pooling: Pooling | None = None,
        normalize: bool = True,
        instruction: str | None = None,
        dimensions: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return a vector for each text: float32 (texts, ``config.hidden`` or ``dimensions``).

        The scalar product of two normalized vectors says how much their texts have in common.
        ``pooling`` makes one vector of those of all tokens: ``"mean"``, that of the first (``"cls"``)
        or of the ``"last"``; None is what the model was trained with. ``dimensions`` keeps only the
        first so many numbers, for models that were trained so (MRL), such as Qwen3-Embedding.

        ``instruction`` says what the texts are looked up for; such models want it before queries, and
        documents as they are. It is put before each text as ``Instruct: …\\nQuery:``, or is the name of
        a prompt in ``embedding_settings.prompts``, such as ``"query"``.

        A text may also be its token ids, to which nothing is added. Texts are computed together, and
        beside other requests; a vector is the same, bit for bit, whatever else is computed.
        Raises ``ContextOverflowError`` for a text beyond the context, ``UnsupportedModelError`` for a
        model without embeddings, ``CancelledError`` if it is closed meanwhile, ``NumericError`` if the
        weights are damaged.
        """
        wanted = self._wanted(pooling, normalize, instruction, dimensions)
        inputs = self._inputs(texts, wanted)
        vectors = self._room(inputs, wanted)
        self._feeder(inputs, wanted).run(_writer(vectors, wanted))
        return vectors

    async def aembed(
        self,
        texts: Texts,
        *,
        pooling: Pooling | None = None,
        normalize: bool = True,
        instruction: str | None = None,
        dimensions: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """As ``embed``. Cancelling the task stops the model."""
        from asyncio import to_thread

        wanted = self._wanted(pooling, normalize, instruction, dimensions)
        stop = Flag()
        try:  # cutting megabytes into tokens takes longer than an event loop may stand still
            inputs = await to_thread(self._inputs, texts, wanted, stop)
        finally:
            stop.set()
        vectors = self._room(inputs, wanted)
        await self._feeder(inputs, wanted).arun(_writer(vectors, wanted))
        return vectors

    def embed_prompt(self, texts: Texts, *, instruction: str | None = None) -> list[list[int]]:
        """The tokens that ``embed`` would read, a list for each text. Nothing is computed."""
        wanted = self._wanted(None, True, instruction, None)
        return [ids.tolist() for ids in self._inputs(texts, wanted)]

    def _wanted(
        self,
        pooling: Pooling | None,
        normalize: bool,
        instruction: str | None,
        dimensions: int | None,
    ) -> _Wanted:
        self._engine.check_caller()
        settings = self.embedding_settings
        if pooling is not None and pooling not in POOLINGS:
            names = ", ".join(POOLINGS)
            raise ValueError(f"pooling must be one of {names}, not {brief(pooling)}")
        if not isinstance(normalize, bool):
            raise TypeError(f"normalize must be True or False, not {type(normalize).__name__}")
        prefix = None
        if instruction is not None:
            if not isinstance(instruction, str):
                raise TypeError(f"instruction must be a text, not {type(instruction).__name__}")
            prefix = settings.prompts.get(instruction, f"Instruct: {instruction}\nQuery:")
        width = self.config.hidden
        if dimensions is None:
            dimensions = width
        elif isinstance(dimensions, bool) or not hasattr(dimensions, "__index__"):
            raise TypeError(f"dimensions must be an integer, not {type(dimensions).__name__}")
        elif not 1 <= index(dimensions) <= width:
            raise ValueError(
                f"dimensions must be from 1 to the model's {width:,}, not {brief(dimensions)}"
            )
        return _Wanted(
            prefix, pooling or settings.pooling, settings.final_id, normalize, index(dimensions)
        )

    def _inputs(self, texts: Texts, wanted: _Wanted, stop: Flag | None = None) -> list[array[int]]:
        """The tokens of each text, four bytes each: there may be millions."""
        if isinstance(texts, str):
            texts = [texts]
        if isinstance(texts, bytes | bytearray | Mapping) or not isinstance(texts, Iterable):
            raise TypeError(f"texts are a str or a list of str, not {type(texts).__name__}")
        inputs = []
        for i, text in enumerate(texts):
            if stop is not None and stop.is_set():
                raise CancelledError("the embedding was cancelled")
            with _naming(i):
                inputs.append(array("i", self._tokens(text, wanted)))
        return inputs

    def _tokens(self, text: str | Sequence[int], wanted: _Wanted) -> list[int]:
        if not isinstance(text, str):
            if not isinstance(text, Iterable) or isinstance(text, bytes | bytearray | Mapping):
                raise TypeError(f"it must be a str, not {type(text).__name__}")
            if wanted.prefix is not None:
                raise ValueError("an instruction can be put before a text, not before token ids")
            return self._calls.checked_ids(text)
        ids = self.tokenizer.encode((wanted.prefix or "") + text)
        if wanted.final_id is not None:
            ids.append(wanted.final_id)
        if not ids:
            raise ValueError("it is empty, and the model needs at least one token")
        return self._calls.checked_ids(ids)

    def _room(self, inputs: list[array[int]], wanted: _Wanted) -> npt.NDArray[np.float32]:
        import numpy as np

        return np.empty((len(inputs), wanted.dimensions), np.float32)

    def _feeder(self, inputs: list[array[int]], wanted: _Wanted) -> Feeder:
        def make(i: int, deliver: Deliver) -> Embedding:
            return Embedding(
                inputs[i].tolist(), deliver, pooling=wanted.pooling, width=self.config.hidden
            )

        sizes = [len(ids) for ids in inputs]
        return Feeder(self._engine, make, sizes, batch=self._batch, sequences=self.max_sequences)


def _writer(vectors: npt.NDArray[np.float32], wanted: _Wanted) -> Callable[[int, Any], None]:
    """What puts the pooled vector of text i in its place."""

    def write(i: int, pooled: Any) -> None:
        vector = cast("npt.NDArray[np.float32]", pooled)[: wanted.dimensions].astype("float64")
        length = math.sqrt(math.fsum(vector * vector))  # exact: the same on every machine
        if not math.isfinite(length):
            raise NumericError(
                f"text {i}: the model gave values that are not numbers; its weights are damaged"
            )
        vectors[i] = vector / length if wanted.normalize and length > 0 else vector

    return write


@contextmanager
def _naming(i: int) -> Iterator[None]:
    """Say in an error which of the texts it is about."""
    try:
        yield
    except ContextOverflowError as error:
        raise ContextOverflowError(
            f"text {i}: {error}", tokens=error.tokens, context=error.context
        ) from None
    except PyQwenError:
        raise
    except (ValueError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"text {i}: {error}") from None
