"""Recipes: what is read is what runs, and nothing unknown or contradictory gets in."""

from pathlib import Path

import pytest

from model.errors import RecipeError
from model.training.recipe import load_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).name == name


def test_a_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = load_recipe("baseline", ["seed=3", "config.dropout=0.5", "captions=full"])
    path = tmp_path / "resolved.toml"
    path.write_text(recipe.to_toml())
    assert load_recipe(str(path)) == recipe


def test_overrides_reach_nested_values() -> None:
    recipe = load_recipe("baseline", ["optimiser.epochs=2", "config.bits=[8, 16]", "selection.bits=16"])
    assert recipe.optimiser.epochs == 2
    assert recipe.config.bits == (8, 16)


def test_an_integer_is_a_float_where_one_is_expected() -> None:
    assert load_recipe("baseline", ["optimiser.rate=1"]).optimiser.rate == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("unknown=1", "unknown unknown"),
        ("config.widht=1", "unknown widht; known: .*width"),
        ("optimiser.epochs=many", "optimiser.epochs: expected int, found 'many'"),
        ("optimiser.epochs=0", "epochs >= 1"),
        ("config.dropout=1.5", "0 <= dropout < 1"),
        ("config.bits=[12]", "multiples of 8"),
        ("selection.bits=24", "selection.bits: expected one of"),
        ("method=magic", "expected one of .*itq, .*, found 'magic'"),
        ("epochs", "expected key=value"),
        ("seed.x=1", "is a value, not a table"),
    ],
)
def test_a_wrong_value_is_named(override: str, message: str) -> None:
    overrides = ["seed=1", override] if override == "seed.x=1" else [override]
    with pytest.raises(RecipeError, match=message):
        load_recipe("baseline", overrides)


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match="baseline"):
        load_recipe("nonesuch")


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("seed = = 1")
    with pytest.raises(RecipeError, match=r"broken\.toml is not TOML"):
        load_recipe(str(path))
