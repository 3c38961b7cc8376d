"""When memory runs out: the request that needs it fails or makes room, the model stays usable."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("resource", reason="limits are set otherwise here")

SCRIPT = """
import resource, sys
import pyqwen

model = pyqwen.Model(sys.argv[1], max_sequences=2, threads=1)

def limit(megabytes):  # beyond what is taken now
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + megabytes * 2**20, resource.RLIM_INFINITY))

def prompt(first):
    return [first] + [i % 300 for i in range(2999)]

model.generate([1, 2, 3], max_tokens=2)
"""


def _run(script, path):
    source = SCRIPT + textwrap.dedent(script)
    # Large blocks straight from the system: what glibc reserves for each thread is beyond the limit.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    result = subprocess.run(
        [sys.executable, "-P", "-c", source, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def path(make_tiny_model):
    """A model whose cache takes 12 KiB for each token."""
    return make_tiny_model(context=8192, layers=6, hidden=512, ffn=512, heads=8, kv_heads=8)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_request_that_needs_too_much_fails_alone(path):
    _run(
        """
        limit(20)
        try:
            model.generate(prompt(1), max_tokens=2)
            raise SystemExit("there was memory enough")
        except pyqwen.OutOfMemoryError as error:
            assert "cache" in str(error), error
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert model.generate(prompt(1)[:200], max_tokens=2, ignore_eos=True).token_ids
        """,
        path,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_idle_caches_make_room(path):
    _run(
        """
        model.generate(prompt(1), max_tokens=2)
        before = model.kv_bytes
        limit(15)
        reply = model.generate(prompt(2), max_tokens=2, ignore_eos=True)
        assert len(reply.token_ids) == 2
        assert model.kv_bytes < 1.5 * before
        """,
        path,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_that_cannot_be_mapped_for_lack_of_memory(tiny_model_path, tmp_path):
    large = tmp_path / "large.gguf"
    large.write_bytes(tiny_model_path.read_bytes())
    with large.open("r+b") as file:
        file.truncate(2**30)  # takes no disk
    _run(
        """
        limit(256)
        try:
            pyqwen.Model(sys.argv[1] + "/large.gguf")
        except pyqwen.OutOfMemoryError as error:
            assert "large.gguf: cannot be mapped" in str(error), error
        else:
            raise AssertionError("it was mapped")
        """.replace("sys.argv[1] + ", f"{str(tmp_path)!r} + "),
        tiny_model_path,
    )
