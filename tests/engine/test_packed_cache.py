"""Packed weights on disk: the same answers with and without, and nothing that is not whole is used."""

import logging
import os
import random
import shutil
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import pyqwen
from pyqwen import Model, _native
from pyqwen.loading import packed_cache

IDS = list(range(40))

pytestmark = pytest.mark.skipif(
    _native.isas().keys() == {"scalar"}, reason="the scalar kernels take rows as they are"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of an empty cache in which even tiny models are kept, and at once."""
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packed_cache, "SMALLEST", 0)
    monkeypatch.setattr(packed_cache, "_DELAY_SECONDS", 0.0)
    return tmp_path / "cache" / "packed"


@pytest.fixture
def path(make_tiny_model, tmp_path):
    """A model of several pieces that tests may change."""
    made = make_tiny_model(tied=False, layers=3, hidden=512, ffn=2048)
    return Path(shutil.copy2(made, tmp_path / "model.gguf"))


def packed_files(folder):
    return sorted(folder.glob("*.packed"))


def logits(path, *, stored=None, finish=True, **settings):
    """Logits of a model; ``stored`` says whether it must come from the cache."""
    with Model(path, **settings) as model:
        if stored is not None:
            assert (model._residence.writer is None) == stored
        if finish:
            assert model.finish_cache(60)
        return model.logits(IDS)


def test_the_second_start_gives_the_same_bits(path, folder):
    plain = logits(path, cache=False)
    assert not folder.exists()
    packing = logits(path, stored=False)
    (file,) = packed_files(folder)
    assert sorted(p.suffix for p in folder.iterdir() if p.suffix != ".lock") == [".json", ".packed"]
    before = file.stat()
    mapped = logits(path, stored=True)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert plain.tobytes() == packing.tobytes() == mapped.tobytes()
    assert pyqwen.plan(path).cache == before.st_size > before.st_size // 2 > 0
    assert pyqwen.plan(path, cache=False).cache == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_is_mapped_in_huge_pages_where_there_are_any(path, folder):
    """Out of small pages decoding is a tenth slower. Whether there are any is the file system's choice."""
    logits(path, stored=False)
    with Model(path):
        mappings = Path("/proc/self/smaps").read_text().split("VmFlags:")
    flags = next(
        after.splitlines()[0].split()
        for before, after in pairwise(mappings)
        if f"{packed_files(folder)[0]}\n" in before
    )
    assert "hg" in flags or not Path("/sys/kernel/mm/transparent_hugepage").is_dir()


def test_a_cache_that_was_made_by_other_threads_is_the_same(path, folder):
    logits(path, threads=1)
    (first,) = packed_files(folder)
    content = first.read_bytes()
    first.unlink()
    logits(path, threads=3)
    assert first.read_bytes() == content


def test_split_files(make_tiny_model, folder):
    path = make_tiny_model(split_max_tensors=9)
    assert logits(path).tobytes() == logits(path, stored=True).tobytes()
    assert packed_cache.prune() == []


@pytest.mark.skipif(
    sum(_native.isas().values()) < 3, reason="needs two instruction sets beside scalar"
)
def test_another_width_of_panels_has_a_file_of_its_own(path, folder):
    usable = [isa for isa, available in _native.isas().items() if available and isa != "scalar"]
    expected = logits(path, cache=False)
    for isa in usable:
        assert logits(path, isa=isa).tobytes() == expected.tobytes()
        assert logits(path, isa=isa, stored=True).tobytes() == expected.tobytes()
    assert 1 <= len(packed_files(folder)) <= 2


@pytest.mark.parametrize("settings", [{"load": "copy"}, {"isa": "scalar"}, {"exact": True}])
def test_nothing_is_kept_where_nothing_is_mapped(path, folder, settings):
    logits(path, stored=True, **settings)
    assert not folder.exists()


def test_small_files_are_not_worth_it(path, folder, monkeypatch):
    monkeypatch.setattr(packed_cache, "SMALLEST", 2**40)
    logits(path, stored=True)
    assert not folder.exists()


def test_a_changed_file_is_packed_again(path, folder):
    old = logits(path)
    (stale,) = packed_files(folder)
    time = path.stat().st_mtime_ns
    with path.open("r+b") as file:  # the values of the last tensor
        file.seek(-2000, os.SEEK_END)
        file.write(bytes(range(1, 65)))
    os.utime(path, ns=(time, time + 1))
    new = logits(path, stored=False)
    assert new.tobytes() != old.tobytes()
    assert new.tobytes() == logits(path, cache=False).tobytes()
    assert stale not in packed_files(folder)
    assert len(packed_files(folder)) == 1


def test_another_file_of_the_same_size_and_time_is_told_apart(path, folder):
    logits(path)
    time = path.stat().st_mtime_ns
    content = np.fromfile(path, np.uint8)
    content[content.size // 2 :] = np.random.default_rng(0).permutation(
        content[content.size // 2 :]
    )
    path.unlink()
    content.tofile(path)
    os.utime(path, ns=(time, time))
    with Model(path, exact=False) as model:
        assert model._residence.writer is not None


def test_damage_anywhere_is_found(path, folder, caplog):
    expected = logits(path)
    (file,) = packed_files(folder)
    good = file.read_bytes()
    used = np.flatnonzero(np.frombuffer(good, np.uint8))
    places = random.Random(1).sample(sorted(used[used >= 2**21].tolist()), 12)
    with_header = [0, 9, 17, 60, *(random.Random(2).sample(range(96), 6)), *places, len(good) - 1]
    caplog.set_level(logging.WARNING, "pyqwen")
    for place in with_header:
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        file.write_bytes(bad)
        caplog.clear()
        assert logits(path, stored=False).tobytes() == expected.tobytes()
        assert "is not used" in caplog.text, place
        assert file.read_bytes() == good, place


@pytest.mark.parametrize("keep", [0, 1, 95, 2**21, -4096, -1])
def test_truncated_files_are_not_used(path, folder, keep):
    expected = logits(path)
    (file,) = packed_files(folder)
    good = file.read_bytes()
    file.write_bytes(good[:keep])
    assert logits(path, stored=False).tobytes() == expected.tobytes()
    assert file.read_bytes() == good
    file.write_bytes(good + b"\0")
    assert logits(path, stored=False).tobytes() == expected.tobytes()
    file.unlink()
    file.mkdir()
    assert logits(path).tobytes() == expected.tobytes()


def test_closing_abandons_the_writing(path, folder, monkeypatch):
    monkeypatch.setattr(packed_cache, "_DELAY_SECONDS", 60.0)
    logits(path, finish=False)
    assert not folder.exists()
    started = []

    def slow(descriptor, data):
        started.append(descriptor)
        packed_cache.time.sleep(0.2)

    monkeypatch.setattr(packed_cache, "_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(packed_cache, "_write_all", slow)
    model = Model(path)
    while not started:
        packed_cache.time.sleep(0.01)
    model.close()
    assert [p for p in folder.iterdir() if p.suffix != ".lock"] == []


def test_no_space_and_no_folder_are_no_errors(path, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(packed_cache, "DISK_RESERVE", 2**62)
    expected = logits(path, stored=False)
    assert packed_files(folder) == []
    monkeypatch.setattr(packed_cache, "DISK_RESERVE", 0)

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packed_cache, "_write_all", full)
        assert logits(path, stored=False).tobytes() == expected.tobytes()
    assert [p for p in folder.iterdir() if p.suffix != ".lock"] == []
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("PYQWEN_CACHE", str(blocked))
    assert logits(path, stored=False).tobytes() == expected.tobytes()


def test_a_real_limit_of_file_size(path, folder):
    """The write itself fails, as on a full disk."""
    pytest.importorskip("resource")
    script = """
    import resource, signal, sys
    from pyqwen import Model
    from pyqwen.loading import packed_cache
    packed_cache.SMALLEST = packed_cache._DELAY_SECONDS = 0
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * 2**20, resource.RLIM_INFINITY))
    with Model(sys.argv[1]) as model:
        assert model.finish_cache(60)
        assert model.logits([1, 2]).any()
    """
    _run(script, path)
    assert packed_files(folder) == []
    assert list(folder.glob("*.part")) == []


def test_killed_while_writing(path, folder):
    script = """
    import os, signal, sys
    from pyqwen import Model
    from pyqwen.loading import packed_cache
    packed_cache.SMALLEST = packed_cache._DELAY_SECONDS = 0
    def die(descriptor, data):
        os.write(descriptor, data[:1000])
        os.kill(os.getpid(), signal.SIGKILL)
    packed_cache._write_all = die
    Model(sys.argv[1]).finish_cache(60)
    """
    if sys.platform == "win32":
        pytest.skip("has no SIGKILL")
    _run(script, path, expected=-9)
    assert packed_files(folder) == []
    assert len(list(folder.glob("*.part"))) == 1
    assert logits(path, stored=False).tobytes() == logits(path, stored=True).tobytes()
    assert list(folder.glob("*.part")) == []


def test_two_processes_at_once(path, folder):
    script = """
    import sys
    from pyqwen import Model
    from pyqwen.loading import packed_cache
    packed_cache.SMALLEST = packed_cache._DELAY_SECONDS = 0
    with Model(sys.argv[1]) as model:
        assert model.finish_cache(60)
        print(model.logits(list(range(40))).tobytes().hex())
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(script), str(path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0].strip() == outputs[1].strip() == logits(path, stored=True).tobytes().hex()


def test_what_lost_its_model_is_removed(path, folder, make_tiny_model):
    logits(path)
    (file,) = packed_files(folder)
    assert packed_cache.stored_bytes((path,)) == file.stat().st_size
    (folder / "stray.packed").write_bytes(b"no note")
    path.unlink()
    assert sorted(p.name for p in packed_cache.prune()) == sorted([file.name, "stray.packed"])
    assert list(folder.glob("*.json")) == packed_files(folder) == []
    assert packed_cache.stored_bytes((path,)) == 0


def test_a_file_that_changes_while_it_is_written_is_not_kept(path, folder, monkeypatch):
    monkeypatch.setattr(packed_cache, "_DELAY_SECONDS", 60.0)
    with Model(path) as model:
        os.utime(path, (1, 1))
        assert model.finish_cache(60)
    assert packed_files(folder) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_wait_for_the_writer(path, folder):
    script = """
    import os, sys
    from pyqwen import Model
    from pyqwen.loading import packed_cache
    packed_cache.SMALLEST = 0
    packed_cache._DELAY_SECONDS = 600
    model = Model(sys.argv[1])
    pid = os.fork()
    if pid == 0:
        model.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    model.close()
    """
    _run(script, path)


def _run(script, path, expected=0):
    command = [sys.executable, "-P", "-c", textwrap.dedent(script), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == expected, result.stderr
