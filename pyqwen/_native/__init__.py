"""The border to the C core: the only package that touches ``ffi`` and ``lib``.

It turns handles into objects that close themselves, numpy arrays into pointers, and a status into an
exception. It decides nothing. One file per part of ``csrc/pyqwen.h``.
"""

from pyqwen._ffi import ffi, lib
from pyqwen._native.files import FileHandle, FileInfo
from pyqwen._native.hardware import default_threads, isas, machine, measure_bandwidth
from pyqwen._native.models import KV_TYPES, ModelHandle, Progress, plan, read_config
from pyqwen._native.sampling import Sample, SamplerHandle
from pyqwen._native.sessions import SessionHandle
from pyqwen._native.status import check, new_error

__all__ = [
    "KV_TYPES",
    "FileHandle",
    "FileInfo",
    "ModelHandle",
    "Progress",
    "Sample",
    "SamplerHandle",
    "SessionHandle",
    "check",
    "default_threads",
    "ffi",
    "isas",
    "lib",
    "machine",
    "measure_bandwidth",
    "new_error",
    "plan",
    "read_config",
]
