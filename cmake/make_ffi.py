"""Write the C source of the extension module pyqwen._ffi from csrc/pyqwen.h: make_ffi.py HEADER OUT.c

The header is the only declaration of the interface. cffi parses it here (comments and preprocessor lines
taken out), and the C compiler checks what cffi made of it against the header itself.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

# C calls this while a model loads; its Python body is in pyqwen/_native/models.py.
CALLBACKS = """
extern "Python" int pq_on_progress(void *, uint64_t, uint64_t);
"""


def declarations(header: str) -> str:
    """Return the header's declarations as cffi's parser accepts them."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def main(header: Path, out: Path) -> None:
    ffi = FFI()
    ffi.cdef(declarations(header.read_text(encoding="utf-8")) + CALLBACKS)
    ffi.set_source("pyqwen._ffi", '#include "pyqwen.h"\n')
    ffi.emit_c_code(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
