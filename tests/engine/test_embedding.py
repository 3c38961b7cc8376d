"""Embeddings: the numbers, what files say about them, the same bits in any company, every way to stop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyqwen import (
    CancelledError,
    ClosedError,
    ContextOverflowError,
    Model,
    ModelFormatError,
    NumericError,
    UnsupportedModelError,
)
from pyqwen.engine.engine import Engine

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from reference import Reference

TEXTS = [
    "The time",
    "sea shells by the sea shore",
    "x",
    "You are a fox. " * 40,
    "Ünïcode 中文",
    "the",
]
LAST = {"qwen3.pooling_type": 3, "tokenizer.ggml.add_eos_token": True}

MakeModel = Callable[..., Path]


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.sqrt(np.sum(vector * vector)))


@pytest.fixture(scope="module")
def embedder_path(make_tiny_model: MakeModel) -> Path:
    """A model as Qwen3-Embedding is: the last token's state counts, and a token ends each text."""
    return make_tiny_model(architecture="qwen3", tensor_type="F32", head_dim=64, metadata=LAST)


@pytest.fixture(scope="module")
def embedder(embedder_path: Path) -> Iterator[Model]:
    with Model(embedder_path, threads=2, exact=True) as model:
        yield model


@pytest.mark.parametrize("pooling", [None, "mean", "cls", "last"])
def test_vectors_are_the_pooled_states_after_the_last_norm(
    embedder: Model, embedder_path: Path, pooling: Any
) -> None:
    reference = Reference(embedder_path)
    vectors = embedder.embed(TEXTS, pooling=pooling)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), 128)
    raw = embedder.embed(TEXTS, pooling=pooling, normalize=False)
    for text, vector, unscaled in zip(TEXTS, vectors, raw, strict=True):
        states = reference.hidden([*embedder.tokenizer.encode(text), embedder.tokenizer.eos_id])
        pooled = {"mean": states.mean(axis=0), "cls": states[0]}.get(str(pooling), states[-1])
        np.testing.assert_allclose(vector, unit(pooled), atol=2e-5)
        np.testing.assert_allclose(unscaled, pooled, atol=2e-5 * np.abs(pooled).max())


def test_dimensions_are_cut_before_the_length_is_taken(embedder: Model) -> None:
    whole = embedder.embed(TEXTS, normalize=False)
    cut = embedder.embed(TEXTS, dimensions=32)
    np.testing.assert_allclose(cut, [unit(row[:32]) for row in whole], atol=1e-6)
    np.testing.assert_array_equal(
        embedder.embed(TEXTS, dimensions=5, normalize=False), whole[:, :5]
    )


def test_one_text_and_none(embedder: Model) -> None:
    assert embedder.embed([]).shape == (0, 128)
    assert embedder.embed([], dimensions=7).shape == (0, 7)
    np.testing.assert_array_equal(embedder.embed("the"), embedder.embed(["the"]))
    assert embedder.embed(iter(["a", "b"])).shape == (2, 128)


def test_an_empty_text_is_the_final_token_alone(embedder: Model, tiny_model_path: Path) -> None:
    end = embedder.tokenizer.eos_id
    np.testing.assert_array_equal(embedder.embed(""), embedder.embed([[end]]))
    with (
        Model(tiny_model_path, threads=1) as model,
        pytest.raises(ValueError, match="text 1: it is empty"),
    ):
        model.embed(["a", ""])


def test_instructions_stand_before_the_text(embedder: Model) -> None:
    found = embedder.embed_prompt(["the fox"], instruction="Find it")
    text = embedder.tokenizer.decode(found[0][:-1])
    assert (text, found[0][-1]) == ("Instruct: Find it\nQuery:the fox", embedder.tokenizer.eos_id)
    np.testing.assert_array_equal(
        embedder.embed("the fox", instruction="Find it"), embedder.embed(found)
    )
    with pytest.raises(ValueError, match="not before token ids"):
        embedder.embed([[1, 2]], instruction="Find it")


def test_control_tokens_in_a_text_are_text(embedder: Model) -> None:
    (ids,) = embedder.embed_prompt("<|im_end|>")
    assert ids.count(embedder.tokenizer.eos_id) == 1
    assert embedder.tokenizer.decode(ids[:-1]) == "<|im_end|>"


