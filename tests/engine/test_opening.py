"""Opening a model that fails, in every step it can fail in; and who keeps what alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyqwen import Model, ModelChangedError, _native
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.loading.settings import resolve_settings
from pyqwen.loading.weights import load_weights

# Raises at the n-th call that the opening thread makes from or to a line of pyqwen, for each n or every few.
# A crash ends the process; what is left behind is found by its threads and by what the process has mapped.
FAIL_EVERYWHERE = """
import gc, shutil, sys, threading, time
from pathlib import Path
import pyqwen
from pyqwen import Model
from pyqwen.loading import packed_cache

path, cold, stride = Path(sys.argv[1]), sys.argv[2] == "cold", int(sys.argv[3])
here = str(Path(pyqwen.__file__).parent)
packed_cache.SMALLEST = packed_cache.DISK_RESERVE = 0
packed_cache._DELAY_SECONDS = 0.0

class InjectedError(Exception):
    pass

def is_ours(frame):
    return frame is not None and frame.f_code.co_filename.startswith(here)

def open_and_fail(step):
    # Returns whether there was such a step. What fails in a weak reference's callback is only shown.
    count, failed = 0, False
    def watch(frame, event, argument):
        nonlocal count, failed
        count += event == "c_call" and is_ours(frame)
        count += event == "call" and (is_ours(frame) or is_ours(frame.f_back))
        if count >= step:
            sys.setprofile(None)
            failed = True
            raise InjectedError
    sys.setprofile(watch)
    try:
        model = Model(path, threads=1)
    except InjectedError:
        return True
    finally:
        sys.setprofile(None)
    model.finish_cache()
    model.close()
    return failed

def leftovers():
    names = [thread.name for thread in threading.enumerate()]
    maps = Path("/proc/self/maps")
    mapped = maps.exists() and str(path) in maps.read_text()
    return [name for name in names if name.startswith("pyqwen")] + ["mapped"] * mapped

open_and_fail(10**9)  # imports what is imported late
step = 1
while True:
    if cold:
        shutil.rmtree(packed_cache.packed_dir(), ignore_errors=True)
    failed = open_and_fail(step)
    gc.collect()
    end = time.monotonic() + 10
    while (left := leftovers()) and time.monotonic() < end:
        time.sleep(0.002)
    assert not left, (step, left)
    if not failed:
        break
    step += stride
print(step)
"""


def run_python(code: str, *args: object, cache: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYQWEN_CACHE": str(cache)}
    command = [sys.executable, "-X", "faulthandler", "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=250)


@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_failure_in_any_step_undoes_the_others(
    tiny_model_path: Path, tmp_path: Path, cache: str, stride: int
) -> None:
    done = run_python(FAIL_EVERYWHERE, tiny_model_path, cache, stride, cache=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 150


NO_THREAD = """
import gc, sys, threading
from pyqwen import Model
from pyqwen.loading import packed_cache

packed_cache.SMALLEST = 0
start = threading.Thread.start
def fail(thread):
    if thread.name.startswith(sys.argv[2]):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = fail
try:
    with Model(sys.argv[1], threads=1) as model:
        print(model.generate("Hello", max_tokens=1).usage.completion_tokens)
except MemoryError as error:
    print(error)
gc.collect()
print([t.name for t in threading.enumerate() if t.name.startswith("pyqwen")])
"""


@pytest.mark.parametrize(
    ("thread", "outcome"),
    [
        ("pyqwen-engine", "no thread can be started for the model: can't start new thread"),
        ("pyqwen-cache", "1"),  # nothing is kept then
        ("pyqwen-open", "1"),  # the tokenizer is read after the weights
    ],
)
def test_no_thread_can_be_started(
    tiny_model_path: Path, tmp_path: Path, thread: str, outcome: str
) -> None:
    done = run_python(NO_THREAD, tiny_model_path, thread, cache=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (0, [outcome, "[]"]), done.stderr


def test_settings_that_cannot_be_are_refused_before_the_weights_are_read(
    tiny_model_path: Path,
) -> None:
    def progress(done: int, total: int) -> None:
        raise AssertionError("weights were read")

    for settings in ({"kv_type": "q3"}, {"isa": "abacus"}, {"load": "guess"}, {"batch": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            Model(tiny_model_path, progress=progress, **settings)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- who keeps what alive


def test_a_session_keeps_its_model_and_that_its_file(tiny_model_path: Path) -> None:
    def logits(close: bool) -> bytes:
        weights = load_weights(tiny_model_path, resolve_settings(max_sequences=1, threads=1))
        session = weights.session(64)
        if close:
            weights.close()
            del weights
        session.eval([5, 6, 7], [0] * 3, [1] * 3)
        out = np.empty((3, 352), np.float32)
        session.logits(0, 3, out)
        session.close()
        return out.tobytes()

    assert logits(close=True) == logits(close=False)


def test_an_image_and_its_pieces_keep_the_model(tiny_model_path: Path) -> None:
    def pieces(close: bool) -> list[bytes]:
        weights = load_weights(tiny_model_path, resolve_settings(cache=False))
        image = _native.PackedImage(weights.model)
        parts = image.pieces()
        first, _ = next(parts)
        if close:
            weights.close()
            del image, weights
        return [bytes(first), *(bytes(piece) for piece, _ in parts)]

    assert pieces(close=True) == pieces(close=False)


def test_what_was_closed_says_so(tiny_model_path: Path) -> None:
    from pyqwen import ClosedError

    weights = load_weights(tiny_model_path, resolve_settings())
    session = weights.session(64)
    for closed in (session, weights):
        closed.close()
        closed.close()
    session.cancel()  # nothing is left to cancel
    with pytest.raises(ClosedError):
        session.eval([1], [0], [1])
    with pytest.raises(ClosedError):
        weights.session(64)
    with pytest.raises(ClosedError):
        weights.file.tensors  # noqa: B018


def test_a_buffer_is_given_back_when_reading_fails(make_tiny_model, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(make_tiny_model().read_bytes())
    with GGUFFile(path, load="copy") as file:
        view = memoryview(bytearray(file.tensors[-1].n_bytes))
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(ModelChangedError) as caught:
            file.handle.read_into(len(file.tensors) - 1, 0, view)
        view.release()  # BufferError if the frames of the exception still lent it out
        assert caught.value.__traceback__ is not None
