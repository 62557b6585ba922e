"""The table of trials beside the recipes."""

import tomllib
from importlib.resources import files

from model.training.recipe import shipped_recipes
from model.training.trials import trials_of


def test_floors_have_no_trials_and_unknown_recipes_no_count() -> None:
    assert [trials_of(floor) for floor in ("random", "lsh", "itq")] == [0, 0, 0]
    assert trials_of("my-own") is None


def test_every_count_is_of_a_shipped_recipe() -> None:
    counts = tomllib.loads(files("model.training").joinpath("trials.toml").read_text(encoding="utf-8"))
    assert counts.keys() <= set(shipped_recipes())
    assert all(isinstance(count, int) and count >= 0 for count in counts.values())
