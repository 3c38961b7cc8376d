"""Answers that a session holds afterwards, an open one or one in a file that is loaded before and saved."""

import asyncio
import threading
import time

import numpy as np
import pytest

from pyqwen import FileAccessError, Model, PyQwenError, SessionFileError
from pyqwen.engine import session_file

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 300, 200)]


@pytest.fixture(scope="module")
def model(tiny_model_path):
    with Model(tiny_model_path, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The bytes of a file of IDS."""
    path = tmp_path_factory.mktemp("saved") / "a.session"
    with model.session() as session:
        session.sync(IDS)
        session.save(path)
    return path.read_bytes()


def test_a_chat_in_a_file(tiny_model_path, tmp_path):
    path = tmp_path / "talk.session"
    settings = {"max_tokens": 12, "seed": 1, "ignore_eos": True}
    messages = [{"role": "user", "content": "What is the time?"}]
    with Model(tiny_model_path, threads=1) as model:
        first = model.chat(messages, session=path, **settings)
        assert path.is_file()
        expected = [*messages, first.message, {"role": "user", "content": "And now?"}]
        second = model.chat(expected, **settings)
    with Model(tiny_model_path, threads=1) as model:
        with model.session() as session:
            session.load(path)
            assert session.extra == {"messages": [*messages, first.message]}
            said = session.extra["messages"]
        with model.stream_chat(
            [*said, {"role": "user", "content": "And now?"}], session=path, **settings
        ) as stream:
            chunks = list(stream)
        again = stream.completion
        assert "".join(chunk.text for chunk in chunks) == again.text
        assert again.token_ids == second.token_ids
        assert again.usage.cached_tokens >= first.usage.prompt_tokens + 11
        model.generate([1], max_tokens=1)  # the worker has heard of the end of the session by then
        assert model._engine._cache._tree.pinned == 0
        with model.session() as session:
            session.load(path)
            assert len(session) == again.usage.prompt_tokens + 11
            assert len(session.extra["messages"]) == 4


def test_answers_that_a_session_holds(model, tmp_path):
    with model.session() as session:
        reply = model.generate(IDS, max_tokens=5, ignore_eos=True, session=session)
        assert session.tokens == [*IDS, *reply.token_ids[:-1]]
        with pytest.raises(ValueError, match="one answer"):
            model.generate_n(IDS, 2, session=session)
        stream = model.stream(IDS, max_tokens=200, ignore_eos=True, session=session)
        next(stream)
        with pytest.raises(PyQwenError, match="in use by an answer"):
            session.rewind(0)
        with pytest.raises(PyQwenError, match="in use by an answer"):
            model.generate(IDS, session=session)
        stream.close()
        assert session.tokens[: len(IDS)] == IDS
        left = model.session()
        stream = model.stream(IDS, max_tokens=200, ignore_eos=True, session=left)
        next(stream)
        left.close()
        stream.close()
        model.generate([1], max_tokens=1)
        assert left._hold.path(model._engine._cache._tree) == []
        session.rewind(0)
    with pytest.raises(TypeError, match="Session or the path"):
        model.generate(IDS, max_tokens=1, session=5)
    for place in (tmp_path, tmp_path / "no" / "a", "/dev/null", "a\0b", model.path):
        with pytest.raises((FileAccessError, ValueError)):
            model.generate(IDS, max_tokens=1, session=place)
    (tmp_path / "bad").write_bytes(b"PQSESS\r\n" + bytes(5000))
    with pytest.raises(SessionFileError, match="damaged"):
        model.generate(IDS, max_tokens=1, session=tmp_path / "bad")
    assert (tmp_path / "bad").stat().st_size == 5008


def test_an_answer_in_a_file_beside_a_loop(model, tmp_path):
    async def ask():
        return await model.achat("Hello!", max_tokens=3, session=tmp_path / "a")

    assert asyncio.run(ask()).usage.completion_tokens
    assert (tmp_path / "a").is_file()


def test_cancelled_while_the_file_is_loaded(model, saved, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(saved)
    begun, go_on = threading.Event(), threading.Event()
    block = session_file.SessionFile.block

    def slow(self, i, out):
        begun.set()
        go_on.wait(10)
        block(self, i, out)

    monkeypatch.setattr(session_file.SessionFile, "block", slow)
    stream = model.stream(IDS, max_tokens=5, session=path)
    assert begun.wait(10)
    start = time.process_time()
    stream.cancel()
    reason = stream.finish_reason  # which does not wait for the file
    assert (reason, go_on.is_set()) == ("cancelled", False)
    assert time.process_time() - start < 0.1
    go_on.set()
    assert path.read_bytes() == saved
    assert model.generate(IDS, max_tokens=1).usage.completion_tokens == 1


def test_cancelled_before_it_began_the_file_stays(model, saved, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(saved)
    begun = threading.Event()
    monkeypatch.setattr("pyqwen.engine.session_use._InFile._load", lambda self: begun.wait(10))
    for missing in (False, True):
        begun.clear()
        place = tmp_path / "missing" if missing else path
        stream = model.stream(IDS, max_tokens=5, session=place)
        stream.cancel()
        assert stream.finish_reason == "cancelled"
        begun.set()
    assert path.read_bytes() == saved
    assert list(tmp_path.iterdir()) == [path]
    with model.stream(IDS, max_tokens=400, ignore_eos=True) as first, model.session() as session:
        others = [model.stream([i], max_tokens=400, ignore_eos=True) for i in range(3)]
        next(first)
        late = model.stream(IDS, max_tokens=5, session=session)  # waits for its turn
        late.cancel()
        assert late.finish_reason == "cancelled"
        assert session.tokens == []
        for other in others:
            other.close()
