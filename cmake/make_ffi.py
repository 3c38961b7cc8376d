"""Write the C source of a Python extension from a header of csrc/: make_ffi.py HEADER OUT.c

pyqwen_quantize.h, with the other headers of the core, makes pyqwen._ffi; pyqwen_test.h makes
pyqwen._ffi_test, which has its types from the first. The headers are the only declaration of their
interfaces: cffi parses them here (comments and preprocessor lines taken out), and the C compiler checks what
cffi made of them against the headers themselves.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

# What users of the core include, each on top of the first.
PUBLIC = ("pyqwen.h", "pyqwen_tokenizer.h", "pyqwen_sampling.h", "pyqwen_quantize.h")
INCLUDES = "".join(f'#include "{name}"\n' for name in PUBLIC)

# C calls this while a model loads; its Python body is in pyqwen/_native/models.py.
CALLBACKS = """
extern "Python" int pq_on_progress(void *, uint64_t, uint64_t);
"""


def declarations(header: Path) -> str:
    """Return the header's declarations as cffi's parser accepts them."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(encoding="utf-8"), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def core(header: Path) -> FFI:
    ffi = FFI()
    ffi.cdef("".join(declarations(header.with_name(name)) for name in PUBLIC) + CALLBACKS)
    ffi.set_source("pyqwen._ffi", INCLUDES)
    return ffi


def testing(header: Path) -> FFI:
    ffi = FFI()
    ffi.include(core(header.with_name("pyqwen_quantize.h")))
    ffi.cdef(declarations(header))
    ffi.set_source("pyqwen._ffi_test", INCLUDES + '#include "pyqwen_test.h"\n')
    return ffi


def main(header: Path, out: Path) -> None:
    ffi = testing(header) if header.name == "pyqwen_test.h" else core(header)
    ffi.emit_c_code(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
