"""The limits of the machine, and what a model's tests ask of it: see compare.py."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "kernels"))

from peers import Test

from pyqwen import _native
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.quantize.tensor_names import tensor_names

READ_BYTES = 1 << 29  # more than the caches hold, as pyqwen doctor reads
HALF = 2  # bytes of a number in the cache
FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the machine gave at one moment: bytes read and products of int8, per second."""

    bandwidth: float
    int8: float | None  # None: this instruction set has no loop to measure it with


class Limits:
    """The two loops, run with the threads and the instruction set of the tests."""

    def __init__(self, threads: int, isa: str) -> None:
        self._threads, self._isa = threads, isa
        available = _native.machine()["available_bytes"]
        self._bytes = min(READ_BYTES, available // 4) if available else READ_BYTES

    def read(self) -> Reading:
        bandwidth = _native.measure_bandwidth(self._threads, self._bytes)
        return Reading(bandwidth, _native.measure_int8(self._isa, self._threads))


class Demand:
    """What one token of a model takes: bytes of weights and cache, and products of int8."""

    def __init__(self, path: Path) -> None:
        with GGUFFile(path) as file:
            config = _native.read_config(file.handle)
            tensors = file.tensors
        names = {tensor.name for tensor in tensors}
        # Of the embedding one row is read, unless it is the output matrix, too.
        known = tensor_names(config["architecture"])
        unread = {known.name("embedding")} - {known.output(names)}
        self.weight_bytes = sum(t.n_bytes for t in tensors if t.name not in unread)
        matrices = [t for t in tensors if t.name.startswith("blk.") and len(t.shape) == 2]
        is_int8 = all(tensor.type not in FLOATS for tensor in matrices)
        self.prompt_products: int | None = (
            sum(t.shape[0] * t.shape[1] for t in matrices) if is_int8 else None
        )
        kv_width = config["kv_heads"] * config["head_dim"]
        self.position_bytes = 2 * config["layers"] * kv_width * HALF
        self.file_bytes = path.stat().st_size

    def bytes_per_token(self, test: Test) -> float:
        """Weights once, and the keys and values of all positions before; the mean of a test's tokens."""
        return self.weight_bytes + self.position_bytes * (test.n_depth + test.n_gen / 2)

    def shares(self, test: Test, speed: float, readings: list[Reading]) -> dict[str, float]:
        """The shares of the machine's limits that ``speed`` tokens per second amount to.

        A generated token reads all weights; a prompt's multiplies all matrices of the layers. (The
        output matrix multiplies a prompt's last token only.)
        """
        if test.n_gen:
            bandwidth = fmean(reading.bandwidth for reading in readings)
            return {"bandwidth_share": speed * self.bytes_per_token(test) / bandwidth}
        ceilings = [reading.int8 for reading in readings if reading.int8]
        if self.prompt_products is None or not ceilings:
            return {}
        return {"int8_share": speed * self.prompt_products / fmean(ceilings)}


def machine() -> dict[str, Any]:
    """The machine in words, for the report."""
    return {
        key: value
        for key, value in _native.machine().items()
        if key in ("cpu", "logical_cores", "performance_cores", "cpu_quota", "memory_bytes")
    }
