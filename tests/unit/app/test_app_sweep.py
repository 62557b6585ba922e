"""`crossbit sweep` on the 200-item fixture, with trials of an epoch."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_clip
from typer.testing import CliRunner, Result

from app.cli import cli
from model.items import ItemArchive
from model.training import sweep as sweeping

DATA = "openclipart-200"  # of the fixture
SMALL = [f"backbone={tiny_clip.BACKBONE}", "config.width=16", "optimiser.batch=100", "optimiser.epochs=2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, archive: ItemArchive) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "data" / "small").mkdir(parents=True)
    shutil.copy(archive.path, folder / "data" / "small" / "archive.zip")
    return folder


def sweep(home: Path, *options: str, recipe: str = "dsph") -> Result:
    settings = [part for value in SMALL for part in ("--set", value)]
    few = ["--data", "small", "--trials", "4", "--epochs", "1", "--finalists", "1", "--seeds", "2"]
    arguments = ["sweep", recipe, *few, "--out", str(home / "out"), *settings, *options]
    return CliRunner().invoke(cli, arguments, env={"CROSSBIT_HOME": str(home), "CROSSBIT_DEVICE": "cpu"})


@pytest.fixture(scope="module")
def swept(home: Path) -> Result:
    return sweep(home)


def test_the_recipe_and_the_best_setting_are_tried_in_full_with_every_seed(home: Path, swept: Result) -> None:
    assert swept.exit_code == 0, swept.output
    trials = json.loads((home / "out" / f"{DATA}-dsph.json").read_text())
    in_full = [one for one in trials if one["epochs"] == 2]
    assert sorted(one["seed"] for one in in_full) == [0, 0, 1, 1]
    assert {} in [one["values"] for one in in_full]
    assert len({json.dumps(one["values"]) for one in trials}) == 4


def test_the_table_names_the_recipe_itself(swept: Result) -> None:
    assert "the recipe itself" in swept.stdout
    assert swept.stdout.count("optimiser.rate=") == 3


def test_a_sweep_goes_on_where_it_was(home: Path, swept: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (home / "out" / f"{DATA}-dsph.json").read_text()
    monkeypatch.setattr(sweeping, "train", None)
    again = sweep(home)
    assert again.exit_code == 0, again.output
    assert (home / "out" / f"{DATA}-dsph.json").read_text() == before


def test_a_recipe_without_a_space_is_refused_by_name(home: Path) -> None:
    result = sweep(home, recipe="baseline-pair")
    assert result.exit_code != 0
    assert "expected a space for one of dnph" in str(result.exception)
