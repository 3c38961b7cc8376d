"""Files of sessions: the same numbers after loading, whole files or none, and what is refused."""

import os
import random
import stat
import struct
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from pyqwen import (
    ContextOverflowError,
    FileAccessError,
    Model,
    NumericError,
    OutOfMemoryError,
    PyQwenError,
    SessionFileError,
)
from pyqwen._native import checksum
from pyqwen.engine import session_file

IDS = [int(i) for i in np.random.default_rng(3).integers(0, 300, 200)]
EXTRA = {"messages": [{"role": "user", "content": "größer \U0001f999"}], "n": [1, None, 2.5]}


FRONT = session_file._HEADER.size + session_file._SELF.size  # bytes before the tokens
START = 4096  # of the blocks, in small files


def _sums_at(data):
    """Where the checksums of the blocks are."""
    n, extra = session_file._HEADER.unpack_from(data)[7:9]
    return FRONT + 4 * n + extra


def _with_blocks(data, blocks):
    """A file with other blocks and the right checksums."""
    half = len(blocks) // 2
    sums = [checksum(i, blocks[i * half :][:half]) for i in range(2)]
    data = bytearray(data[:START] + blocks)
    struct.pack_into("<2Q", data, _sums_at(data), *sums)
    return _sealed(bytes(data))


def _sealed(data):
    """A file whose checksums of the front are right again, as somebody with intent would write it."""
    fields = list(session_file._HEADER.unpack_from(data))
    end = _sums_at(data) + 8 * -(-fields[7] // max(1, fields[2]))
    fields[-1] = checksum(0, data[FRONT:end])
    header = session_file._HEADER.pack(*fields)
    return header + struct.pack("<Q", checksum(0, header)) + data[FRONT:]


@pytest.fixture(scope="module")
def model(tiny_model_path):
    with Model(tiny_model_path, threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """The bytes of a file of IDS, two blocks, and the logits after it."""
    path = tmp_path_factory.mktemp("saved") / "a.session"
    with model.session() as session:
        session.sync(IDS)
        session.extra = EXTRA
        session.save(path)
        return path.read_bytes(), session.logits


@pytest.mark.parametrize("kv_type", ["f16", "q8_0", "f32", ("q8_0", "q5_1"), ("f16", "q4_0")])
def test_another_process_goes_on(tiny_model_path, tmp_path, kv_type):
    path = tmp_path / "a.session"
    with Model(tiny_model_path, threads=1, kv_type=kv_type) as model, model.session() as session:
        session.sync([*IDS[:150], 9, 9, 9])
        session.rewind(150)
        session.extra = EXTRA
        session.save(path)
        session.eval(IDS[150:])
        expected = session.logits
    with Model(tiny_model_path, threads=2, kv_type=kv_type) as model, model.session() as session:
        session.sync([5, 6])
        session.load(path)
        assert session.tokens == IDS[:150]
        assert session.extra == EXTRA
        answer = model.generate(IDS[:151], max_tokens=1, session=session)
        assert answer.usage.cached_tokens == 150
        session.eval(IDS[151:])
        assert np.array_equal(session.logits, expected)
        tree = model._engine._cache._tree
        assert tree.pinned == 2


def test_files_depend_on_the_text_alone(model, tiny_model_path, saved, tmp_path):
    """Nothing of what was read and given up is in the file, nor of others."""
    with model.session() as session:
        session.sync([*IDS[:170], *[77] * 200])
        session.rewind(170)
        session.eval(IDS[170:])
        session.extra = EXTRA
        session.save(tmp_path / "b.session")
    assert (tmp_path / "b.session").read_bytes() == saved[0]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "b.session").stat().st_mode) == 0o600


def test_an_empty_session(model, tmp_path):
    with model.session() as session:
        session.save(tmp_path / "a")
        session.sync(IDS)
        session.load(tmp_path / "a")
        assert session.tokens == []
        assert session.extra is None


def test_others_do_not_begin_with_what_comes_from_a_file(model, saved, tmp_path):
    """Whoever made a file cannot change what others get who begin alike."""
    path = tmp_path / "a"
    half = (len(saved[0]) - START) // 2
    path.write_bytes(_with_blocks(saved[0], bytes(half) + saved[0][START + half :]))
    with Model(model.path, threads=1) as other, other.session() as session:
        session.load(path)
        assert not np.array_equal(session.logits, saved[1])
        assert other.generate(IDS, max_tokens=1).usage.cached_tokens == 0
        with other.session() as second:
            second.sync(IDS)
            assert np.array_equal(second.logits, saved[1])
        session.sync(IDS)
        assert not np.array_equal(session.logits, saved[1])
        session.rewind(0)
        session.sync(IDS)
        assert np.array_equal(session.logits, saved[1])


