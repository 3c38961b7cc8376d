"""Attention over the blocks of a KV cache: right, and the same bits on every instruction set."""

import numpy as np
import pytest
from extension import kernel_lib

from pyqwen import _native

ffi, lib = _native.ffi, _native.lib

KV_TYPES = [*_native.KV_TYPES, ("q8_0", "q5_1"), ("f16", "q4_0"), ("q4_0", "f32")]
OTHER_ISAS = [isa for isa, here in _native.isas().items() if here and isa != "scalar"]


def attention(q, k, v, kv_type="f16", isa="scalar"):
    """q (queries, heads, dim), k and v (keys, kv_heads, dim) -> like q."""
    out = np.full_like(q, 1e30)
    error = _native.new_error()
    q, k, v = (np.ascontiguousarray(a, np.float32) for a in (q, k, v))
    pointers = [ffi.cast("float *", ffi.from_buffer(a)) for a in (q, k, v, out)]
    status = kernel_lib().pq_test_attention(
        isa.encode(), *(_native.KV_TYPES[name] for name in _native.key_value_types(kv_type)),
        q.shape[1], k.shape[1], q.shape[2], pointers[0],
        q.shape[0], pointers[1], pointers[2], k.shape[0], pointers[3], error,
    )  # fmt: skip
    _native.check(status, error)
    return out


def cached(x, kv_type):
    """Return x as it comes back from the cache, in float64."""
    if kv_type == "f32":
        return x.astype(np.float64)
    if kv_type == "f16":
        return x.astype(np.float16).astype(np.float64)
    if kv_type == "q8_0":
        largest = np.abs(x).max(-1, keepdims=True)
        return np.rint(x * (np.float32(127) / largest)) * (largest / np.float32(127)).astype(float)
    if kv_type == "q4_0":
        at = np.abs(x).argmax(-1)[..., None]
        scale = np.take_along_axis(x, at, -1) / np.float32(-8)
        return np.rint(x * (1 / scale)).clip(-8, 7) * scale.astype(np.float64)
    low = x.min(-1, keepdims=True)
    scale = (x.max(-1, keepdims=True) - low) / np.float32(31)
    return np.rint((x - low) * (1 / scale)) * scale.astype(np.float64) + low


def reference(q, k, v, kv_type):
    queries, heads, dim = q.shape
    keys, kv_heads, _ = k.shape
    key_type, value_type = _native.key_value_types(kv_type)
    k, v, q = cached(k, key_type), cached(v, value_type), q.astype(np.float64)
    future = np.arange(keys)[None] > np.arange(queries)[:, None] + keys - queries
    out = np.empty(q.shape)
    for head in range(heads):
        shared = head // (heads // kv_heads)
        scores = q[:, head] @ k[:, shared].T / np.sqrt(dim)
        scores[future] = -np.inf
        weights = np.exp(scores - scores.max(1, keepdims=True))
        out[:, head] = weights / weights.sum(1, keepdims=True) @ v[:, shared]
    return out


