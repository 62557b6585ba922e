"""What a comparison measures: its conditions, its entries, outcomes and their files."""

import json
from pathlib import Path

import numpy as np
import pytest
from outcomes import outcome
from tiny_home import make_archive

from model.errors import RecipeError
from model.evaluation.compare import encode_rate, measure_label_only, read_outcome
from model.fake import FakeHasher
from model.items import ItemArchive
from model.training.contest import competitors, contest_recipe, entry_name


def test_an_outcome_survives_its_file(tmp_path: Path) -> None:
    outcome(0.5).write(tmp_path / "o.json")
    assert read_outcome(tmp_path / "o.json") == outcome(0.5)


@pytest.mark.parametrize("text", ["", "{}", '{"scores": [{}]}'])
def test_a_file_that_is_no_outcome_is_measured_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "o.json").write_text(text)
    assert read_outcome(tmp_path / "o.json") is None


def test_an_outcome_of_before_the_unseen_precisions_is_measured_again(tmp_path: Path) -> None:
    outcome(0.5).write(tmp_path / "o.json")
    stored = json.loads((tmp_path / "o.json").read_text())
    for score in stored["scores"]:
        del score["unseen_average_precision"]
    (tmp_path / "o.json").write_text(json.dumps(stored))
    assert read_outcome(tmp_path / "o.json") is None


@pytest.mark.parametrize("method", competitors())
def test_every_method_meets_the_same_conditions(method: str) -> None:
    recipe = contest_recipe(method, 2, "title", 7, (16, 64))
    assert (recipe.seed, recipe.captions) == (2, "title")
    assert recipe.closed_form or recipe.optimiser.epochs == 7


def test_recipes_that_tune_towers_join_by_name_alone() -> None:
    tuned = {"prompthash-tuned", "soda-tuned"}
    assert not tuned & set(competitors())
    assert set(competitors(tuned=True)) == {*competitors(), *tuned}


def test_a_length_that_a_recipe_does_not_serve_is_named() -> None:
    with pytest.raises(RecipeError, match=r"itq: expected codes of 24 bits, found lengths \[16, 32, 64, 128\]"):
        contest_recipe("itq", 0, "title", 30, (16, 24))


def test_an_entry_is_named_by_all_that_decides_it(archive: ItemArchive) -> None:
    recipes = [contest_recipe("baseline", seed, "title", epochs, (16,)) for seed in (0, 1) for epochs in (1, 2)]
    assert len({entry_name(recipe, archive) for recipe in recipes}) == 4
    assert entry_name(recipes[0], archive) == entry_name(recipes[0], archive)


def test_label_only_knows_what_it_is_asked(archive: ItemArchive) -> None:
    found = measure_label_only(archive, 32, 0, "title")
    assert {score.protocol for score in found.scores} == {"oracle"}
    assert all(score.whole > 0.9 for score in found.scores)


def test_each_query_is_stored_over_the_unseen_database_too(archive: ItemArchive) -> None:
    for score in measure_label_only(archive, 32, 0, "title").scores:
        assert score.unseen_average_precision is not None
        assert len(score.unseen_average_precision) == len(score.average_precision)
        answered = [value for value in score.unseen_average_precision if value is not None]
        assert score.unseen == pytest.approx(np.mean(answered), abs=1e-6)


def test_a_data_set_without_an_unseen_part_has_no_unseen_precisions(tmp_path: Path) -> None:
    make_archive(tmp_path / "archive.zip", 40)
    found = measure_label_only(ItemArchive.open(tmp_path / "archive.zip"), 16, 0, "title")
    assert {(score.unseen, score.unseen_average_precision) for score in found.scores} == {(None, None)}


def test_encoding_is_timed_per_item(archive: ItemArchive) -> None:
    assert encode_rate(FakeHasher(64), archive, archive.items[:4], "title") > 0
