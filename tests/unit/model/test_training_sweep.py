"""Hyper-parameter search: which settings are tried, what is kept of them, and how they are ranked."""

import json
import tomllib
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tiny_clip
from hypothesis import given
from hypothesis import strategies as st

from model.errors import RecipeError, TrainingDiverged
from model.items import ItemArchive
from model.training import sweep as sweeping
from model.training.contest import competitors
from model.training.pipeline import prepare
from model.training.recipe import load_recipe, parse_recipe, shipped_recipes
from model.training.sweep import (
    Choices,
    Range,
    Sweep,
    Trial,
    TrialLog,
    ranking,
    read_space,
    settings_of,
    trial_recipe,
    write_trials,
)

if TYPE_CHECKING:
    from model.training.run import EpochReport

SPACES = tomllib.loads((Path(str(files("model.training"))) / "spaces.toml").read_text(encoding="utf-8"))
SMALL = [f"backbone={tiny_clip.BACKBONE}", "config.bits=[16, 64]", "config.width=16", "optimiser.batch=100"]


def trial(score: float, values: dict[str, float], *, seed: int = 0, epochs: int = 10) -> Trial:
    return Trial(values, seed, epochs, score, score)


def test_the_recipe_itself_is_tried_first() -> None:
    assert next(iter(settings_of(read_space(load_recipe("dsph")), 5))) == {}


def test_every_competitor_that_has_epochs_has_a_space() -> None:
    trained = {recipe.method for name in competitors() if not (recipe := load_recipe(name)).closed_form}
    assert trained - set(SPACES) == {"baseline-pair"}  # trained as `baseline` is


def test_a_recipe_without_a_space_has_that_of_its_method() -> None:
    lite, own = load_recipe("pghmh-lite"), load_recipe("pghmh")
    assert read_space(lite) == read_space(own)


def test_the_space_of_its_own_name_goes_before_that_of_its_method(tmp_path: Path) -> None:
    path = tmp_path / "spaces.toml"
    path.write_text("[pghmh]\n'config.dropout' = [0.1]\n[pghmh-lite]\n'config.dropout' = [0.2]")
    assert read_space(load_recipe("pghmh-lite"), path) == {"config.dropout": Choices([0.2])}


def test_a_larger_sweep_begins_with_the_settings_of_a_smaller_one() -> None:
    space = read_space(load_recipe("dhaph"))
    assert list(settings_of(space, 20))[:7] == list(settings_of(space, 7))


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if load_recipe(name).method in SPACES])
def test_every_setting_of_a_shipped_space_is_one_of_the_recipe(name: str) -> None:
    recipe = load_recipe(name)
    for values in settings_of(read_space(recipe), 50):
        trial_recipe(recipe, values, 0, 10, 32)


@given(st.floats(1e-4, 1.0), st.floats(1.001, 1e4), st.floats(0, 1, exclude_max=True), st.booleans())
def test_a_number_lies_within_its_range_to_rounding(low: float, factor: float, share: float, log: bool) -> None:
    found = Range(low, low * factor, log).at(share)
    assert low * 0.995 <= found <= low * factor * 1.005


def test_a_range_of_factors_has_the_geometric_mean_in_its_middle() -> None:
    assert Range(0.01, 1.0, log=True).at(0.5) == 0.1
    assert Range(0.0, 1.0).at(0.5) == 0.5


@given(st.lists(st.integers(), min_size=1, max_size=9), st.data())
def test_choices_share_the_way_evenly(values: list[int], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    assert Choices(values).at((place + 0.5) / len(values)) == values[place]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[other]", "expected a space for one of other, found 'mine' of method 'dsph'"),
        ("[mine]\nrate = [1, 2]", "found 'rate'"),
        ("[mine]\n'selection.bits' = [16]", "found 'selection.bits'"),
        ("[mine]\n'optimiser.rate' = []", "a list of values or low, high"),
        ("[mine]\n'optimiser.rate' = {low = 1}", "a list of values or low, high"),
        ("[mine]\n'optimiser.rate' = {low = 2, high = 1}", "low < high"),
        ("[mine]\n'optimiser.rate' = {low = 0, high = 1, log = true}", "above 0 if log"),
        ("[mine]\n'optimiser.rate' = {low = 'a', high = 'b'}", "numbers for low and high"),
        ("[mine]\n'optimiser.epochs' = [5]", "which a sweep sets itself"),
        ("mine = 3", "expected a table of keys"),
        ("[mine", "is not a TOML file"),
    ],
)
def test_a_space_of_another_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_space(replace(load_recipe("dsph"), name="mine"), path)


