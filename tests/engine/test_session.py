"""Sessions: the same numbers as without, what they hold in memory, and what they refuse."""

import gc
import threading

import numpy as np
import pytest

import pyqwen
from pyqwen import ClosedError, ContextOverflowError, Model, OutOfMemoryError, PyQwenError

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 300, 200)]


@pytest.fixture
def model(tiny_model_path):
    with Model(tiny_model_path, threads=2, max_sequences=2) as model:
        yield model


@pytest.fixture(scope="module")
def expected(tiny_model_path):
    """The logits after each token of IDS, by a model that keeps nothing."""
    with Model(tiny_model_path, threads=1, prefix_cache_bytes=0) as model:
        return model.logits(IDS)


def test_the_logits_are_those_of_reading_it_all(model, expected):
    with model.session() as session:
        assert len(session) == 0
        assert session.sync(IDS[:50]) == 50
        assert np.array_equal(session.logits, expected[49])
        session.eval(IDS[50:51])
        assert np.array_equal(session.logits, expected[50])
        session.eval(IDS[51:190])
        assert np.array_equal(session.logits, expected[189])
        assert session.tokens == IDS[:190]
        session.rewind(130)
        assert len(session) == 130
        assert np.array_equal(session.logits, expected[129])
        session.eval(IDS[130:140])
        assert np.array_equal(session.logits, expected[139])
        assert session.sync(IDS[:100]) == 0
        assert np.array_equal(session.logits, expected[99])
        other = [*IDS[:60], 7, 8]
        assert session.sync(other) == 2
        assert session.tokens == other
        session.rewind(0)
        with pytest.raises(ValueError, match="empty"):
            _ = session.logits


def test_sync_reads_what_is_nowhere(model):
    model.generate(IDS[:100], max_tokens=1)
    with model.session() as session:
        assert session.sync(IDS[:120]) == 20
        assert session.sync(IDS[:120]) == 0
    assert model.generate(IDS[:120], max_tokens=1).usage.cached_tokens == 119


def test_random_steps(model, expected):
    rng = np.random.default_rng(0)
    sessions = [model.session() for _ in range(2)]
    for _ in range(60):
        session = sessions[rng.integers(2)]
        at = len(session)
        step = rng.integers(4)
        if step == 0 and at < len(IDS):
            session.eval(IDS[at : at + int(rng.integers(1, 40))])
        elif step == 1:
            session.rewind(int(rng.integers(at + 1)))
        elif step == 2:
            session.sync(IDS[: int(rng.integers(1, len(IDS)))])
        else:
            model.generate([int(i) for i in rng.integers(0, 300, 90)], max_tokens=1)
        assert session.tokens == IDS[: len(session)]
        if len(session):
            assert np.array_equal(session.logits, expected[len(session) - 1])


def test_it_is_not_given_up_for_others(model):
    with model.session() as session:
        session.sync(IDS)  # two blocks
        held = model.kv_bytes
        for i in range(8):
            model.generate([i] * 250, max_tokens=1)
        session.eval([1])
        assert session.sync([*IDS, 1]) == 0
        assert model.generate([*IDS, 1, 2], max_tokens=1).usage.cached_tokens == len(IDS) + 1
    most = pyqwen.plan(model.path, max_sequences=1).kv
    for i in range(8):
        model.generate([i] * 250, max_tokens=1)
    assert model.generate([*IDS, 1, 2], max_tokens=1).usage.cached_tokens == 0
    assert held <= most
    assert model.kv_bytes <= most


def test_a_session_that_is_let_go_of_holds_nothing(model):
    session = model.session()
    session.sync(IDS)
    tree = model._engine._cache._tree
    assert tree.pinned == 2
    del session
    gc.collect()
    model.generate([1, 2, 3], max_tokens=1)
    assert tree.pinned == 0


def test_sessions_count_against_the_budget(tiny_model_path):
    with Model(tiny_model_path, threads=1) as model:
        model.generate([1], max_tokens=1)
        block = model.kv_bytes
    with Model(tiny_model_path, threads=1, prefix_cache_bytes=3 * block) as model:
        first, second = model.session(), model.session()
        first.sync(IDS)  # two blocks
        with pytest.raises(OutOfMemoryError, match="prefix_cache_bytes"):
            second.sync([9] * 130)
        assert len(second) == 0
        second.sync([9] * 100)
        assert second.sync([*IDS, 5]) == 1  # shares the first's blocks but for the last
        with pytest.raises(OutOfMemoryError):
            first.eval([3] * 100)
        assert first.tokens == IDS
        second.close()
        first.eval([3] * 100)
    with (
        Model(tiny_model_path, threads=1, prefix_cache_bytes=0) as model,
        pytest.raises(OutOfMemoryError, match="may hold 0"),
    ):
        model.session().sync([1])


def test_what_it_refuses(model):
    session = model.session()
    for wrong in ([], [-1], [10**9], "text", [1.5], None):
        with pytest.raises((ValueError, TypeError)):
            session.sync(wrong)
        with pytest.raises((ValueError, TypeError)):
            session.eval(wrong)
    for wrong in (-1, 1, 1.0, None, True, 10**400):
        with pytest.raises((ValueError, TypeError)):
            session.rewind(wrong)
    session.sync([1] * 500)
    with pytest.raises(ContextOverflowError, match="after 500"):
        session.eval([1] * 13)
    assert len(session) == 500
    session.eval([1] * 12)
    with pytest.raises(TypeError, match="pickled"):
        session.__reduce__()
    session.close()
    session.close()
    for call in (lambda: session.sync([1]), lambda: session.logits, lambda: session.rewind(0)):
        with pytest.raises(ClosedError, match="session was closed"):
            call()


def test_the_model_is_closed(tiny_model_path):
    model = Model(tiny_model_path, threads=1)
    session = model.session()
    session.sync(IDS)
    model.close()
    for call in (lambda: session.sync([1]), lambda: session.eval([1]), lambda: session.logits):
        with pytest.raises(ClosedError, match="model was closed"):
            call()
    session.close()
    with pytest.raises(ClosedError):
        model.session()


def test_after_unloading_it_is_read_again(tiny_model_path, expected):
    with Model(tiny_model_path, threads=1, unload_after=0.05) as model:
        session = model.session()
        session.sync(IDS[:100])
        for _ in range(100):
            if not model.loaded:
                break
            threading.Event().wait(0.05)
        assert not model.loaded
        assert session.tokens == IDS[:100]
        session.eval(IDS[100:101])
        assert np.array_equal(session.logits, expected[100])
        session.close()


def test_one_call_at_a_time(model):
    session = model.session()
    session.sync(IDS[:10])
    with session._working():
        for call in (lambda: session.eval([1]), lambda: session.rewind(1), lambda: session.logits):
            with pytest.raises(PyQwenError, match="in use"):
                call()
    session.eval([1])


def test_cancelled_by_closing_it_is_as_before(make_tiny_model):
    path = make_tiny_model(context=4096, layers=4, hidden=512, ffn=1024, heads=8, kv_heads=8)
    model = Model(path, threads=1, batch=64)
    session = model.session()
    session.sync(IDS)
    failures = []

    def read():
        try:
            session.eval([1] * 3800)
        except PyQwenError as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    threading.Event().wait(0.1)
    model.close()
    thread.join(2)
    assert len(failures) == 1
    assert session.tokens == IDS