def test_many_batches(model, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("pyqwen.engine.session._BATCH_BYTES", 1)
    path = tmp_path / "a"
    path.write_bytes(saved[0])
    while model._engine._cache._tree.evict():
        pass
    with model.session() as session:
        session.load(path)
        session.save(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == saved[0]


def _load(model, path):
    with model.session() as session:
        session.sync(IDS[:7])
        try:
            session.load(path)
        finally:
            if session.tokens != IDS:
                assert session.tokens == IDS[:7]
                assert session.extra is None


def test_another_model_is_refused(make_tiny_model, tiny_model_path, saved, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(saved[0])
    with (
        Model(make_tiny_model(seed=1), threads=1) as other,
        pytest.raises(SessionFileError, match="another model"),
    ):
        _load(other, path)
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(tiny_model_path.read_bytes())
    with changed.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\1")
    with (
        Model(changed, threads=1) as other,
        pytest.raises(SessionFileError, match="written anew"),
    ):
        _load(other, path)


@pytest.mark.parametrize(
    "settings",
    [{"kv_type": "q8_0"}, {"kv_type": ("f16", "q8_0")}, {"exact": True, "kv_type": "f16"}],
)
def test_other_settings_are_refused(tiny_model_path, saved, tmp_path, settings):
    (tmp_path / "a").write_bytes(saved[0])
    with (
        Model(tiny_model_path, threads=1, **settings) as other,
        pytest.raises(SessionFileError, match="another kv_type"),
    ):
        _load(other, tmp_path / "a")


def test_a_context_or_a_budget_that_is_too_small(tiny_model_path, saved, tmp_path):
    (tmp_path / "a").write_bytes(saved[0])
    with (
        Model(tiny_model_path, threads=1, context=199) as other,
        pytest.raises(ContextOverflowError, match="holds 200 tokens"),
    ):
        _load(other, tmp_path / "a")
    with (
        Model(tiny_model_path, threads=1) as plenty,
        plenty.session() as session,
    ):
        session.load(tmp_path / "a")
        block = plenty.kv_bytes // 2
    with (
        Model(tiny_model_path, threads=1, prefix_cache_bytes=block) as other,
        pytest.raises(OutOfMemoryError, match="prefix_cache_bytes"),
    ):
        _load(other, tmp_path / "a")


def test_every_damaged_byte_is_found(model, saved, tmp_path):
    """One bit in each part of the file; of the blocks, in some places."""
    data, path = saved[0], tmp_path / "a"
    rng = random.Random(1)
    assert data[START - 8 : START] == bytes(8), "zeros up to the blocks, which nobody reads"
    front = _sums_at(data) + 16
    places = [*range(0, front, 3), *(rng.randrange(START, len(data)) for _ in range(60))]
    while model._engine._cache._tree.evict():
        pass
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(SessionFileError):
            _load(model, path)


def test_a_file_that_was_cut_or_grew(model, saved, tmp_path):
    data, path = saved[0], tmp_path / "a"
    for size in (0, 1, 50, FRONT - 1, FRONT, 500, 4095, 4096, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(SessionFileError, match=r"cut|no session file|damaged"):
            _load(model, path)
    path.write_bytes(data + b"\0")
    with pytest.raises(SessionFileError, match="cut"):
        _load(model, path)


def test_a_file_that_is_cut_while_it_is_read(model, saved, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(saved[0])
    while model._engine._cache._tree.evict():
        pass
    block = session_file.SessionFile.block

    def cut(self, i, out):
        os.truncate(path, 5000)
        block(self, i, out)

    monkeypatch.setattr(session_file.SessionFile, "block", cut)
    with pytest.raises(SessionFileError, match="cut while it was read"):
        _load(model, path)


def _mutations(data, rng, n):
    """Files with wrong fields, the checksums right again: nothing but the fields can be told from them."""
    header = session_file._HEADER
    for _ in range(n):
        fields = list(header.unpack_from(data))
        which = rng.choice([1, 2, 3, 5, 6, 7, 7, 7, 8, 8, 8])
        bits = 64 if which in (3, 5, 6) else 32
        near = [fields[which] - 1, fields[which] + 1, 127, 200, 256]
        value = rng.choice([0, 1, *near, 2**31, 2**bits - 1, rng.getrandbits(bits)])
        fields[which] = value % 2**bits
        body = bytearray(header.pack(*fields) + data[header.size :])
        for _ in range(rng.randrange(3)):
            body[rng.randrange(FRONT, FRONT + 4 * 200 + 150)] = rng.randrange(256)
        end = rng.choice([len(body), len(body), rng.randrange(FRONT, len(body))])
        yield _sealed(bytes(body[:end]))


def _meet_mutations(model, saved, path, n):
    rng = random.Random(n)
    for data in _mutations(saved[0], rng, n):
        path.write_bytes(data)
        with model.session() as session:
            try:
                session.load(path)
            except (PyQwenError, ValueError):
                assert session.tokens == []
                continue
            assert max(session.tokens, default=0) < model.config.vocab_rows
            if session.tokens:
                assert session.logits.shape == (model.config.vocab_rows,)


def test_hostile_fields(model, saved, tmp_path):
    _meet_mutations(model, saved, tmp_path / "a", 150)


@pytest.mark.slow
def test_many_hostile_fields(model, saved, tmp_path):
    _meet_mutations(model, saved, tmp_path / "a", 4_000)


@pytest.mark.parametrize("kv_type", ["f16", "f32", ("q8_0", "q5_1"), ("q8_0", "q4_0")])
def test_hostile_keys_and_values(tiny_model_path, tmp_path, kv_type):
    """Blocks of any bytes, with right checksums, make wrong numbers and no harm."""
    path = tmp_path / "a"
    rng = np.random.default_rng(0)
    with Model(tiny_model_path, threads=1, kv_type=kv_type) as model, model.session() as session:
        session.sync(IDS)
        session.save(path)
        whole = path.read_bytes()
        for fill in (b"\xff", b"\x7f\xf8", b"\x00\x7c", None):
            size = len(whole) - START
            blocks = rng.bytes(size) if fill is None else (fill * size)[:size]
            path.write_bytes(_with_blocks(whole, blocks))
            session.load(path)
            assert session.logits.shape == (model.config.vocab_rows,)
            with suppress(NumericError):
                model.generate(
                    [*IDS, 4], max_tokens=3, temperature=1.0, ignore_eos=True, session=session
                )
        assert model.generate(IDS, max_tokens=3, temperature=0).token_ids


def test_hostile_extra(model, saved, tmp_path):
    path = tmp_path / "a"
    with model.session() as session:
        session.sync([1, 2, 3])
        session.extra = {"a": "x" * 1000}
        session.save(path)
    data = path.read_bytes()
    at = FRONT + 12
    for extra in (b"[" * 1009, b'"\xff'.ljust(1009), b"1" * 1009, b"[]".ljust(1009)):
        changed = data[:at] + extra + data[at + 1009 :]
        path.write_bytes(_sealed(changed))
        with pytest.raises(SessionFileError):
            _load(model, path)


def test_places_where_no_file_can_be(model, saved, tmp_path):
    with model.session() as session:
        session.sync(IDS)
        for place in (tmp_path, tmp_path / "no" / "a", "/dev/null", tmp_path / ("x" * 300), "a\0b"):
            with pytest.raises((FileAccessError, ValueError)):
                session.save(place)
            with pytest.raises((FileAccessError, ValueError)):
                session.load(place)
        with pytest.raises(ValueError, match="is the input"):
            session.save(model.path)
        with pytest.raises(FileAccessError) as missing:
            session.load(tmp_path / "missing")
        assert isinstance(missing.value, OSError)
        for extra in ({"a": object()}, {"a": "\ud800"}, {"a": {1, 2}}):
            session.extra = extra
            with pytest.raises((TypeError, ValueError)):
                session.save(tmp_path / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
def test_links_and_pipes(model, saved, tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    victim = tmp_path / "victim"
    victim.write_text("mine")
    link.symlink_to(target)
    (tmp_path / "target.partial").symlink_to(victim)  # somebody waits for our file
    os.mkfifo(tmp_path / "pipe")
    with model.session() as session:
        session.sync(IDS)
        session.extra = EXTRA
        session.save(link)
        assert link.is_symlink()
        assert target.read_bytes() == saved[0]
        assert victim.read_text() == "mine"
        with pytest.raises(SessionFileError, match="regular"):
            session.load(tmp_path / "pipe")
        with pytest.raises(ValueError, match="regular"):
            session.save(tmp_path / "pipe")


def test_what_fails_in_the_middle_leaves_the_old_file(model, saved, tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with model.session() as session:
        session.sync(IDS)

        def fail(seed, data):
            if seed == 1:
                raise MemoryError
            return checksum(seed, data)

        monkeypatch.setattr(session_file, "checksum", fail)
        with pytest.raises(MemoryError):
            session.save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_unless_asked(tiny_model_path, tmp_path):
    code = """
import os, sys
from pyqwen import Model
with Model(sys.argv[1]) as model, model.session() as session:
    model.chat("a secret", max_tokens=3)
    session.sync([1, 2, 3])
"""
    environment = os.environ | {"HOME": str(tmp_path), "PYQWEN_CACHE": str(tmp_path / "cache")}
    environment |= {"TMPDIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code, str(tiny_model_path)],
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_after_unloading(tiny_model_path, saved, tmp_path):
    with Model(tiny_model_path, threads=1, unload_after=0) as model, model.session() as session:
        session.sync(IDS)
        session.extra = EXTRA
        session.save(tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == saved[0]
        session.load(tmp_path / "a")
        assert session.tokens == IDS
        assert np.array_equal(session.logits, saved[1])
