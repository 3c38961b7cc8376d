"""Closing, collecting, forking, pickling: in any order, without a crash or a hang."""

import copy
import gc
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import pytest

import pyqwen
from pyqwen import Model

IDS = list(range(40, 60))


def _engine_threads():
    return [thread for thread in threading.enumerate() if thread.name == "pyqwen-engine"]


def _run(script, path):
    """Run a script in a new process; it must end by itself, and well."""
    source = "import sys\npath = sys.argv[1]\n" + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-P", "-c", source, str(path)], capture_output=True, text=True, timeout=60
    )


def test_use_after_close(tiny_model_path):
    model = Model(tiny_model_path)
    model.close()
    model.close()
    assert model.closed
    for call in (
        lambda: model.generate(IDS),
        lambda: model.stream(IDS),
        lambda: model.chat("Hello"),
        lambda: model.logits(IDS),
        lambda: model.logprobs(IDS),
    ):
        with pytest.raises(pyqwen.ClosedError):
            call()
    assert model.kv_bytes == 0
    assert "closed" in repr(model)


def test_with_closes(tiny_model_path):
    with Model(tiny_model_path) as model:
        pass
    assert model.closed


def test_threads_end_with_their_models(tiny_model_path):
    before = len(_engine_threads())
    models = [Model(tiny_model_path) for _ in range(3)]
    assert len(_engine_threads()) == before + 3
    models[0].close()
    del models
    gc.collect()
    assert len(_engine_threads()) == before


def test_a_model_that_is_let_go_of_is_freed(tiny_model_path):
    model = Model(tiny_model_path)
    model.chat("Hello", max_tokens=3)
    gone = weakref.ref(model)
    del model
    assert gone() is None  # without the help of the garbage collector


def test_a_stream_keeps_its_model(tiny_model_path):
    stream = Model(tiny_model_path).stream(IDS, max_tokens=20, ignore_eos=True)
    gc.collect()
    assert len(stream.result().token_ids) == 20


def test_collection_in_a_cycle(tiny_model_path):
    model = Model(tiny_model_path)
    stream = model.stream(IDS, max_tokens=400, ignore_eos=True)
    holder = {"model": model, "stream": stream}
    holder["self"] = holder
    before = len(_engine_threads())
    del model, stream, holder
    gc.collect()
    assert len(_engine_threads()) == before - 1


def test_an_exception_in_the_constructor_leaves_nothing(tiny_model_path):
    before = len(_engine_threads())
    with pytest.raises(ValueError, match="context"):
        Model(tiny_model_path, context=10**6)
    gc.collect()
    assert len(_engine_threads()) == before


def test_a_request_that_comes_too_late_cannot_keep_the_model_open(make_tiny_model):
    """A closed event loop refuses events: also those of requests that find the engine stopping."""
    model = Model(make_tiny_model(context=32768))
    engine, settings, told = model._engine, {"max_tokens": 30_000, "ignore_eos": True}, []

    def refuse(event):
        told.append(event)
        raise RuntimeError("Event loop is closed")

    def deliver(event):  # by the worker, which looks into its inbox a last time after this
        if isinstance(event, pyqwen.CancelledError):
            engine._inbox.put(model._calls.continuation(IDS, None, settings, refuse))

    engine.submit(model._calls.continuation(IDS, None, settings, deliver))
    while model.kv_bytes == 0:
        time.sleep(0.001)
    model.close()
    assert [type(event) for event in told] == [pyqwen.CancelledError]
    assert model.kv_bytes == 0


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_models_and_streams_cannot_be_copied(model, make):
    with pytest.raises(TypeError, match="Model cannot be pickled"):
        make(model)
    stream = model.stream(IDS, max_tokens=1)
    with pytest.raises(TypeError, match="Stream cannot be pickled"):
        make(stream)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told(tiny_model_path):
    script = """
        import os
        from pyqwen import Model, PyQwenError
        model = Model(path)
        model.generate([1, 2, 3], max_tokens=2)
        session = model.session()
        session.sync([1, 2, 3])
        stream = model.stream([1, 2], max_tokens=500, ignore_eos=True)
        pid = os.fork()
        if pid == 0:
            calls = [lambda: model.generate([1]), stream.result, lambda: model.logits([1])]
            calls += [model.session, lambda: session.eval([1]), lambda: session.save("never")]
            for call in calls:
                try:
                    call()
                    os._exit(1)
                except PyQwenError as error:
                    assert "forked" in str(error), error
            stream.cancel()
            session.close()
            model.close()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert len(model.generate([1, 2, 3], max_tokens=4, ignore_eos=True).token_ids) == 4
        print("good")
    """
    result = _run(script, tiny_model_path)
    assert result.stdout.strip().endswith("good"), result.stderr


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "del model",
        "del stream",
        "del session",
        "session.close()",
        "model.close()",
        "stream.cancel()",
        "globals().clear()",
        "model.me = model; stream.me = stream; del model, stream",
        "import atexit; atexit.register(lambda: model.generate([1], max_tokens=1))",
    ],
)
def test_the_interpreter_ends_with_live_objects(tiny_model_path, ending):
    script = f"""
        from pyqwen import Model
        model = Model(path)
        session = model.session()
        stream = model.stream([1, 2, 3], max_tokens=400, ignore_eos=True, session=session)
        next(stream)
        {ending}
    """
    result = _run(script, tiny_model_path)
    assert (result.returncode, result.stderr) == (0, "")


def test_import_is_quick_and_complete():
    script = """
        import time
        start = time.process_time()  # other programs' load is not the import's
        import pyqwen
        seconds = time.process_time() - start
        assert "numpy" not in sys.modules
        for name in pyqwen.__all__:
            assert getattr(pyqwen, name) is not None
        assert set(pyqwen.__all__) <= set(dir(pyqwen))
        assert callable(pyqwen.plan) and callable(pyqwen.inspect)
        print(seconds)
    """
    result = _run(script, "")
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 0.1


def _import_core_of(folder):
    # -S: the import hook of an editable install would find the core that this folder has not.
    return subprocess.run(
        [sys.executable, "-S", "-c", "import pyqwen._native"],
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        cwd=folder,
    )


def test_the_source_folder_says_that_it_has_no_core(tmp_path):
    package = Path(pyqwen.__file__).parent
    shutil.copytree(package, tmp_path / "pyqwen", ignore=shutil.ignore_patterns("_ffi*", "*.pyc"))
    last_line = _import_core_of(tmp_path).stderr.splitlines()[-1]
    assert last_line.startswith(f"ImportError: {tmp_path / 'pyqwen'} has no compiled C core")
    assert "pip install ." in last_line
    # A core that is there but cannot be loaded, or misses a name, is another matter.
    (tmp_path / "pyqwen" / "_ffi.py").write_text("ffi = None")
    last_line = _import_core_of(tmp_path).stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: cannot import name 'lib'")


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="Modell"):
        pyqwen.Modell  # noqa: B018
