"""adapter_config.json, as PEFT (0.21) writes it: what it asks for, and what of that is run here.

What would change the result and is not run is refused by its name. The rank comes from the tensors
themselves; ``rank_pattern`` only says that it varies.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from pyqwen.errors import ModelFormatError, UnsupportedModelError

# Ways to begin that leave the base model's weights alone; PiSSA, OLoRA, CorDA and LoftQ change them.
_HARMLESS_BEGINNINGS = ("gaussian", "eva", "orthogonal")
# Keys that mean another computation, if they are neither missing nor empty, and what they are.
_REFUSED = {
    "use_dora": "weight-decomposed adapters (DoRA)",
    "use_qalora": "QALoRA, which groups columns",
    "use_bdlora": "block-diagonal adapters (BD-LoRA)",
    "lora_bias": "a bias beside B",
    "modules_to_save": "whole modules trained beside the adapter",
    "trainable_token_indices": "retrained rows of the embedding",
    "target_parameters": "adapted parameters that are no modules",
    "layer_replication": "a base model with repeated layers",
    "alora_invocation_tokens": "adapters that begin at a token (aLoRA)",
    "arrow_config": "routed adapters (Arrow)",
    "megatron_config": "tensors split by Megatron",
}
_PLAIN = re.compile(r"\^?[A-Za-z0-9_.]+\$?")
_HOW = "merge it into its base model with peft (merge_and_unload, save_pretrained) and convert the result"


class PeftSettings:
    """``rank``, ``base`` (the base model's name) and the scale of each module."""

    def __init__(self, values: dict[str, Any], where: Path) -> None:
        """``values`` is the object of the file ``where``; ``UnsupportedModelError`` or
        ``ModelFormatError`` for what is not run or cannot be."""
        self._values, self._where = values, where
        kind = values.get("peft_type")
        if kind != "LORA":
            raise self._unsupported("peft_type", f"is {kind!r:.60}; only LORA adapters are run")
        for name, what in _REFUSED.items():
            if values.get(name):
                raise self._unsupported(name, f"asks for {what}, which this version does not run")
        if values.get("bias", "none") != "none":
            raise self._unsupported(
                "bias", f'is {values["bias"]!r:.60}: trained biases are not run, only "none" is'
            )
        begin = values.get("init_lora_weights", True)
        if not isinstance(begin, bool) and begin not in _HARMLESS_BEGINNINGS:
            raise self._unsupported(
                "init_lora_weights",
                f"is {begin!r:.60}, which changes the base model's weights; save the adapter with "
                "path_initial_model_for_weight_conversion, which makes a plain one of it",
            )
        self.rank = self._whole("r", 1 << 20)
        self._alpha = self._number("lora_alpha", values.get("lora_alpha", 8))
        self._root = values.get("use_rslora", False)
        if not isinstance(self._root, bool):
            raise self._bad("use_rslora", f"is {self._root!r:.60}, not true or false")
        self._alphas = self._pattern("alpha_pattern")
        self.ranks = {self.rank, *(int(rank) for _, rank in self._pattern("rank_pattern"))}
        base = values.get("base_model_name_or_path")
        self.base = base if isinstance(base, str) and base else None

    @property
    def made_for(self) -> str:
        """A part of a sentence that names the base model, or nothing."""
        return f", {self.base[:120]}" if self.base else ""

    def scale(self, module: str, rank: int) -> float:
        """What B A is multiplied by in a module, ``model.layers.0.self_attn.q_proj``."""
        alpha = next((value for key, value in self._alphas if _is_meant(key, module)), self._alpha)
        return alpha / (math.sqrt(rank) if self._root else rank)

    def _pattern(self, name: str) -> list[tuple[str, float]]:
        """Modules with numbers of their own. PEFT's keys are regular expressions; those that are just
        names, as they mostly are, are read."""
        pattern = self._values.get(name) or {}
        if not isinstance(pattern, dict):
            raise self._bad(name, f"is {pattern!r:.60}, not an object")
        for key, value in pattern.items():
            if not _PLAIN.fullmatch(key):
                raise self._unsupported(
                    name, f"has the key {key!r:.80}: only names of modules are read, no expressions"
                )
            self._number(f"{name}: {key:.80}", value)
        return [(key, float(value)) for key, value in pattern.items()]

    def _whole(self, name: str, most: int) -> int:
        value = self._values.get(name)
        if type(value) is not int or not 1 <= value <= most:
            raise self._bad(name, f"is {value!r:.60}, not a whole number from 1 on")
        return value

    def _number(self, name: str, value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or abs(value) > 1e9 or not math.isfinite(value):
            raise self._bad(name, f"is {value!r:.60}, not a number of a usual size")
        return float(value)

    def _bad(self, name: str, problem: str) -> ModelFormatError:
        return ModelFormatError(f"{self._where}: {name} {problem}", field=name)

    def _unsupported(self, name: str, problem: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"{self._where}: {name} {problem}; {_HOW}", field=name)


def _is_meant(key: str, module: str) -> bool:
    """As PEFT's ``get_pattern_key``: the key is the module's name or its end, or begins at ``^``."""
    name = key.rstrip("$")
    if name.startswith("^"):
        return module == name[1:]
    return module == name or module.endswith(f".{name}")