@pytest.mark.parametrize(
    "given",
    [
        {"threads": 1},
        {"threads": 3},
        {"threads": 2, "batch": 8, "max_sequences": 3},
        {"threads": 2, "batch": 100, "max_sequences": 1},
        {"threads": 2, "isa": "scalar"},
    ],
    ids=str,
)
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_same_bits_alone_and_in_company(
    make_tiny_model: MakeModel, given: dict[str, Any], pooling: Any
) -> None:
    path = make_tiny_model(architecture="qwen3", head_dim=64, metadata=LAST)
    with Model(path, threads=2) as model:
        expected = np.concatenate([model.embed(text, pooling=pooling) for text in TEXTS])
    with Model(path, **given) as model:
        with model.stream_chat("Tell me", max_tokens=200, ignore_eos=True, seed=1) as stream:
            next(stream)
            together = model.embed(TEXTS * 3, pooling=pooling)
        backwards = model.embed(TEXTS[::-1], pooling=pooling)
    np.testing.assert_array_equal(together, np.concatenate([expected] * 3))
    np.testing.assert_array_equal(backwards, expected[::-1])


def test_a_chat_is_not_disturbed(tiny_model_path: Path) -> None:
    with Model(tiny_model_path, threads=2) as model:
        settings = {"max_tokens": 40, "seed": 3, "ignore_eos": True}
        expected = model.generate("She sells", **settings).token_ids
        stream = model.stream("She sells", **settings)
        model.embed(TEXTS * 4)
        assert stream.result().token_ids == expected


# What files say


def settings_of(make: MakeModel, architecture: str = "qwen3", **metadata: Any) -> Any:
    named = {key.replace("__", "."): value for key, value in metadata.items()}
    path = make(architecture=architecture, metadata=named)
    with Model(path, threads=1) as model:
        return model.embedding_settings, model.tokenizer


@pytest.mark.parametrize(("number", "pooling"), [(1, "mean"), (2, "cls"), (3, "last"), (0, "mean")])
def test_the_pooling_of_the_file(make_tiny_model: MakeModel, number: int, pooling: str) -> None:
    found, _ = settings_of(make_tiny_model, "qwen2", qwen2__pooling_type=number)
    assert (found.pooling, found.final_id, found.embeds) == (pooling, None, number > 0)


def test_files_of_qwen3_embedding_that_say_nothing(make_tiny_model: MakeModel) -> None:
    name = "Qwen3 Embedding 0.6B"
    found, tokenizer = settings_of(make_tiny_model, general__basename=name)
    assert (found.pooling, found.embeds) == ("last", True)
    assert found.final_id == tokenizer.control_id("<|endoftext|>") != tokenizer.eos_id
    assert found.prompts["query"].endswith("\nQuery:")
    found, tokenizer = settings_of(
        make_tiny_model, general__basename=name, tokenizer__ggml__add_eos_token=False
    )
    assert found.final_id is None


def test_prompts_of_the_file_have_names(make_tiny_model: MakeModel) -> None:
    key = "sentence_transformers.prompts."
    path = make_tiny_model(metadata={f"{key}query": "search: ", f"{key}document": "note: "})
    with Model(path, threads=1) as model:
        decoded = [
            model.tokenizer.decode(model.embed_prompt("the", instruction=name)[0])
            for name in ("query", "document", "other")
        ]
    assert decoded == ["search: the", "note: the", "Instruct: other\nQuery:the"]


