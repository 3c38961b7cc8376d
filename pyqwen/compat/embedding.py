"""Texts as vectors: ``Llama.embed`` and ``create_embedding``."""

from __future__ import annotations

from reprlib import repr as brief
from typing import TYPE_CHECKING, Any, cast

from pyqwen.compat import llama_cpp as constants
from pyqwen.compat.base import TokensOfFile
from pyqwen.compat.notices import warn_once
from pyqwen.compat.state import check_room

if TYPE_CHECKING:
    from pyqwen.compat.llama_types import CreateEmbeddingResponse
    from pyqwen.text.embedding_settings import Pooling

_POOLINGS: dict[int, Pooling | None] = {
    constants.LLAMA_POOLING_TYPE_UNSPECIFIED: None,
    constants.LLAMA_POOLING_TYPE_MEAN: "mean",
    constants.LLAMA_POOLING_TYPE_CLS: "cls",
    constants.LLAMA_POOLING_TYPE_LAST: "last",
}


class Embeddings(TokensOfFile):
    """A part of :class:`pyqwen.compat.Llama`."""

    _pooling: int

    def pooling_type(self) -> int:
        """What was asked for: a ``LLAMA_POOLING_TYPE_`` number."""
        return self._pooling

    def create_embedding(
        self, input: str | list[str], model: str | None = None
    ) -> CreateEmbeddingResponse:
        """Vectors of texts, in OpenAI's shape."""
        rows, count = self.embed([input] if isinstance(input, str) else input, return_count=True)
        data = [{"object": "embedding", "embedding": row, "index": i} for i, row in enumerate(rows)]
        return cast(
            "CreateEmbeddingResponse",
            {
                "object": "list",
                "data": data,
                "model": self.model_path if model is None else model,
                "usage": {"prompt_tokens": count, "total_tokens": count},
            },
        )

    def embed(
        self,
        input: str | list[str],
        normalize: bool = False,
        truncate: bool = True,
        return_count: bool = False,
    ) -> Any:
        """The vector of a text, or those of several, as lists of floats; with their tokens if
        ``return_count``.

        One vector for each text, as the file or ``pooling_type`` says. ``truncate``: what does not fit
        the context is left out, else it is ``ContextOverflowError``.
        """
        model = self.pyqwen_model
        if not isinstance(self._pooling, int) or self._pooling not in _POOLINGS:
            raise ValueError(
                f"pooling_type {brief(self._pooling)}: there is one vector for each text here; take one "
                "of LLAMA_POOLING_TYPE_UNSPECIFIED, _MEAN, _CLS and _LAST"
            )
        if self._adapter:
            warn_once("lora_path", "embeddings are made without the adapter")
        if not isinstance(input, str | list | tuple):
            raise TypeError(f"input must be a text or a list of texts, not {type(input).__name__}")
        texts = [input] if isinstance(input, str) else list(input)
        ids = [self._ids_to_embed(text, bool(truncate)) for text in texts]
        vectors = model.embed(ids, pooling=_POOLINGS[self._pooling], normalize=bool(normalize))
        rows = vectors.tolist()
        output = rows[0] if isinstance(input, str) else rows
        return (output, sum(map(len, ids))) if return_count else output

    def _ids_to_embed(self, text: Any, truncate: bool) -> list[int]:
        """The tokens of a text, and the one that the model wants at the end, which is kept."""
        if not isinstance(text, str):
            raise TypeError(f"input must be texts, not {type(text).__name__}")
        ids = self.tokenize(text.encode("utf-8", "surrogatepass"))
        final = self.pyqwen_model.embedding_settings.final_id
        if final is not None:
            ids.append(final)
        most = self.n_ctx()
        if truncate and len(ids) > most:
            ids = [*ids[: most - 1], ids[-1]]
        check_room(len(ids), most, allow_full=True)
        return ids
