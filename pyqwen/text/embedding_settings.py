"""How a model embeds: what its file says, else what is known of its family.

GGUF files have a pooling type and say whether a token ends each text. Knows nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyqwen.errors import ModelFormatError, UnsupportedModelError

if TYPE_CHECKING:
    from pyqwen.text.tokenizer import Tokenizer

Pooling = Literal["mean", "cls", "last"]
"""The mean of all tokens' final states, the first token's, or the last one's."""

PROMPT_KEY = "sentence_transformers.prompts."
"""The keys of the texts that are put in front by name; our converter writes them, others know none."""
_POOLINGS: dict[int, Pooling] = {1: "mean", 2: "cls", 3: "last"}  # as llama.cpp numbers them
_UNSAID, _RANK = 0, 4
_KEYS = ("general.architecture", "general.name", "general.basename", "general.finetune")

# Of the model card. The files that Qwen first published neither name the pooling nor add the final token.
_QWEN3_EMBEDDING = "qwen3-embedding"
_QWEN3_FINAL = "<|endoftext|>"
_QWEN3_PROMPTS = {
    "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query\n"
    "Query:",
    "document": "",
}
_BOTH_WAYS = "gte-qwen2"  # runs as qwen2, but its own code lets each token see those after it
_MEAN: Pooling = "mean"


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """``pooling`` unless the caller says otherwise; ``final_id`` is appended to each text.

    ``prompts`` are texts to put in front, by name. ``embeds``: the model was made for this.
    """

    pooling: Pooling
    final_id: int | None
    prompts: Mapping[str, str]
    embeds: bool


def embedding_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a file's metadata that ``read_embedding_settings`` needs."""
    wanted = (*_KEYS, _pooling_key(metadata), "tokenizer.ggml.add_eos_token")
    prompts = [key for key in metadata if key.startswith(PROMPT_KEY)]
    return {key: metadata[key] for key in (*wanted, *prompts) if key in metadata}


def read_embedding_settings(
    metadata: Mapping[str, Any], tokenizer: Tokenizer, *, source: str = ""
) -> EmbeddingSettings:
    """Return how the model of this file embeds.

    ``UnsupportedModelError`` for models that rank, or whose attention is not causal;
    ``ModelFormatError`` for keys that hold what cannot be.
    """
    name = _name(metadata)
    if _BOTH_WAYS in name:
        raise UnsupportedModelError(
            f"{source}: in gte-Qwen2 each token sees those after it, too, which is not supported: "
            "its embeddings would be wrong; take a causal model such as Qwen3-Embedding",
            field="general.name",
        )
    is_qwen3 = _QWEN3_EMBEDDING in name
    stated = _stated_pooling(metadata, source)
    prompts = {
        key.removeprefix(PROMPT_KEY): _text(metadata, key, source)
        for key in metadata
        if key.startswith(PROMPT_KEY)
    }
    final_id = tokenizer.eos_id if tokenizer.add_eos else None
    if is_qwen3 and "tokenizer.ggml.add_eos_token" not in metadata:
        final_id = tokenizer.control_id(_QWEN3_FINAL)
    return EmbeddingSettings(
        pooling=stated or ("last" if is_qwen3 else _MEAN),
        final_id=final_id,
        prompts=prompts or (_QWEN3_PROMPTS if is_qwen3 else {}),
        embeds=stated is not None or is_qwen3,
    )


def _stated_pooling(metadata: Mapping[str, Any], source: str) -> Pooling | None:
    key = _pooling_key(metadata)
    value = metadata.get(key, _UNSAID)
    if type(value) is not int or not _UNSAID <= value <= _RANK:
        raise ModelFormatError(
            f"{source}: {key} is {value!r:.40}, not a pooling type from 0 to {_RANK}", field=key
        )
    if value == _RANK:
        raise UnsupportedModelError(
            f"{source}: {key} says that this model ranks pairs of texts; it has no embeddings",
            field=key,
        )
    return _POOLINGS.get(value)


def _pooling_key(metadata: Mapping[str, Any]) -> str:
    return f"{metadata.get('general.architecture')}.pooling_type"


def _name(metadata: Mapping[str, Any]) -> str:
    """All that the file is called, in one spelling: lower case, hyphens."""
    names = " ".join(str(metadata.get(key, "")) for key in _KEYS[1:])
    return names.lower().replace("_", "-").replace(" ", "-")


def _text(metadata: Mapping[str, Any], key: str, source: str) -> str:
    value = metadata[key]
    if not isinstance(value, str):
        raise ModelFormatError(f"{source}: {key} is {type(value).__name__}, not a text", field=key)
    return value
