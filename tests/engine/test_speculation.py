"""Models that draft: every answer is what the same model writes without, in fewer passes where they pay."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyqwen import ClosedError, Completion, Model, ModelFileError
from pyqwen.engine.speculation import Speculation
from pyqwen.engine.step_costs import MOST_ROWS, StepCosts
from pyqwen.engine.stream import Waiter

IDS = [int(i) for i in np.random.default_rng(5).integers(0, 300, 40)]
ALIKE = IDS[:12] * 3 + IDS[20:24] + IDS[:9]
PENALTIES = {"repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.1}


@pytest.fixture(scope="module")
def plain(tiny_model_path: Path) -> Iterator[Model]:
    with Model(tiny_model_path, threads=2) as model:
        yield model


@pytest.fixture(scope="module", params=["ngram", "same", "other", "open"])
def drafting(
    request: pytest.FixtureRequest, tiny_model_path: Path, make_tiny_model: Callable[..., Path]
) -> Iterator[Model]:
    """Models that look up, or have a draft model that is always right, seldom right, or open already."""
    other = make_tiny_model(seed=1, layers=1, hidden=64, heads=2)
    drafts: dict[str, Any] = {"ngram": "ngram", "same": tiny_model_path, "other": other}
    with Model(other) as smaller:
        drafts["open"] = smaller
        with Model(tiny_model_path, threads=2, draft=drafts[request.param]) as model:
            yield model


@pytest.fixture
def rows_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts always pay, whatever this machine does meanwhile."""
    monkeypatch.setattr(
        StepCosts, "curve", lambda self, depth: [1.0 + i / 1000 for i in range(MOST_ROWS + 1)]
    )
    monkeypatch.setattr(Speculation, "may_lose", True)
    monkeypatch.setattr(Speculation, "charge", lambda self, steps, is_first=False: None)


def assert_same(a: Completion, b: Completion) -> None:
    assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
    assert (a.logprobs, a.stop_reason, a.seed) == (b.logprobs, b.stop_reason, b.seed)


def assert_nothing_is_left(model: Model) -> None:
    engine = model._engine
    assert not engine._active
    for slot in engine._cache.slots:
        assert engine._session.length(slot.index) == len(slot.tokens)
    drafter = engine._speculator.model
    if drafter is not None:
        assert sorted(drafter._free) == list(range(model.max_sequences))
        assert [drafter._session.length(i) for i in drafter._free] == [0] * model.max_sequences


def drafted(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Speculation]:
    """What becomes of the speculations of requests that end from now on."""
    found: list[Speculation] = []
    ended = Speculation.ended

    def noting(self: Speculation) -> None:
        ended(self)
        found.append(self)

    monkeypatch.setattr(Speculation, "ended", noting)
    return found


OPTIONS = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(1, 60),
        "temperature": st.sampled_from([0.0, 0.4, 1.0]),
        "seed": st.integers(0, 5),
        "ignore_eos": st.booleans(),
    },
    optional={
        "top_logprobs": st.just(2),
        "top_p": st.just(0.9),
        "stop": st.lists(st.sampled_from(["a", "th", " s", "e"]), min_size=1),
        "repetition_penalty": st.just(1.2),
        "frequency_penalty": st.just(0.3),
        "logit_bias": st.just({7: 3.0, 9: -float("inf")}),
        "dry_multiplier": st.just(0.8),
        "xtc_probability": st.just(0.5),
        "top_n_sigma": st.just(1.5),
    },
)
PARTS = st.lists(st.integers(0, 300), min_size=1, max_size=9)
REPEATING = st.tuples(PARTS, PARTS, st.integers(1, 5)).map(lambda p: (p[0] + p[1]) * p[2] + p[0])


@pytest.mark.usefixtures("rows_are_free")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prompt=REPEATING, options=OPTIONS)
def test_answers_are_the_same(
    plain: Model, drafting: Model, prompt: list[int], options: dict[str, Any]
) -> None:
    assert_same(drafting.generate(prompt, **options), plain.generate(prompt, **options))


