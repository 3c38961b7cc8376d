"""Making model files: from checkpoints as they are published to GGUF, to smaller types, and what that costs.

``convert`` and ``quantize`` make model files; ``imatrix`` measures which weights matter
(``read_imatrix`` and ``write_imatrix`` are the files of that), ``compare`` how a model differs from the
one it was made from. Nothing here is imported to run a model.
"""

from __future__ import annotations

from pyqwen.quantize.calibration.imatrix_collection import imatrix
from pyqwen.quantize.calibration.imatrix_file import ImportanceMatrix, read_imatrix, write_imatrix
from pyqwen.quantize.compare import Comparison, compare
from pyqwen.quantize.conversion import OUTTYPES, Conversion, ConvertedTensor, convert
from pyqwen.quantize.quantization import Quantization, QuantizedTensor, TypeTotal, WorstBlock
from pyqwen.quantize.quantizer import quantize
from pyqwen.quantize.recipes import RECIPES

__all__ = [
    "OUTTYPES",
    "RECIPES",
    "Comparison",
    "Conversion",
    "ConvertedTensor",
    "ImportanceMatrix",
    "Quantization",
    "QuantizedTensor",
    "TypeTotal",
    "WorstBlock",
    "compare",
    "convert",
    "imatrix",
    "quantize",
    "read_imatrix",
    "write_imatrix",
]
