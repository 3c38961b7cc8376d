"""Types of the KV cache in a model: how exact they are, and that only the tokens decide about bits."""

from contextlib import closing

import numpy as np
import pytest

from pyqwen import Model, _native
from pyqwen._native import SessionHandle
from pyqwen.loading.gguf_file import GGUFFile

IDS = np.random.default_rng(3).integers(0, 334, 300).tolist()
TYPES = ["q8_0", "q4_0", "q5_1", ("q8_0", "q5_1"), ("f16", "q4_0")]
ISAS = [isa for isa, here in _native.isas().items() if here and isa != "scalar"]


@pytest.fixture(scope="module")
def path(make_tiny_model):
    """Keys have a large constant where they turn slowly, as Qwen2.5's do."""
    return make_tiny_model(tensor_type="F32", hidden=256, key_bias=300.0)


def logits(path, ids=IDS, **options):
    with Model(path, max_sequences=1, **options) as model:
        return model.logits(ids)


def divergence(expected, actual):
    """Return the mean KL divergence of ``actual`` in nats."""

    def log_softmax(x):
        x = x.astype(np.float64)
        x -= x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(expected), log_softmax(actual)
    return (np.exp(p) * (p - q)).sum(-1).mean()


@pytest.mark.parametrize(
    ("kv_type", "most"), [("q8_0", 1.0), (("q8_0", "q5_1"), 12.0), ("q5_1", 50.0)]
)
def test_a_large_constant_of_keys_does_no_harm(path, kv_type, most):
    """Eight bits without it are better than the 11 of f16 with it."""
    exact = logits(path, exact=True)
    f16 = divergence(exact, logits(path, exact=True, kv_type="f16"))
    assert divergence(exact, logits(path, exact=True, kv_type=kv_type)) < most * f16


@pytest.mark.parametrize("kv_type", TYPES)
def test_prefix(path, kv_type):
    """Also a test that threads which store neighboring positions leave each other's bits alone."""
    whole = logits(path, threads=4, kv_type=kv_type)
    for n in (1, 7, 127, 128, 129, 255, 257):
        part = logits(path, IDS[:n], threads=1, kv_type=kv_type, batch=33)
        assert part.tobytes() == whole[:n].tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kv_type", TYPES)
def test_instruction_sets_agree(make_tiny_model, isa, kv_type):
    for head_dim in (32, 64, 96):
        path = make_tiny_model(head_dim=head_dim, key_bias=300.0)
        expected = logits(path, IDS[:150], isa="scalar", kv_type=kv_type)
        assert logits(path, IDS[:150], isa=isa, kv_type=kv_type).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kv_type", TYPES)
def test_fork_and_rewind(path, kv_type):
    """A stored position stays as it is, whatever comes after it and whoever shares its block."""
    with GGUFFile(path) as file, closing(_native.ModelHandle(file.handle)) as model:
        rows = model.config["vocab_rows"]
        with closing(SessionHandle(model, sequences=2, kv_type=kv_type)) as session:

            def feed(sequence, ids):
                out = np.empty((len(ids), rows), np.float32)
                session.eval(ids, [sequence] * len(ids), [1] * len(ids))
                session.logits(0, len(ids), out)
                return out.tobytes()

            feed(0, IDS[:200])
            expected = feed(0, IDS[200:240])
            session.fork(0, 1, 150)
            feed(0, IDS[:30])
            feed(1, IDS[150:200])
            assert feed(1, IDS[200:240]) == expected
            session.rewind(0, 140)
            feed(0, IDS[140:200])
            assert feed(0, IDS[200:240]) == expected


def test_the_format_tells_layouts_apart(path, make_tiny_model):
    def kv_format(path, kv_type):
        with (
            GGUFFile(path) as file,
            closing(_native.ModelHandle(file.handle)) as model,
            closing(SessionHandle(model, kv_type=kv_type)) as session,
        ):
            return session.kv_format

    unbiased = make_tiny_model(architecture="llama", hidden=256)
    formats = [kv_format(path, kv_type) for kv_type in ("f16", *TYPES)]
    formats += [kv_format(unbiased, kv_type) for kv_type in ("q8_0", "q4_0")]
    assert len(set(formats)) == len(formats)
    assert kv_format(unbiased, "f16") == kv_format(path, "f16")
