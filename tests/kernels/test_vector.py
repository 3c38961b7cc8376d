"""The vector kernels: right, and the same bits on every instruction set; and the choice of one."""

import numpy as np
import pytest
from extension import kernel_lib

from pyqwen import _native

ffi, lib = _native.ffi, _native.lib

OTHER_ISAS = [isa for isa, here in _native.isas().items() if here and isa != "scalar"]


def run(kernel, a, b=None, isa="scalar"):
    a = np.ascontiguousarray(a, np.float32)
    out = np.full(1 if kernel == "logsumexp" else a.size, 1e30, np.float32)
    b = ffi.NULL if b is None else ffi.cast("float *", ffi.from_buffer(np.ascontiguousarray(b)))
    error = _native.new_error()
    status = kernel_lib().pq_test_vector(
        isa.encode(),
        kernel.encode(),
        ffi.cast("float *", ffi.from_buffer(a)),
        b,
        a.size,
        ffi.cast("float *", ffi.from_buffer(out)),
        error,
    )
    _native.check(status, error)
    return out


def bits(pattern):
    return pattern.astype(np.uint32).view(np.float32)


EVERY_KIND_OF_FLOAT = bits(np.arange(0, 2**32, 65521, dtype=np.uint64))


def test_exp_is_within_one_ulp():
    x = np.linspace(-87.3, 88.722, 300_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    ulps = np.abs(run("exp", x) - exact) / np.spacing(exact.astype(np.float32))
    assert ulps.max() < 1.0


def test_exp_at_the_ends():
    x = np.float32([-np.inf, -1e30, -88.0, -87.31, 88.73, 1e30, np.inf, np.nan, 0.0, -0.0, 1e-42])
    expected = np.float32([0, 0, 0, 0, np.inf, np.inf, np.inf, np.nan, 1, 1, 1])
    out = run("exp", x)
    np.testing.assert_array_equal(out, expected)
    assert not np.signbit(out[:4]).any()


def test_f16_equals_numpy():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        middles = (halves[:-1] + halves[1:]) / 2  # ties between neighbors, and just beside them
        beside = [np.nextafter(middles, np.float32(to)) for to in (0, 1e9)]
        for x in (halves, middles, *beside, EVERY_KIND_OF_FLOAT):
            out, expected = run("f16", x), x.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(out, expected)
            numbers = ~np.isnan(x)
            np.testing.assert_array_equal(np.signbit(out[numbers]), np.signbit(x[numbers]))


def test_rms_norm():
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 1536), dtype=np.float32)
    exact = x.astype(np.float64)
    exact = exact / np.sqrt((exact**2).mean() + 1e-6) * w
    np.testing.assert_allclose(run("rms_norm", x, w), exact, rtol=5e-7)
    np.testing.assert_array_equal(run("rms_norm", np.zeros(16), w[:16]), np.zeros(16))
    tiny = np.full(16, 1e-4, np.float32)  # here the epsilon counts: 1e-8 + 1e-6
    expected = np.full(16, 1e-4 / np.sqrt(1.01e-6))
    np.testing.assert_allclose(run("rms_norm", tiny, np.ones(16, np.float32)), expected, rtol=1e-6)


def test_silu_mul():
    rng = np.random.default_rng(2)
    gate, up = 5 * rng.standard_normal((2, 1000), dtype=np.float32)
    exact = gate / (1 + np.exp(-gate.astype(np.float64))) * up
    np.testing.assert_allclose(run("silu_mul", gate, up), exact, rtol=5e-7)
    ends = np.float32([-1e4, 1e4, 0.0, np.nan])
    ones = np.ones(4, np.float32)
    np.testing.assert_array_equal(run("silu_mul", ends, ones), [0, 1e4, 0, np.nan])