def inputs(seed, heads, kv_heads, dim, queries, keys, key_bias=0.0):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((queries, heads, dim), dtype=np.float32)
    k = rng.standard_normal((keys, kv_heads, dim), dtype=np.float32)
    v = rng.standard_normal((keys, kv_heads, dim), dtype=np.float32)
    k += key_bias * rng.standard_normal((1, kv_heads, dim), dtype=np.float32)
    return q, k, v


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "queries", "keys"),
    [
        (1, 1, 32, 1, 1),
        (8, 1, 128, 1, 300),
        (14, 2, 64, 3, 129),
        (4, 4, 96, 40, 128),
        (6, 2, 64, 35, 260),
        (2, 1, 256, 2, 20),
    ],
)
def test_is_softmax_attention(kv_type, heads, kv_heads, dim, queries, keys):
    q, k, v = inputs(1, heads, kv_heads, dim, queries, keys)
    expected = reference(q, k, v, kv_type)
    exact = {"f16", "f32"}.issuperset(_native.key_value_types(kv_type))
    tolerance = 3e-6 if exact else 3e-4  # integers meet queries and weights of 16 bits
    np.testing.assert_allclose(attention(q, k, v, kv_type), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_large_key_bias(kv_type):
    """Qwen2.5 adds hundreds to some key channels: scores of thousands must not overflow."""
    q, k, v = inputs(2, 4, 2, 64, 3, 200, key_bias=300.0)
    assert np.abs(np.einsum("qhd,khd->qkh", q[:, ::2], k)).max() > 1000
    out = attention(q, k, v, kv_type)
    exact = {"f16", "f32"}.issuperset(_native.key_value_types(kv_type))
    tolerance = 5e-3 if exact else 5e-2
    np.testing.assert_allclose(out, reference(q, k, v, kv_type), rtol=0, atol=tolerance)


def test_one_key_gives_its_value():
    q, k, v = inputs(3, 3, 3, 64, 1, 1, key_bias=100.0)
    np.testing.assert_array_equal(attention(q, k, v, "f32"), v)


def test_equal_keys_give_the_mean():
    q, k, v = inputs(4, 1, 1, 32, 1, 256)
    k[:] = k[0]
    mean = v.astype(np.float64).mean(0)
    np.testing.assert_allclose(attention(q, k, v, "f32")[0], mean, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------ what may not matter


@pytest.mark.parametrize("isa", ["scalar", *OTHER_ISAS])
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("count", [1, 2, 5, 7, 33])
def test_rows_do_not_see_their_company(isa, kv_type, count):
    """A row's bits are the same in any chunk of the prompt, and with later keys in the cache."""
    q, k, v = inputs(5, 4, 2, 64, 45, 150, key_bias=3.0)
    whole = attention(q, k, v, kv_type, isa)
    start = 150 - 45
    for first in range(0, 45, count):
        rows = q[first : first + count]
        end = start + first + len(rows)
        part = attention(rows, k[:end], v[:end], kv_type, isa)
        assert part.tobytes() == whole[first : first + len(rows)].tobytes()


@pytest.mark.parametrize("isa", ["scalar", *OTHER_ISAS])
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_later_garbage_is_invisible(isa, kv_type, bad):
    q, k, v = inputs(6, 2, 1, 64, 20, 140)
    clean = attention(q, k, v, kv_type, isa)
    k[130:], v[130:] = bad, bad
    dirty = attention(q, k, v, kv_type, isa)
    assert dirty[:10].tobytes() == clean[:10].tobytes()
    assert np.isnan(dirty[10:]).all()


@pytest.mark.parametrize("isa", ["scalar", *OTHER_ISAS])
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("at", [0, 127, 130])
def test_nan_in_a_key_is_not_lost(isa, kv_type, at):
    """Also when a whole block has no score that is a number, and other blocks follow."""
    q, k, v = inputs(7, 1, 1, 64, 1, 300)
    k[at] = np.nan
    assert np.isnan(attention(q, k, v, kv_type, isa)).all()
    k[:128] = np.nan
    assert np.isnan(attention(q, k, v, kv_type, isa)).all()


# --------------------------------------------------------------------------- instruction sets agree


def assert_same_bits(isa, kv_type, q, k, v):
    scalar, other = attention(q, k, v, kv_type), attention(q, k, v, kv_type, isa)
    assert other.tobytes() == scalar.tobytes()


@pytest.mark.parametrize("isa", OTHER_ISAS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("key_bias", [0.0, 300.0])
def test_equals_scalar_for_every_number_of_keys(isa, kv_type, key_bias):
    for keys in [*range(1, 50), *range(110, 150), 255, 256, 257, 300]:
        assert_same_bits(isa, kv_type, *inputs(keys, 3, 1, 64, 1, keys, key_bias))


@pytest.mark.parametrize("isa", OTHER_ISAS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("dim", [32, 64, 96, 128, 160, 256])
def test_equals_scalar_for_every_head_size(isa, kv_type, dim):
    for heads, kv_heads in [(1, 1), (2, 1), (4, 2), (9, 3), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)]:
        assert_same_bits(isa, kv_type, *inputs(dim, heads, kv_heads, dim, 2, 140))


@pytest.mark.parametrize("isa", OTHER_ISAS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_equals_scalar_for_every_number_of_queries(isa, kv_type):
    for queries in [*range(1, 20), 31, 32, 33, 63, 64, 70]:
        assert_same_bits(isa, kv_type, *inputs(queries, 2, 1, 32, queries, 135))


@pytest.mark.parametrize("isa", OTHER_ISAS)
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_equals_scalar_for_tiny_and_vast_numbers(isa, kv_type):
    q, k, v = inputs(8, 4, 1, 64, 9, 140)
    for size in [1e-42, 1e-20, 1e4, 1e18]:
        assert_same_bits(isa, kv_type, q, k, (v * np.float32(size)).clip(-6e4, 6e4))
        assert_same_bits(isa, kv_type, q, (k * np.float32(size)).clip(-6e4, 6e4), v)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim", "queries", "keys", "message"),
    [
        (3, 2, 64, 1, 1, "3 heads cannot share 2 KV heads"),
        (2, 2, 48, 1, 1, "head_dim 48"),
        (2, 2, 288, 1, 1, "head_dim 288"),
        (2, 2, 64, 2, 1, "2 queries cannot be the last of 1 keys"),
    ],
)
def test_refuses_impossible_shapes(heads, kv_heads, dim, queries, keys, message):
    with pytest.raises(ValueError, match=message):
        attention(*inputs(9, heads, kv_heads, dim, queries, keys))
