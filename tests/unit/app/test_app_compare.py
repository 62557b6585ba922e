"""`crossbit compare` with trainings and towers that cost nothing: what it stores, what it takes up again."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_home import make_archive, make_home
from typer.testing import CliRunner, Result

from app.cli import cli
from model.evaluation import compare as measuring
from model.evaluation import label_only
from model.fake import FakeHasher
from model.training import contest
from model.training.recipe import Recipe

FLOOR_RUNS = 6  # three floors, two seeds


class Trainings:
    """Stands in for training: notes what was trained, and can be interrupted."""

    def __init__(self) -> None:
        self.trained: list[tuple[str, int]] = []
        self.interrupt_after: int | None = None

    def __call__(self, recipe: Recipe, archive: object, name: str, folders: Any, **rest: object) -> None:  # noqa: ANN401
        if len(self.trained) == self.interrupt_after:
            raise KeyboardInterrupt
        self.trained.append((recipe.name, recipe.seed))
        (folders.artifacts / name).mkdir(parents=True)
        (folders.artifacts / name / "manifest.json").write_text("{}")


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    monkeypatch.setenv("CROSSBIT_HOME", str(tmp_path / "home"))
    make_home(tmp_path / "home", 40)
    monkeypatch.setattr(label_only, "STEPS", 3)
    stand_in = Trainings()
    monkeypatch.setattr(contest, "train_artifact", stand_in)
    monkeypatch.setattr(contest, "read_manifest", lambda folder: None)
    monkeypatch.setattr(measuring, "read_manifest", lambda folder: SimpleNamespace(training={"seconds": 1.5}))
    monkeypatch.setattr(
        measuring,
        "load_hashers",
        lambda folder, lengths, *rest: [FakeHasher(bits, seed=folder.name.rpartition("-")[0]) for bits in lengths],
    )
    return stand_in


def run(tmp_path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["compare", *common(tmp_path), *options])


def common(tmp_path: Path) -> list[str]:
    return ["--data", "tiny", "--seeds", "2", "--bits", "16", "--out", str(tmp_path / "out")]


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    return found


def test_the_floors_are_in_every_comparison(tmp_path: Path, trainings: Trainings) -> None:
    result = run(tmp_path)
    assert result.exit_code == 0, result.output
    assert {row["method"]: row["competes"] for row in rows(tmp_path)} == {
        "itq": True,
        "lsh": True,
        "random": True,
        "label-only": False,
    }
    assert {(row["bits"], row["seeds"], row["captions"]) for row in rows(tmp_path)} == {(16, 2, "title")}


def test_a_finished_comparison_is_read_not_run_again(tmp_path: Path, trainings: Trainings) -> None:
    run(tmp_path)
    before = (tmp_path / "out" / "leaderboard.json").read_text()
    run(tmp_path)
    assert len(trainings.trained) == FLOOR_RUNS
    floors = [row for row in json.loads(before) if row["competes"]]
    assert [row for row in rows(tmp_path) if row["competes"]] == floors


def test_an_interrupted_comparison_goes_on_where_it_was(tmp_path: Path, trainings: Trainings) -> None:
    trainings.interrupt_after = 4
    assert run(tmp_path).exit_code != 0
    assert not (tmp_path / "out").exists()
    trainings.interrupt_after = None
    assert run(tmp_path).exit_code == 0
    assert len(trainings.trained) == len(set(trainings.trained)) == FLOOR_RUNS


def test_another_length_is_measured_without_training_again(tmp_path: Path, trainings: Trainings) -> None:
    run(tmp_path)
    run(tmp_path, "--bits", "16,32")
    assert len(trainings.trained) == FLOOR_RUNS
    assert {row["bits"] for row in rows(tmp_path)} == {16, 32}


def test_more_methods_keep_the_rows_of_the_others(tmp_path: Path, trainings: Trainings) -> None:
    run(tmp_path, "--methods", "baseline")
    run(tmp_path)
    assert {row["method"] for row in rows(tmp_path)} == {"baseline", "itq", "lsh", "random", "label-only"}


def test_all_takes_every_shipped_recipe(tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.training.recipe.shipped_recipes", lambda: ["baseline", "itq"])
    run(tmp_path, "--all")
    assert ("baseline", 1) in trainings.trained


@pytest.mark.parametrize("lengths", ["16,x", "", "12", "0"])
def test_lengths_that_are_none_are_refused(tmp_path: Path, trainings: Trainings, lengths: str) -> None:
    result = run(tmp_path, "--bits", lengths)
    assert result.exit_code == 2
    assert "--bits: expected" in result.output


@pytest.mark.parametrize("name", ["leaderboard.json", "differences.json"])
def test_a_damaged_leaderboard_is_found_before_anything_is_trained(
    tmp_path: Path, trainings: Trainings, name: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("{")
    assert "is not a leaderboard" in str(run(tmp_path).exception)
    assert trainings.trained == []


def differences(tmp_path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tmp_path / "out" / "differences.json").read_text())
    return found


def test_the_reference_joins_and_every_method_is_compared_with_it(tmp_path: Path, trainings: Trainings) -> None:
    result = run(tmp_path, "--methods", "itq")
    assert ("baseline", 1) in trainings.trained
    assert [(one["method"], one["reference"], one["database"]) for one in differences(tmp_path)] == [
        (method, "baseline", "all") for method in ("itq", "lsh", "random")
    ]
    assert all((one["seeds"], len(one["by_seed"]), one["bits"]) == (2, 2, [16]) for one in differences(tmp_path))
    assert "points above baseline" in result.stdout


def test_floors_alone_are_compared_with_nothing(tmp_path: Path, trainings: Trainings) -> None:
    result = run(tmp_path)
    assert differences(tmp_path) == []
    assert "points above" not in result.stdout


def test_another_reference_keeps_the_differences_to_the_first(tmp_path: Path, trainings: Trainings) -> None:
    run(tmp_path, "--methods", "baseline")
    run(tmp_path, "--against", "itq")
    assert {(one["method"], one["reference"]) for one in differences(tmp_path)} == {
        *((method, "baseline") for method in ("itq", "lsh", "random")),
        *((method, "itq") for method in ("lsh", "random")),
    }


def test_a_reference_that_is_no_recipe_is_refused_before_anything_is_trained(
    tmp_path: Path, trainings: Trainings
) -> None:
    result = run(tmp_path, "--against", "nobody")
    assert result.exit_code == 2
    assert "'nobody'" in result.output
    assert trainings.trained == []


def test_outcomes_of_before_the_unseen_precisions_are_measured_again(tmp_path: Path, trainings: Trainings) -> None:
    run(tmp_path)
    paths = sorted((tmp_path / "home").glob("runs/compare/tiny/outcomes/*.json"))
    texts = [path.read_text() for path in paths]
    for path in paths:
        stored = json.loads(path.read_text())
        for score in stored["scores"]:
            del score["unseen_average_precision"]
        path.write_text(json.dumps(stored))
    run(tmp_path)
    assert len(trainings.trained) == FLOOR_RUNS
    assert [json.loads(path.read_text())["scores"] for path in paths] == [json.loads(text)["scores"] for text in texts]


def test_several_splits_are_compared_each_and_pooled(tmp_path: Path, trainings: Trainings) -> None:
    make_archive(tmp_path / "home" / "data" / "tiny-again" / "archive.zip", 40, name="tiny-again")
    result = run(tmp_path, "--methods", "baseline", "--data", "tiny,tiny-again")
    assert result.exit_code == 0, result.output
    pooled = "tiny + tiny-again"
    assert {row["data"] for row in rows(tmp_path)} == {"tiny", "tiny-again", pooled}
    assert {(one["data"], one["seeds"]) for one in differences(tmp_path)} == {
        (name, 2) for name in ("tiny", "tiny-again", pooled)
    }
    level = {
        (row["data"], row["direction"]): row["map_expected_mean"] for row in rows(tmp_path) if row["method"] == "itq"
    }
    for direction in ("image_to_text", "text_to_image"):
        each = [level[name, direction] for name in ("tiny", "tiny-again")]
        assert level[pooled, direction] == pytest.approx(sum(each) / 2, abs=1e-6)


@pytest.mark.parametrize("names", ["", " , "])
def test_a_comparison_on_no_data_set_is_refused(tmp_path: Path, trainings: Trainings, names: str) -> None:
    result = run(tmp_path, "--data", names)
    assert result.exit_code == 2
    assert "--data: expected a data set" in result.output


KILLED_AFTER = 5
KILLED = f"""
import os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from app.cli import cli
from model.evaluation import compare, label_only
from model.fake import FakeHasher
from model.training import contest

