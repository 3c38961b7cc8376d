"""Making model files: from checkpoints as they are published to GGUF.

``convert`` is the public function. Nothing here is imported to run a model.
"""

from __future__ import annotations

from pyqwen.quantize.conversion import OUTTYPES, Conversion, ConvertedTensor, convert

__all__ = ["OUTTYPES", "Conversion", "ConvertedTensor", "convert"]
