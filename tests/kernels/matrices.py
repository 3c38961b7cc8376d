"""What the tests of the matrix kernels share: random weights of every type, and calls into the core."""

from __future__ import annotations

from typing import Any

import numpy as np
from extension import kernel_lib
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from pyqwen import _native

ffi, lib = _native.ffi, _native.lib

FLOAT_TYPES = ["F32", "F16", "BF16"]
BLOCK_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"]
SUPER_TYPES = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"]
QUANTIZED_TYPES = BLOCK_TYPES + SUPER_TYPES
ALL_TYPES = FLOAT_TYPES + QUANTIZED_TYPES

# Where the f16 numbers of a block are.
F16_OFFSETS = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_XS": [0],
}  # fmt: skip


def type_number(name: str) -> int:
    return int(GGMLQuantizationType[name])


def block_size(name: str) -> tuple[int, int]:
    """Return (elements, bytes) of one block."""
    return GGML_QUANT_SIZES[GGMLQuantizationType[name]]


def set_scales(weights: np.ndarray, name: str, values: np.ndarray) -> None:
    """Write ``values`` (rows, blocks, numbers) as the f16 numbers of every block, in place."""
    blocks = weights.reshape(weights.shape[0], -1, block_size(name)[1])
    for i, offset in enumerate(F16_OFFSETS[name]):
        halves = np.ascontiguousarray(values[..., i].astype("<f2"))
        blocks[..., offset : offset + 2] = halves.view(np.uint8).reshape(*halves.shape, 2)


def random_weights(rng: np.random.Generator, name: str, rows: int, cols: int) -> np.ndarray:
    """Return (rows, bytes) in file format: any quants are valid, the f16 numbers are ordinary ones."""
    if name == "F32":
        return rng.standard_normal((rows, cols), dtype=np.float32).view(np.uint8)
    if name == "F16":
        return rng.standard_normal((rows, cols)).astype("<f2").view(np.uint8)
    if name == "BF16":
        values = rng.standard_normal((rows, cols), dtype=np.float32)
        return (values.view("<u4") >> 16).astype("<u2").view(np.uint8)
    elements, size = block_size(name)
    weights = rng.integers(0, 256, (rows, cols // elements * size), dtype=np.uint8)
    scales = rng.normal(0, 0.01, (rows, cols // elements, len(F16_OFFSETS[name])))
    set_scales(weights, name, scales)
    return weights


def available_isas() -> list[str]:
    """Return the instruction sets that this machine can run, best first."""
    names = []
    while (name := lib.pq_isa_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return [name for name in names if lib.pq_isa_available(name.encode())]


def pointer(kind: str, array: np.ndarray) -> Any:
    assert array.flags.c_contiguous
    return ffi.cast(kind, array.ctypes.data)


def matmul(
    isa: str,
    name: str,
    weights: np.ndarray,
    x: np.ndarray,
    *,
    exact: bool = False,
    threads: int = 1,
) -> np.ndarray:
    """Return x (n, cols) times the transposed weights, float32 (n, rows), by the kernels of ``isa``."""
    rows, (n, cols) = weights.shape[0], x.shape
    y = np.full((n, rows), np.nan, dtype=np.float32)
    error = _native.new_error()
    status = kernel_lib().pq_test_matmul(
        isa.encode(), int(exact), type_number(name), pointer("void *", weights), rows, cols,
        pointer("float *", x), n, pointer("float *", y), threads, error,
    )  # fmt: skip
    _native.check(status, error)
    return y


def quantize(isa: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (q, d, sums, s) of one row of activations."""
    q = np.empty(x.size, dtype=np.int8)
    d = np.empty(x.size // 32, dtype=np.float32)
    sums = np.empty(x.size // 16, dtype=np.int16)
    s = np.empty(x.size // 32, dtype=np.float32)
    error = _native.new_error()
    status = kernel_lib().pq_test_quantize_activations(
        isa.encode(), pointer("float *", x), x.size, pointer("int8_t *", q),
        pointer("float *", d), pointer("int16_t *", sums), pointer("float *", s), error,
    )  # fmt: skip
    _native.check(status, error)
    return q, d, sums, s
