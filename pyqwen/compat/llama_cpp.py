"""The constants of llama.h that programs hand to ``Llama``, and what they ask the library about itself.

The functions of llama.cpp's C interface are not here: ``pyqwen.compat`` is the high-level API.
"""

from __future__ import annotations

from typing import NoReturn

LLAMA_DEFAULT_SEED = 0xFFFFFFFF
LLAMA_MAX_DEVICES = 16

LLAMA_SPLIT_MODE_NONE = 0
LLAMA_SPLIT_MODE_LAYER = 1
LLAMA_SPLIT_MODE_ROW = 2

LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED = -1
LLAMA_ROPE_SCALING_TYPE_NONE = 0
LLAMA_ROPE_SCALING_TYPE_LINEAR = 1
LLAMA_ROPE_SCALING_TYPE_YARN = 2

LLAMA_POOLING_TYPE_UNSPECIFIED = -1
LLAMA_POOLING_TYPE_NONE = 0
LLAMA_POOLING_TYPE_MEAN = 1
LLAMA_POOLING_TYPE_CLS = 2
LLAMA_POOLING_TYPE_LAST = 3
LLAMA_POOLING_TYPE_RANK = 4

LLAMA_ATTENTION_TYPE_UNSPECIFIED = -1
LLAMA_ATTENTION_TYPE_CAUSAL = 0
LLAMA_ATTENTION_TYPE_NON_CAUSAL = 1

GGML_NUMA_STRATEGY_DISABLED = 0
GGML_NUMA_STRATEGY_DISTRIBUTE = 1

GGML_TYPE_F32 = 0
GGML_TYPE_F16 = 1
GGML_TYPE_Q4_0 = 2
GGML_TYPE_Q4_1 = 3
GGML_TYPE_Q5_0 = 6
GGML_TYPE_Q5_1 = 7
GGML_TYPE_Q8_0 = 8
GGML_TYPE_IQ4_NL = 20
GGML_TYPE_BF16 = 30


def llama_backend_init() -> None:
    """Nothing is to be done."""


def llama_backend_free() -> None:
    """Nothing is to be done."""


def llama_supports_gpu_offload() -> bool:
    """Whether layers can be computed by a GPU."""
    return False


def llama_supports_mmap() -> bool:
    """Whether files can be mapped."""
    return True


def llama_supports_mlock() -> bool:
    """Whether weights can be locked in memory."""
    return False


def llama_print_system_info() -> bytes:
    """What the library computes with."""
    from pyqwen import _native

    return f"pyqwen: {_native.default_isa()}, {_native.default_threads()} threads".encode()


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        f"{name} is no part of pyqwen.compat, which has llama-cpp-python's high-level API; "
        "of its bindings of llama.h there are the constants that Llama takes"
    )
