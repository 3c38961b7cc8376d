"""Making model files: from checkpoints as they are published to GGUF.

``convert`` is the public function; ``read_imatrix`` and ``write_imatrix`` are the files of importance
matrices. Nothing here is imported to run a model.
"""

from __future__ import annotations

from pyqwen.quantize.conversion import OUTTYPES, Conversion, ConvertedTensor, convert
from pyqwen.quantize.imatrix_file import ImportanceMatrix, read_imatrix, write_imatrix

__all__ = [
    "OUTTYPES",
    "Conversion",
    "ConvertedTensor",
    "ImportanceMatrix",
    "convert",
    "read_imatrix",
    "write_imatrix",
]