def test_a_value_that_the_recipe_does_not_know_is_refused() -> None:
    with pytest.raises(RecipeError, match="repulsive"):
        trial_recipe(load_recipe("dsph"), {"config.repulsive": 1.0}, 0, 10, 32)


def test_a_closed_form_has_no_trials() -> None:
    with pytest.raises(RecipeError, match="found itq, a closed form"):
        trial_recipe(load_recipe("itq"), {}, 0, 10, 32)


def test_a_trial_differs_from_its_recipe_in_what_is_tried_and_how_long_alone() -> None:
    recipe = load_recipe("dsph")
    found = trial_recipe(recipe, {"optimiser.rate": 0.001}, 2, 10, 32)
    assert (found.seed, found.config.bits, found.selection.bits) == (2, (32,), 32)
    assert (found.optimiser.epochs, found.optimiser.rate) == (10, 0.001)
    back = replace(
        found,
        seed=recipe.seed,
        config=recipe.config,
        selection=recipe.selection,
        optimiser=replace(found.optimiser, epochs=recipe.optimiser.epochs, rate=recipe.optimiser.rate),
    )
    assert back == parse_recipe(tomllib.loads(recipe.to_toml()))


def test_finalists_stand_before_settings_of_fewer_epochs() -> None:
    good, lucky = {"a": 1.0}, {"a": 2.0}
    ranked = ranking([trial(0.5, good), trial(0.9, lucky), trial(0.6, good, epochs=30)])
    assert [one.values for one in ranked] == [good, lucky]
    assert ranked[0].score == 0.6  # that of 10 epochs says nothing beside it


def test_a_setting_scores_the_mean_of_its_seeds() -> None:
    found = ranking([trial(0.5, {}), trial(0.7, {}, seed=1), trial(0.5, {})])
    assert [len(one.trials) for one in found] == [2]
    assert found[0].score == pytest.approx(0.6)


def test_a_line_that_a_kill_has_cut_is_tried_again_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    log = TrialLog(path)
    log.add("a", trial(0.5, {}))
    log.add("b", trial(0.6, {}))
    path.write_text(path.read_text()[:-9])
    again = TrialLog(path)
    assert (again.find("a"), again.find("b")) == (trial(0.5, {}), None)
    again.add("b", trial(0.7, {}))
    assert TrialLog(path).find("b") == trial(0.7, {})


def test_the_list_of_trials_is_read_as_json(tmp_path: Path) -> None:
    write_trials(tmp_path / "x.json", ranking([trial(0.5, {}), trial(0.6, {"a": 1.0})]))
    assert [one["seen"] for one in json.loads((tmp_path / "x.json").read_text())] == [0.6, 0.5]


@pytest.fixture
def sweep(archive: ItemArchive, tmp_path: Path) -> Sweep:
    recipe = load_recipe("dsph", SMALL)
    return Sweep(recipe, 16, archive, prepare(recipe, archive, tmp_path, device="cpu"), TrialLog(tmp_path / "log"))


def test_a_trial_is_run_once(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep.trial({"optimiser.rate": 0.01}, 0, 1)
    assert 0 < first.seen < 1
    assert 0 < first.unseen < 1
    monkeypatch.setattr(sweeping, "train", None)
    again = replace(sweep, log=TrialLog(sweep.log._path))
    assert again.trial({"optimiser.rate": 0.01}, 0, 1) == first


def test_a_trial_keeps_its_best_epoch(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EpochReport] = []
    train = sweeping.train

    def watched(*arguments: Any, report: Any, **rest: Any) -> object:  # noqa: ANN401
        return train(*arguments, report=lambda one: (seen.append(one), report(one)), **rest)

    monkeypatch.setattr(sweeping, "train", watched)
    found = sweep.trial({}, 0, 3)
    assert [one.epoch for one in seen] == [1, 2, 3]
    best = max(one.validation.mean for one in seen if one.validation)
    assert (found.seen + found.unseen) / 2 == pytest.approx(best, abs=1e-6)


def test_a_trial_that_diverges_scores_nothing(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[float] = []
    train = sweeping.train

    def diverging(*arguments: Any, report: Any, **rest: Any) -> None:  # noqa: ANN401
        train(*arguments, report=lambda one: (scored.append(one.validation.mean), report(one)), **rest)
        raise TrainingDiverged("step 3")

    monkeypatch.setattr(sweeping, "train", diverging)
    found = sweep.trial({}, 0, 1)
    assert scored[0] > 0
    assert (found.seen, found.unseen) == (0, 0)
