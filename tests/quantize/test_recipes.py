"""The types of all tensors: those that llama-quantize chooses (data/recipes.json was made by it)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pyqwen.quantize import RECIPES
from pyqwen.quantize.recipes import (
    ModelShape,
    TensorShape,
    TypeOptions,
    choose_types,
    fitting_type,
    recipe_name,
)

sys.path.insert(0, str(Path(__file__).parent))
from make_recipe_tables import GEOMETRIES, TABLES, pack, tensor_shapes

GOLDEN = json.loads(TABLES.read_text())


def types_of(
    geometry: str, recipe: str, *, weighted: bool = False, **options: object
) -> dict[str, str]:
    architecture, _, _, layers, heads, kv_heads, _, _ = GEOMETRIES[geometry]
    tensors = [
        TensorShape(name, "F32" if len(shape) == 1 else "BF16", shape)
        for name, shape in tensor_shapes(geometry).items()
    ]
    choices = choose_types(
        recipe,
        ModelShape(architecture, layers, heads, kv_heads),
        tensors,
        TypeOptions(**options),  # type: ignore[arg-type]
        weighted=weighted,
    )
    for tensor in tensors:
        if len(tensor.shape) == 1:
            assert choices[tensor.name].type == "F32"
    return {name: choice.type for name, choice in choices.items()}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_llama_quantize_chooses_the_same(geometry: str, recipe: str) -> None:
    for weighted in (False, True):
        how = f"{recipe} weighted" if weighted else recipe
        assert pack(types_of(geometry, recipe, weighted=weighted)) == GOLDEN[geometry][how]


def test_the_tables_are_complete() -> None:
    assert GOLDEN.keys() == GEOMETRIES.keys()
    for table in GOLDEN.values():
        assert len(table) == 2 * len(RECIPES)


@pytest.mark.parametrize(
    ("given", "recipe"), [("q4_k", "Q4_K_M"), ("Q3_K", "Q3_K_M"), ("iq4_xs", "IQ4_XS")]
)
def test_names(given: str, recipe: str) -> None:
    assert recipe_name(given) == recipe


@pytest.mark.parametrize("name", ["Q4_K_XL", "IQ2_XXS", "", "AUTOMATIC"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="Q4_K_M"):
        recipe_name(name)


def test_options() -> None:
    types = types_of("tiny-untied", "Q4_K_M", tensor_types=[("ATTN_Q|k.weight", "q8_0")])
    assert pack(types) == (
        "Q8_0; attn_output.weight 2 Q4_K; attn_v.weight 1 Q4_K 1 Q6_K; ffn_down.weight 1 Q4_K 1 Q6_K; "
        "ffn_gate.weight 2 Q4_K; ffn_up.weight 2 Q4_K; output.weight 1 Q6_K; token_embd.weight 1 Q4_K"
    )
    types = types_of("tiny-untied", "Q4_0", output_tensor_type="F16", token_embedding_type="q5_1")
    assert pack(types) == "Q4_0; output.weight 1 F16; token_embd.weight 1 Q5_1"
    types = types_of("tiny-untied", "Q4_0", leave_output_tensor=True)
    assert pack(types) == "Q4_0; output.weight 1 BF16"
    assert pack(types_of("tiny-untied", "Q4_K_M", pure=True)) == "Q4_K"
    # The one tensor of a tied model is an output before it is an embedding.
    assert (
        pack(types_of("tiny", "Q4_0", output_tensor_type="Q8_0"))
        == "Q4_0; token_embd.weight 1 Q8_0"
    )


def test_the_first_expression_that_matches_decides() -> None:
    pairs = [(r"blk\.0\.", "Q5_K"), ("attn", "Q8_0")]
    types = types_of("tiny", "Q4_0", tensor_types=pairs)
    assert types["blk.0.attn_q.weight"] == "Q5_K"
    assert types["blk.1.attn_q.weight"] == "Q8_0"
    assert types["blk.1.ffn_up.weight"] == "Q4_0"


def test_options_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="regular expression"):
        TypeOptions(tensor_types=[("attn[", "Q8_0")])
    with pytest.raises(ValueError, match="IQ1_S"):
        TypeOptions(output_tensor_type="IQ1_S")


@pytest.mark.parametrize(
    ("kind", "columns", "fits"),
    [
        ("Q4_K", 512, "Q4_K"),
        ("Q4_K", 576, "Q5_0"),
        ("Q6_K", 576, "Q8_0"),
        ("IQ4_XS", 576, "IQ4_NL"),
        ("Q2_K", 144, "F16"),
        ("Q8_0", 144, "F16"),
        ("BF16", 7, "BF16"),
    ],
)
def test_rows_that_do_not_fit(kind: str, columns: int, fits: str) -> None:
    choice = fitting_type(kind, columns)
    assert choice.type == fits
    assert (choice.fallback is None) == (kind == fits)
    if choice.fallback:
        assert str(columns) in choice.fallback
