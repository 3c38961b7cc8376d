"""Which type each tensor of an open model gets, before anything is read of it.

What a recipe says is in ``recipes``; here it meets the tensors of a source.
"""

from __future__ import annotations

import logging

from pyqwen._native import tensor_types
from pyqwen.errors import UnsupportedModelError
from pyqwen.quantize.output.output_model import tensor_bytes
from pyqwen.quantize.quantization import QuantizedTensor
from pyqwen.quantize.recipes import (
    ModelShape,
    TensorShape,
    TypeOptions,
    choose_types,
    is_quantizable,
)
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor

_LOGGER = logging.getLogger("pyqwen")
QUANTIZATION_VERSION = 2  # general.quantization_version: of the layout of the block types


def plan_types(
    model: ModelSource,
    recipe: str,
    options: TypeOptions,
    *,
    weighted: bool,
    allow_requantize: bool,
) -> list[QuantizedTensor]:
    """What each tensor is to become, nothing measured yet; ``weighted``: with an importance matrix.

    ``UnsupportedModelError`` where that would quantize again what is quantized already.
    """
    sizes = ModelShape(model.architecture, model.layers, model.heads, model.kv_heads)
    shapes = [TensorShape(t.name, t.type, t.shape) for t in model.tensors]
    choices = choose_types(recipe, sizes, shapes, options, weighted=weighted)
    planned = []
    for tensor in model.tensors:
        choice = choices[tensor.name]
        if choice.type != tensor.type and not allow_requantize:
            refuse_requantizing(tensor, choice.type)
        if choice.fallback:
            _LOGGER.info("%s is written as %s: %s", tensor.name, choice.type, choice.fallback)
        planned.append(
            QuantizedTensor(
                tensor.name,
                tensor.type,
                choice.type,
                tensor.shape,
                tensor_bytes(choice.type, tensor.shape),
                fallback=choice.fallback,
            )
        )
    return planned


def refuse_requantizing(tensor: SourceTensor, kind: str) -> None:
    """``UnsupportedModelError`` if the tensor is quantized."""
    if tensor_types()[tensor.type].block > 1:
        raise UnsupportedModelError(
            f"{tensor.where}: tensor '{tensor.name}' is {tensor.type} already; making {kind} of it "
            "loses more than of the original weights: start from those, or allow it with "
            "--allow-requantize (allow_requantize=True)",
            field=tensor.name,
        )


def unused_patterns(options: TypeOptions, model: ModelSource) -> list[str]:
    """Expressions that were probably meant to match something."""
    names = [t.name for t in model.tensors if is_quantizable(t.shape)]
    return [
        f"the tensor type {pattern.pattern}={kind} matches no matrix"
        for pattern, kind in options.patterns
        if not any(pattern.search(name) for name in names)
    ]
