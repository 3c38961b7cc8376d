"""The border to the C core: the only package that touches ``ffi`` and ``lib``.

It turns handles into objects that close themselves, numpy arrays into pointers, and a status into an
exception. It decides nothing. One file per part of the public headers in ``csrc/``.
"""

try:
    from pyqwen._ffi import ffi, lib
except ModuleNotFoundError as error:  # a core that is there and does not fit raises ImportError
    if error.name != "pyqwen._ffi":
        raise
    from pathlib import Path

    folder = Path(__file__).parents[1]
    raise ImportError(
        f"{folder} has no compiled C core. If it is the source folder, leave it and run elsewhere "
        "after 'pip install .', or install it in place with 'pip install -e .'",
        name=error.name,
    ) from error
import _cffi_backend  # noqa: F401  (the core imports it, where no freezer of programs looks)

from pyqwen._native.adapters import (
    MOST_ADAPTERS,
    MOST_RANK,
    AdaptedMatrix,
    AdapterHandle,
    AdapterSize,
    plan_adapter,
)
from pyqwen._native.architecture import (
    Architecture,
    ArchitectureTensor,
    architecture_tensors,
    architectures,
)
from pyqwen._native.dequantize import dequantize_rows
from pyqwen._native.files import FileHandle, FileInfo, KeyType
from pyqwen._native.hardware import (
    default_isa,
    default_threads,
    isa_summary,
    isas,
    machine,
    measure_bandwidth,
    measure_int8,
)
from pyqwen._native.models import (
    KV_TYPES,
    KVType,
    ModelHandle,
    Progress,
    checked_kv_type,
    key_value_types,
    plan,
    read_config,
)
from pyqwen._native.packed import PackedImage, packed_key
from pyqwen._native.quantize import (
    CancelFlag,
    QuantizationError,
    gptq_panel,
    measure_quantization,
    quantize_weights,
    tensor_types,
)
from pyqwen._native.sampling import (
    FILTERS,
    BreakersHandle,
    ComingMask,
    Draw,
    Mask,
    Run,
    Sample,
    Sampled,
    SamplerHandle,
)
from pyqwen._native.sessions import Adapters, SessionHandle, checksum
from pyqwen._native.status import check, new_error
from pyqwen._native.tokenizer import ControlMatch, PackedStrings, TokenizerHandle

__all__ = [
    "FILTERS",
    "KV_TYPES",
    "MOST_ADAPTERS",
    "MOST_RANK",
    "AdaptedMatrix",
    "AdapterHandle",
    "AdapterSize",
    "Adapters",
    "Architecture",
    "ArchitectureTensor",
    "BreakersHandle",
    "CancelFlag",
    "ComingMask",
    "ControlMatch",
    "Draw",
    "FileHandle",
    "FileInfo",
    "KVType",
    "KeyType",
    "Mask",
    "ModelHandle",
    "PackedImage",
    "PackedStrings",
    "Progress",
    "QuantizationError",
    "Run",
    "Sample",
    "Sampled",
    "SamplerHandle",
    "SessionHandle",
    "TokenizerHandle",
    "architecture_tensors",
    "architectures",
    "check",
    "checked_kv_type",
    "checksum",
    "default_isa",
    "default_threads",
    "dequantize_rows",
    "ffi",
    "gptq_panel",
    "isa_summary",
    "isas",
    "key_value_types",
    "lib",
    "machine",
    "measure_bandwidth",
    "measure_int8",
    "measure_quantization",
    "new_error",
    "packed_key",
    "plan",
    "plan_adapter",
    "quantize_weights",
    "read_config",
    "tensor_types",
]
