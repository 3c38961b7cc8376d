"""Numbers into GGUF's types: bit for bit what the gguf package makes of them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from pyqwen.quantize import encode


def values() -> np.ndarray:
    random = np.random.default_rng(5)
    scales = 10.0 ** random.uniform(-6, 3, (4000, 1))
    made = (random.normal(size=(4000, 64)) * scales).astype(np.float32)
    made[0] = 0
    made[1, :32] = np.arange(-16, 16) / 2 * 127 / 8  # exact halves when scaled
    made[2, ::2] = -0.0
    made[3] = np.float32(1e-42)
    return made


@pytest.mark.parametrize("target", ["F16", "BF16", "Q8_0"])
def test_equal_to_the_gguf_package(target: str) -> None:
    rows = values()
    rows = rows[:3] if target == "F16" else np.delete(rows, 3, axis=0)  # see below for the tiny
    ours = encode.encode(rows, "F32", target)
    theirs = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[target])
    assert np.array_equal(ours.view(np.uint8).ravel(), theirs.view(np.uint8).ravel())


def test_blocks_of_denormals_become_zero() -> None:
    blocks = encode.encode(values()[3:4], "F32", "Q8_0")
    assert not blocks.any()


def test_bfloat16_is_widened_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    finite = bits[(bits & 0x7F80) != 0x7F80]
    wide = encode.to_float32(finite, "BF16")
    assert np.array_equal(encode.encode(wide, "F32", "BF16"), finite)
    for bad in bits[(bits & 0x7F80) == 0x7F80][:3]:
        with pytest.raises(encode.BadValues):
            encode.check_finite(np.array([bad]), "BF16")
    encode.check_finite(finite, "BF16")


def test_bad_values_are_counted() -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[1, 3] = rows[1, 5] = 1e6
    with pytest.raises(encode.BadValues) as caught:
        encode.encode(rows, "F32", "F16")
    assert (caught.value.count, caught.value.index, caught.value.value) == (2, 35, 1e6)
