"""Which type each tensor gets: the recipes of llama-quantize, named as it names them.

A recipe has a type for most matrices and gives more bits to those that suffer most. The choices are
llama.cpp's (src/llama-quant.cpp, commit 0c1e570), tensor by tensor, so that a file of a name has the
size and the types that everyone expects of it; tests/quantize/test_recipes.py compares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pyqwen._native import tensor_types
from pyqwen.quantize.tensor_names import layer_of, tensor_names

# Name of the recipe, the type of most matrices, general.file_type.
_RECIPES = (
    ("Q4_0", "Q4_0", 2),
    ("Q4_1", "Q4_1", 3),
    ("Q5_0", "Q5_0", 8),
    ("Q5_1", "Q5_1", 9),
    ("Q8_0", "Q8_0", 7),
    ("Q2_K", "Q2_K", 10),
    ("Q3_K_S", "Q3_K", 11),
    ("Q3_K_M", "Q3_K", 12),
    ("Q3_K_L", "Q3_K", 13),
    ("Q4_K_S", "Q4_K", 14),
    ("Q4_K_M", "Q4_K", 15),
    ("Q5_K_S", "Q5_K", 16),
    ("Q5_K_M", "Q5_K", 17),
    ("Q6_K", "Q6_K", 18),
    ("IQ4_NL", "IQ4_NL", 25),
    ("IQ4_XS", "IQ4_XS", 30),
    ("F16", "F16", 1),
    ("BF16", "BF16", 32),
    ("F32", "F32", 0),
)
_DEFAULTS = {name: kind for name, kind, _ in _RECIPES}
FILE_TYPES = {name: number for name, _, number in _RECIPES}
_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
COPY = "COPY"
RECIPES = (*_DEFAULTS, COPY)
AUTO = "AUTO"  # no recipe: types by a budget
_FLOATS = ("F32", "F16", "BF16")

# Where rows are no multiple of 256: the type of 32 that takes the place, before F16 does.
_SMALLER_BLOCKS = {
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "IQ4_XS": "IQ4_NL",
}


@dataclass(frozen=True, slots=True)
class TensorShape:
    """What the choice depends on. ``shape`` has the row length last."""

    name: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes that recipes look at."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int


@dataclass(frozen=True, slots=True)
class TypeOptions:
    """What overrides a recipe; see `pyqwen.quantize.quantize`.

    ``tensor_types`` are pairs of a regular expression and a type: the first whose expression is
    found in a tensor's name decides.
    """

    tensor_types: Sequence[tuple[str, str]] = ()
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    leave_output_tensor: bool = False
    pure: bool = False
    patterns: list[tuple[re.Pattern[str], str]] = field(init=False)

    def __post_init__(self) -> None:
        patterns = [(_compile(text), type_name(kind)) for text, kind in self.tensor_types]
        object.__setattr__(self, "patterns", patterns)
        for name in ("output_tensor_type", "token_embedding_type"):
            if (kind := getattr(self, name)) is not None:
                object.__setattr__(self, name, type_name(kind))


@dataclass(frozen=True, slots=True)
class Choice:
    """The type of a tensor, and why it is not the one that was meant for it."""

    type: str
    fallback: str | None = None


def _upper(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a type is named by a str, not {type(name).__name__}")
    return name.upper()


def recipe_name(name: str) -> str:
    """The recipe of that name, or AUTO, in any case; ``Q4_K`` is ``Q4_K_M``. ``ValueError`` if there is
    none."""
    upper = _upper(name)
    recipe = _ALIASES.get(upper, upper)
    if recipe not in RECIPES and recipe != AUTO:
        raise ValueError(f"unknown type {name!r}; choose one of {', '.join((*RECIPES, AUTO))}")
    return recipe


def type_name(name: str) -> str:
    """The tensor type of that name, in any case. ``ValueError`` if it cannot be written."""
    upper = _upper(name)
    if upper not in tensor_types():
        raise ValueError(
            f"unknown tensor type {name!r}; the types are {', '.join(sorted(tensor_types()))}"
        )
    return upper


def choose_types(
    recipe: str,
    model: ModelShape,
    tensors: Sequence[TensorShape],
    options: TypeOptions,
    *,
    weighted: bool,
) -> dict[str, Choice]:
    """The type of each tensor by name. ``weighted``: there is an importance matrix."""
    chooser = _Chooser(recipe, model, tensors, options, weighted)
    # Some rules count the tensors of a kind that came before, in this order.
    ordered = sorted(tensors, key=lambda tensor: (layer_of(tensor.name), tensor.name))
    return {tensor.name: chooser.choose(tensor) for tensor in ordered}


def given_types(
    architecture: str, tensors: Sequence[TensorShape], options: TypeOptions
) -> dict[str, Choice]:
    """The types that no recipe and no budget decides: of vectors, and what ``options`` say."""
    names = tensor_names(architecture)
    given = {t.name: _given_type(t, names.role(t.name), options) for t in tensors}
    return {name: choice for name, choice in given.items() if choice is not None}


def _given_type(tensor: TensorShape, role: str | None, options: TypeOptions) -> Choice | None:
    """The type of one tensor, where it is not for a recipe to decide."""
    if not is_quantizable(tensor.shape):
        return Choice(tensor.type)
    if options.leave_output_tensor and role == "output":
        return Choice(tensor.type)
    columns = tensor.shape[-1]
    if options.token_embedding_type and role == "embedding":
        return fitting_type(options.token_embedding_type, columns)
    if options.output_tensor_type and role == "output":
        return fitting_type(options.output_tensor_type, columns)
    for pattern, kind in options.patterns:
        if pattern.search(tensor.name):
            return fitting_type(kind, columns)
    return None


def is_quantizable(shape: tuple[int, ...]) -> bool:
    """Whether a recipe changes a tensor: matrices only."""
    return len(shape) > 1


def fitting_type(kind: str, columns: int) -> Choice:
    """``kind``, or what takes its place in rows that are not a multiple of its block."""
    block = tensor_types()[kind].block
    if columns % block == 0:
        return Choice(kind)
    reason = f"rows of {columns:,} are no multiple of {block}, the block of {kind}"
    smaller = _SMALLER_BLOCKS.get(kind, kind)
    fits = columns % tensor_types()[smaller].block == 0
    return Choice(smaller if fits else "F16", reason)


class _Chooser:
    """One pass over the tensors of a model."""

    def __init__(
        self,
        recipe: str,
        model: ModelShape,
        tensors: Sequence[TensorShape],
        options: TypeOptions,
        weighted: bool,
    ) -> None:
        self._recipe, self._model, self._options = recipe, model, options
        self._default = _DEFAULTS.get(recipe, "")
        self._weighted = weighted
        self._names = tensor_names(model.architecture)
        roles = [self._names.role(tensor.name) for tensor in tensors]
        self._tied = "output" not in roles
        self._values = roles.count("value")
        self._value = self._down = 0  # how many the rules have seen
        # llama.cpp's class of 70B models is all of 80 layers, where Llama has grouped heads.
        classes = {"qwen2": True, "llama": model.heads != model.kv_heads}
        self._is_70b = model.layers == 80 and classes.get(model.architecture, False)

    def choose(self, tensor: TensorShape) -> Choice:
        if self._recipe == COPY:
            return Choice(tensor.type)
        role = self._names.role(tensor.name)
        if (given := _given_type(tensor, role, self._options)) is not None:
            return given
        columns = tensor.shape[-1]
        if self._options.pure or self._default in _FLOATS:
            return fitting_type(self._default, columns)
        return fitting_type(self._mixed(role), columns)

    def _mixed(self, role: str | None) -> str:
        """The type by the recipe, whatever the length of the rows."""
        if role == "output" or (role == "embedding" and self._tied):
            least = "Q8_0" if self._default == "Q8_0" else "Q6_K"
            return self._options.output_tensor_type or least
        if role == "value":
            self._value += 1
            return self._of_value(self._value - 1)
        if role == "down":
            self._down += 1
            return self._of_down(self._down - 1)
        if role == "attention_output":
            return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(
                self._recipe, self._default
            )
        return self._default

    def _of_value(self, i: int) -> str:
        kind = self._default
        many_share = self._model.heads // self._model.kv_heads >= 4
        match self._recipe:
            case "Q2_K":
                kind = "Q4_K" if many_share else "Q3_K"
            case "Q3_K_M":
                kind = "Q5_K" if i < 2 else "Q4_K"
            case "Q3_K_L":
                kind = "Q5_K"
            case "IQ4_NL" | "IQ4_XS" if many_share:
                kind = "Q5_K"
            case "Q4_K_M" | "Q5_K_M" if _deserves_more(i, self._values):
                kind = "Q6_K"
            case "Q4_K_S" if i < 4:
                kind = "Q5_K"
        if self._is_70b and kind in ("Q3_K", "Q4_K"):
            kind = "Q5_K"
        return kind

    def _of_down(self, i: int) -> str:
        layers = self._model.layers
        is_early = i < layers // 8
        match self._recipe:
            case "Q2_K":
                return "Q3_K"
            case "Q3_K_M":
                return "Q5_K" if i < layers // 16 else "Q4_K"
            case "Q3_K_L":
                return "Q5_K"
            case "Q4_K_M" | "Q5_K_M" if _deserves_more(i, layers):
                return "Q6_K"
            case "Q4_K_S" if is_early:
                return "Q5_K"
            case "IQ4_NL" | "IQ4_XS" if is_early and not self._weighted:
                return "Q5_K"
            case "Q4_0" | "Q5_0" if is_early and self._weighted:
                return "Q4_1" if self._recipe == "Q4_0" else "Q5_1"
        return self._default


def _deserves_more(i: int, n: int) -> bool:
    """The first and last eighth, and every third between."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.lower())
    except re.error as error:
        raise ValueError(f"tensor type {pattern!r} is no regular expression: {error}") from None