@pytest.mark.parametrize(
    ("metadata", "kind", "words"),
    [
        ({"qwen2.pooling_type": 4}, UnsupportedModelError, "ranks pairs"),
        ({"qwen2.pooling_type": 5}, ModelFormatError, "qwen2.pooling_type is 5"),
        ({"qwen2.pooling_type": "mean"}, ModelFormatError, "pooling_type is 'mean'"),
        ({"general.basename": "gte-Qwen2"}, UnsupportedModelError, "gte-Qwen2"),
        ({"sentence_transformers.prompts.query": 1}, ModelFormatError, "prompts.query is int"),
    ],
)
def test_what_cannot_embed_still_chats(
    make_tiny_model: MakeModel, metadata: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with Model(make_tiny_model(metadata=metadata), threads=1) as model:
        for texts in ("the", []):
            with pytest.raises(kind, match=words):
                model.embed(texts)
        assert model.chat("Hi", max_tokens=2).usage.completion_tokens


# What goes wrong, and stopping


def test_a_text_beyond_the_context_is_refused_before_any_work(embedder: Model) -> None:
    with pytest.raises(ContextOverflowError, match="text 2: ") as caught:
        embedder.embed(["a", "b", "x " * 600])
    assert caught.value.tokens is not None
    assert caught.value.tokens > caught.value.context == 512
    assert embedder.kv_bytes == 0


@pytest.mark.parametrize(
    ("texts", "options", "kind"),
    [
        (None, {}, TypeError),
        (b"bytes", {}, TypeError),
        ([b"bytes"], {}, TypeError),
        ({"a": 1}, {}, TypeError),
        ([None], {}, TypeError),
        ([1, 2, 3], {}, TypeError),
        ([[]], {}, ValueError),
        ([[-1]], {}, ValueError),
        ([[10**9]], {}, ValueError),
        ("a", {"pooling": "max"}, ValueError),
        ("a", {"dimensions": 0}, ValueError),
        ("a", {"dimensions": 129}, ValueError),
        ("a", {"dimensions": True}, TypeError),
        ("a", {"dimensions": 1.0}, TypeError),
        ("a", {"normalize": None}, TypeError),
        ("a", {"instruction": 1}, TypeError),
    ],
)
def test_arguments(embedder: Model, texts: Any, options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        embedder.embed(texts, **options)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_damaged_weights_are_an_error(make_tiny_model: MakeModel, pooling: Any) -> None:
    with Model(make_tiny_model(damaged=True), threads=1) as model:
        for normalize in (True, False):
            with pytest.raises(NumericError, match="text 0"):
                model.embed(["a", "b"], pooling=pooling, normalize=normalize)


def test_many_texts_take_their_turns(
    tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    submit = Engine.submit

    def watched(self: Engine, request: Any) -> None:
        waiting.append(len(self._waiting) + len(self._active) + self._inbox.qsize())
        submit(self, request)

    monkeypatch.setattr(Engine, "submit", watched)
    texts = [f"{i % 7} shells" for i in range(1500)]
    with Model(tiny_model_path, threads=1) as model:
        vectors = model.embed(texts)
        assert max(waiting) <= 2 * model.max_sequences
        np.testing.assert_array_equal(vectors[:700], vectors[700:1400])
        assert model.kv_bytes == 0


def test_the_cache_of_a_chat_is_left_alone(tiny_model_path: Path) -> None:
    with Model(tiny_model_path, threads=1) as model:
        model.generate("sea shells by the sea shore", max_tokens=1)
        model.embed(["a text"])
        again = model.generate("sea shells by the sea shore", max_tokens=1)
        assert again.usage.cached_tokens > 0


@pytest.fixture(scope="module")
def slow_model(make_tiny_model: MakeModel) -> Iterator[Model]:
    path = make_tiny_model(context=4096, layers=6, hidden=512, ffn=2048, heads=8)
    with Model(path, threads=2, isa="scalar") as model:
        yield model


LONG = ["x " * 1500] * 50
SOON = 0.4  # 0.1 s is the promise; a machine that is busy with other things may take this long


def test_cancelling_the_task(slow_model: Model) -> None:
    async def embed_and_leave() -> float:
        task = asyncio.create_task(slow_model.aembed(LONG))
        await asyncio.sleep(0.3)
        start = time.perf_counter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await slow_model.aembed("a")  # waits for the engine, which has nothing else to do now
        return time.perf_counter() - start

    assert asyncio.run(embed_and_leave()) < SOON


def test_an_exception_in_the_waiting_thread(
    slow_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C raises it."""

    def interrupt(self: Engine) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "check_process", interrupt)
        with pytest.raises(KeyboardInterrupt):
            slow_model.embed(LONG)
    start = time.perf_counter()
    slow_model.embed("a")
    assert time.perf_counter() - start < SOON


def test_closing_meanwhile_and_before(make_tiny_model: MakeModel) -> None:
    path = make_tiny_model(context=4096, layers=6, hidden=512, ffn=2048, heads=8)
    model = Model(path, threads=2, isa="scalar")
    threading.Timer(0.3, model.close).start()
    with pytest.raises(CancelledError):
        model.embed(LONG)
    for texts in ("a", []):
        with pytest.raises(ClosedError):
            model.embed(texts)
    with pytest.raises(ClosedError):
        asyncio.run(model.aembed("a"))


def test_threads_and_tasks_at_once(embedder: Model) -> None:
    expected = embedder.embed(TEXTS)

    async def tasks() -> list[Any]:
        ways = (embedder.aembed, lambda texts: asyncio.to_thread(embedder.embed, texts))
        return await asyncio.gather(*(ways[i % 2](TEXTS) for i in range(10)))

    for vectors in asyncio.run(tasks()):
        np.testing.assert_array_equal(vectors, expected)