@pytest.mark.usefixtures("rows_are_free")
def test_drafts_are_used(plain: Model, drafting: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    found = drafted(drafting, monkeypatch)
    # Of few tokens, the likeliest each time: soon it writes the same ones again and again.
    few = dict.fromkeys(range(4, plain.config.real_tokens), -float("inf"))
    options = {"max_tokens": 150, "temperature": 0, "seed": 0, "logit_bias": few}
    options |= {"repetition_penalty": 1}
    done = drafting.generate(ALIKE, **options)
    assert_same(done, plain.generate(ALIKE, **options))
    (speculation,) = found
    timings = done.timings
    assert (timings.drafted, timings.accepted) == (speculation.proposed, speculation.accepted)
    assert speculation.steps < 100
    assert speculation.accepted > 50
    assert speculation.steps + speculation.accepted >= 149
    assert_nothing_is_left(drafting)


@pytest.mark.usefixtures("rows_are_free")
def test_many_requests_together(plain: Model, drafting: Model) -> None:
    jobs = []
    for i in range(12):
        options = {"max_tokens": 20 + 5 * i, "temperature": [0, 0.3, 1.0][i % 3], "seed": i}
        options |= PENALTIES if i % 2 else {"ignore_eos": True, "logprobs": True}
        jobs.append((ALIKE[i:] + IDS[:i], options))
    expected = [plain.generate(prompt, **options) for prompt, options in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        results = list(pool.map(lambda job: drafting.generate(job[0], **job[1]), jobs))
    for result, alone in zip(results, expected, strict=True):
        assert_same(result, alone)
    assert_nothing_is_left(drafting)


@pytest.mark.usefixtures("rows_are_free")
@pytest.mark.parametrize("left", [1, 2, 3, 9, 30])
def test_the_context_ends(plain: Model, drafting: Model, left: int) -> None:
    prompt = (ALIKE * 20)[: plain.context - left]
    options = {"temperature": 0, "seed": 0, "ignore_eos": True}
    result = drafting.generate(prompt, **options)
    assert_same(result, plain.generate(prompt, **options))
    assert len(result.token_ids) == left
    assert_nothing_is_left(drafting)


@pytest.mark.usefixtures("rows_are_free")
def test_streams_and_chats(plain: Model, drafting: Model) -> None:
    options = {"max_tokens": 60, "temperature": 0, "seed": 0, "ignore_eos": True, "logprobs": True}
    message = "The quick brown fox. The quick brown fox. The quick"
    expected = list(plain.stream_chat(message, **options))
    assert list(drafting.stream_chat(message, **options)) == expected


@pytest.mark.usefixtures("rows_are_free")
@pytest.mark.parametrize("wanted", [1, 5, 30])
def test_cancel_in_the_middle(plain: Model, drafting: Model, wanted: int) -> None:
    options = {"max_tokens": 400, "temperature": 0, "seed": 0, "ignore_eos": True}
    expected = plain.generate(ALIKE, **options).token_ids
    with drafting.stream(ALIKE, **options) as stream:
        for i, _ in enumerate(stream):
            if i == wanted:
                stream.cancel()
    done = stream.completion
    assert done.finish_reason in {"cancelled", "length"}
    assert done.token_ids == expected[: len(done.token_ids)]
    assert drafting.generate(ALIKE, **options).token_ids == expected
    assert_nothing_is_left(drafting)


@pytest.mark.usefixtures("rows_are_free")
def test_cancel_while_the_draft_model_works(tiny_model_path: Path) -> None:
    """Its evaluation is interrupted, and the next request finds it in order."""
    with Model(tiny_model_path, draft=tiny_model_path, max_sequences=2) as model:
        options = {"max_tokens": 300, "temperature": 0, "seed": 0, "ignore_eos": True}
        expected = model.generate(IDS, **options).token_ids
        drafter = model._engine._speculator.model
        evaluate = drafter._session.eval
        waiter = Waiter(model._engine)
        request = model._calls.continuation(IDS, None, options, waiter.deliver)
        calls = 0

        def cancelling(*rows: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 5:
                canceller = threading.Thread(target=model._engine.cancel, args=(request,))
                canceller.start()
                canceller.join()
            evaluate(*rows)

        drafter._session.eval = cancelling
        done = waiter.last_event(request)
        assert done.finish_reason == "cancelled"
        assert calls == 5
        assert done.token_ids == expected[: len(done.token_ids)]
        assert model.generate(IDS, **options).token_ids == expected
        assert_nothing_is_left(model)


def test_the_engine_measures_what_rows_cost(tiny_model_path: Path) -> None:
    with Model(tiny_model_path, draft="ngram") as model:
        model.generate(ALIKE, max_tokens=100, temperature=0, ignore_eos=True)
        curve = model._engine._speculator.costs.curve(100)
        assert 0 < curve[1] <= curve[2] <= curve[MOST_ROWS]
        assert curve[1] < 1


def test_draft_models_are_checked(
    tiny_model_path: Path, make_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    Model(tiny_model_path, draft=make_tiny_model(architecture="qwen3")).close()  # has two more
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_model_path.read_bytes().replace(b"<|im_start|>", b"<|im_sturt|>"))
    with pytest.raises(ModelFileError, match="vocabulary"):
        Model(tiny_model_path, draft=other)
    with pytest.raises(ModelFileError, match="missing"):
        Model(tiny_model_path, draft=tmp_path / "missing.gguf")
    with pytest.raises(TypeError, match="draft"):
        Model(tiny_model_path, draft=3)  # type: ignore[arg-type]
    closed = Model(tiny_model_path)
    closed.close()
    with pytest.raises(ClosedError):
        Model(tiny_model_path, draft=closed)


def test_an_open_draft_model_may_be_closed(tiny_model_path: Path) -> None:
    """What drafts keeps what it needs of it, and gives it up when it is closed itself."""
    options = {"max_tokens": 40, "temperature": 0, "seed": 0, "ignore_eos": True}
    draft = Model(tiny_model_path)
    expected = draft.generate(IDS, **options).token_ids
    with Model(tiny_model_path, draft=draft) as model:
        draft.close()
        assert model.generate(IDS, **options).token_ids == expected
        del draft
        gc.collect()
        assert model.generate(IDS, **options).token_ids == expected


def test_tokens_that_a_draft_model_lacks(tiny_model_path: Path) -> None:
    """Prompts may hold any row of the embedding; then there is no draft."""
    with Model(tiny_model_path, draft=tiny_model_path) as model, Model(tiny_model_path) as plain:
        model._engine._speculator.model._vocab_rows = 300
        options = {"max_tokens": 40, "temperature": 0, "seed": 0, "ignore_eos": True}
        for prompt in ([*IDS, 340], [340, *IDS]):
            assert_same(model.generate(prompt, **options), plain.generate(prompt, **options))


def test_long_texts_move_the_window(tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyqwen.drafting.DRAFT_CONTEXT", 100)
    options = {"max_tokens": 300, "temperature": 0, "seed": 0, "ignore_eos": True}
    with Model(tiny_model_path, draft=tiny_model_path) as model, Model(tiny_model_path) as plain:
        assert_same(model.generate(IDS * 3, **options), plain.generate(IDS * 3, **options))
        assert_nothing_is_left(model)


def test_drafts_of_a_model_that_was_unloaded(tiny_model_path: Path, tmp_path: Path) -> None:
    """The draft model comes back with it; where that cannot be had, the answers are the same."""
    draft = tmp_path / "draft.gguf"
    draft.write_bytes(tiny_model_path.read_bytes())
    options: dict[str, Any] = {"max_tokens": 40, "temperature": 0, "seed": 0, "ignore_eos": True}
    with Model(tiny_model_path, draft=draft, unload_after=0.05) as model:
        expected = model.generate(IDS, **options).token_ids
        speculator = model._engine._speculator
        for there in (True, False):
            while speculator.model is not None:
                time.sleep(0.01)
            if not there:
                draft.unlink()
            assert model.generate(IDS, **options).token_ids == expected
            assert model.generate(IDS, **options).token_ids == expected
            if not there:
                assert speculator.model is None