trained = Path(sys.argv[1])

def train(recipe, archive, name, folders, **rest):
    with trained.open("a") as file:
        file.write(f"{{recipe.name}} {{recipe.seed}}\\n")
    (folders.artifacts / name).mkdir(parents=True)
    (folders.artifacts / name / "manifest.json").write_text("{{}}")
    if len(trained.read_text().splitlines()) == {KILLED_AFTER}:
        os.kill(os.getpid(), signal.SIGKILL)

label_only.STEPS = 3
contest.train_artifact = train
contest.shipped_recipes = lambda: sys.argv[2].split(",")
compare.read_manifest = lambda folder: SimpleNamespace(training={{"seconds": 1.5}})
compare.load_hashers = lambda folder, lengths, *rest: [FakeHasher(bits, seed=folder.name) for bits in lengths]
cli(["compare", "--all", *sys.argv[3:]])
"""


@pytest.mark.slow
def test_a_killed_comparison_of_all_goes_on_where_it_was(
    tmp_path: Path, trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all shipped recipes it takes those that the default towers can train and a service can load."""
    shipped, before = ["baseline", "dhaph", "itq", "dnph-coco", "prompthash-published"], tmp_path / "trained"
    monkeypatch.setattr(contest, "shipped_recipes", lambda: shipped)
    command = [sys.executable, "-c", KILLED, str(before), ",".join(shipped), *common(tmp_path)]
    assert subprocess.run(command, capture_output=True, timeout=200, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert run(tmp_path, "--all").exit_code == 0
    killed = [(name, int(seed)) for name, seed in map(str.split, before.read_text().splitlines())]
    assert len(killed) == KILLED_AFTER
    assert len({*killed, *trainings.trained}) == len(killed + trainings.trained) == FLOOR_RUNS + 4
    assert {row["method"] for row in rows(tmp_path)} == {"baseline", "dhaph", "itq", "label-only", "lsh", "random"}
