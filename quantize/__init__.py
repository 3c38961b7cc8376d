"""Making model files: from checkpoints as they are published to GGUF, and to smaller types.

``convert`` and ``quantize`` are the public functions; ``read_imatrix`` and ``write_imatrix`` are the
files of importance matrices. Nothing here is imported to run a model.
"""

from __future__ import annotations

from pyqwen.quantize.conversion import OUTTYPES, Conversion, ConvertedTensor, convert
from pyqwen.quantize.imatrix_file import ImportanceMatrix, read_imatrix, write_imatrix
from pyqwen.quantize.quantization import Quantization, QuantizedTensor, TypeTotal, WorstBlock
from pyqwen.quantize.quantizer import quantize
from pyqwen.quantize.recipes import RECIPES

__all__ = [
    "OUTTYPES",
    "RECIPES",
    "Conversion",
    "ConvertedTensor",
    "ImportanceMatrix",
    "Quantization",
    "QuantizedTensor",
    "TypeTotal",
    "WorstBlock",
    "convert",
    "quantize",
    "read_imatrix",
    "write_imatrix",
]