def test_rope_turns_pairs():
    rng = np.random.default_rng(3)
    x = rng.standard_normal(64, dtype=np.float32)
    angle = rng.uniform(-np.pi, np.pi, 32)
    tables = np.concatenate([np.cos(angle), np.sin(angle)]).astype(np.float32)
    halves = (x[:32] + 1j * x[32:]) * np.exp(1j * angle)
    out = run("rope_neox", x, tables)
    np.testing.assert_allclose(out, np.concatenate([halves.real, halves.imag]), atol=1e-6)
    pairs = (x[0::2] + 1j * x[1::2]) * np.exp(1j * angle)
    out = run("rope_pairs", x, tables)
    np.testing.assert_allclose(out[0::2], pairs.real, atol=1e-6)
    np.testing.assert_allclose(out[1::2], pairs.imag, atol=1e-6)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 151_936])
def test_logsumexp(n):
    x = 4 * np.random.default_rng(4).standard_normal(n).astype(np.float32) + 100
    exact = np.logaddexp.reduce(x.astype(np.float64))
    np.testing.assert_allclose(run("logsumexp", x), exact, rtol=3e-7)


def test_logsumexp_of_what_is_no_distribution():
    x = np.random.default_rng(5).standard_normal(50).astype(np.float32)
    for at in (0, 20, 49):
        for bad in (np.nan, np.inf):
            spoiled = x.copy()
            spoiled[at] = bad
            for isa in ["scalar", *OTHER_ISAS]:
                assert np.isnan(run("logsumexp", spoiled, isa=isa))
    x[1:] = -np.inf
    assert run("logsumexp", x) == x[0]


# --------------------------------------------------------------------------- instruction sets agree


@pytest.mark.parametrize("isa", OTHER_ISAS)
@pytest.mark.parametrize("kernel", ["exp", "f16"])
def test_equals_scalar_for_every_kind_of_float(isa, kernel):
    x = EVERY_KIND_OF_FLOAT
    assert run(kernel, x, isa=isa).tobytes() == run(kernel, x).tobytes()


@pytest.mark.parametrize("isa", OTHER_ISAS)
@pytest.mark.parametrize(
    "kernel",
    ["rms_norm", "silu_mul", "add", "exp", "rope_neox", "rope_pairs", "f16", "logsumexp"],
)
@pytest.mark.parametrize("size", [1e-41, 1e-6, 1.0, 30.0, 1e6])
def test_equals_scalar(isa, kernel, size):
    rng = np.random.default_rng(6)
    step = {"rms_norm": 16, "rope_neox": 2, "rope_pairs": 2}.get(kernel, 1)
    for n in [*range(step, 70, step), 128, 1536]:
        a, b = (size * rng.standard_normal((2, n))).astype(np.float32)
        assert run(kernel, a, b, isa).tobytes() == run(kernel, a, b).tobytes(), n


# --------------------------------------------------------------------------------------- the choice


def test_scalar_is_always_there_and_last():
    names = list(_native.isas())
    assert names[-1] == "scalar"
    assert _native.isas()["scalar"]
    assert lib.pq_isa_name(len(names)) == ffi.NULL


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"unknown instruction set 'avx9'; there are: .*scalar$"):
        run("exp", np.zeros(1), isa="avx9")
    assert not lib.pq_isa_available(b"avx9")
    assert not lib.pq_isa_available(ffi.NULL)


def test_unavailable_names_are_refused():
    for isa, here in _native.isas().items():
        if not here:
            with pytest.raises(ValueError, match=f"'{isa}' is not supported by this processor"):
                run("exp", np.zeros(1), isa=isa)


def test_unknown_kernels_and_lengths_are_refused():
    with pytest.raises(ValueError, match="unknown vector kernel 'cosine'"):
        run("cosine", np.zeros(1))
    with pytest.raises(ValueError, match="multiple of 16"):
        run("rms_norm", np.zeros(17), np.zeros(17, np.float32))
    with pytest.raises(ValueError, match="even"):
        run("rope_neox", np.zeros(3), np.zeros(3, np.float32))
