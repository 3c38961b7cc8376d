"""The processor, its instruction sets, cores and memory."""

from __future__ import annotations

from typing import Any

from pyqwen._ffi import ffi, lib
from pyqwen._native.status import check, new_error, to_dict


def machine() -> dict[str, Any]:
    """Describe the processor, the cores this process may use, and the memory."""
    out = ffi.new("pq_machine *")
    lib.pq_machine_describe(out)
    return to_dict(out)


def default_threads() -> int:
    """Return how many threads a model uses unless told."""
    return int(lib.pq_default_threads())


def isas() -> dict[str, bool]:
    """Return the instruction sets compiled in, best first, and whether each can run here."""
    out: dict[str, bool] = {}
    while (name := lib.pq_isa_name(len(out))) != ffi.NULL:
        out[ffi.string(name).decode()] = bool(lib.pq_isa_available(name))
    return out


def default_isa() -> str:
    """Return the instruction set that is used unless another is named."""
    return str(ffi.string(lib.pq_isa_default()).decode())


def isa_summary(isa: str) -> str:
    """Return in one line what an instruction set's kernels are, and where they were run."""
    summary = lib.pq_isa_summary(isa.encode())
    if summary == ffi.NULL:
        raise ValueError(f"unknown instruction set {isa!r}")
    return str(ffi.string(summary).decode())


def measure_bandwidth(threads: int, n_bytes: int) -> float:
    """Return the rate in bytes per second at which ``threads`` threads read memory."""
    out, error = ffi.new("double *"), new_error()
    check(lib.pq_measure_bandwidth(threads, n_bytes, out, error), error)
    return float(out[0])


def measure_int8(isa: str, threads: int) -> float | None:
    """Return how many products of int8 ``threads`` threads do in a second; None for scalar."""
    if isa == "scalar":
        return None
    out, error = ffi.new("double *"), new_error()
    check(lib.pq_measure_int8(isa.encode(), threads, out, error), error)
    return float(out[0])
