"""Names of a checkpoint's tensors, as they are and as the architecture calls them.

Wrappers leave their mark on names: the bare model class saves no ``model.``, parallel training and
compilation put theirs in front. Tools that quantize and adapters leave other tensors altogether.
"""

from __future__ import annotations

from pyqwen.errors import UnsupportedModelError
from pyqwen.loading.safetensors_file import StoredTensor
from pyqwen.quantize.checkpoint.architecture import output_and_embedding
from pyqwen.quantize.checkpoint.hyperparameters import Hyperparameters

_BODY = "model."
# How names end, or what they contain, in weights that somebody has quantized.
_QUANTIZED = {
    ".qweight": "AWQ or GPTQ",
    ".qzeros": "AWQ or GPTQ",
    ".g_idx": "GPTQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "FP8 or int8",
    ".weight_scale_inv": "FP8",
    ".SCB": "bitsandbytes, int8",
    ".absmax": "bitsandbytes, 4 bits",
}
_ADAPTERS = (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_magnitude_vector")


def canonical_names(
    tensors: dict[str, StoredTensor], h: Hyperparameters, where: str
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors under the names of Hugging Face's classes, and notes about what was renamed.

    ``UnsupportedModelError`` for weights that are quantized already, and for adapters.
    """
    for name in tensors:
        for mark, method in _QUANTIZED.items():
            if name.endswith(mark):
                raise UnsupportedModelError(
                    f"{where}: the weights are quantized already ({method}: tensor "
                    f"'{name[:80]}'); convert the checkpoint that they were made from",
                    field=name,
                )
        if any(part in name for part in _ADAPTERS):
            raise UnsupportedModelError(
                f"{where}: tensor '{name[:80]}' belongs to an adapter (LoRA) that is not merged; "
                "merge it first (peft: merge_and_unload, save_pretrained)",
                field=name,
            )
    output, embedding = (plan.source for plan in output_and_embedding(h))
    prefix = _prefix(tensors, embedding.removeprefix(_BODY))
    if prefix is None or prefix == _BODY:
        return tensors, []
    outer = prefix.removesuffix(_BODY)
    renamed = {_canonical(name, prefix, outer, output): tensor for name, tensor in tensors.items()}
    if len(renamed) < len(
        tensors
    ):  # the same tensor under both names: the caller says which is odd
        return tensors, []
    what = f"begin with '{prefix[:80]}'" if prefix else "lack 'model.'"
    return renamed, [f"the names of tensors {what}; they are read as if they began with 'model.'"]


def _prefix(tensors: dict[str, StoredTensor], embedding: str) -> str | None:
    """What stands before the name of the embedding, if there is just one."""
    found = [
        name.removesuffix(embedding)
        for name in tensors
        if name == embedding or name.endswith(f".{embedding}")
    ]
    if _BODY in found:
        return _BODY
    return found[0] if len(found) == 1 else None


def _canonical(name: str, prefix: str, outer: str, output: str) -> str:
    if name in (output, outer + output):
        return output
    return _BODY + name.removeprefix(prefix) if name.startswith(prefix) else name
