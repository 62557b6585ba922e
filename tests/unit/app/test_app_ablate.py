"""`crossbit ablate` and `crossbit evaluate --oracle` on the 200-item fixture, with networks that train in a second."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_clip
from typer.testing import CliRunner, Result

from app.cli import ablation as command
from app.cli import cli
from model.artifact import load_hasher
from model.errors import ArtifactError
from model.evaluation.ablation import Cell, Figure, Mode, merged
from model.evaluation.ablation_page import ablation_markdown, ablation_table, modes_table
from model.evaluation.plots import rows_of_dots
from model.items import ItemArchive
from model.training.ablation import ABLATIONS, ablation_of
from model.training.recipe import load_recipe

SMALL = [
    f"backbone={tiny_clip.BACKBONE}",
    "config.bits=[16]",
    "config.hidden=32",
    "selection.bits=16",
    "optimiser.batch=64",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, archive: ItemArchive) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "data" / "small").mkdir(parents=True)
    shutil.copy(archive.path, folder / "data" / "small" / "archive.zip")
    return folder


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), env={"CROSSBIT_HOME": str(home), "CROSSBIT_DEVICE": "cpu"})


def ablate(home: Path, *options: str, method: str = "prompthash", small: Sequence[str] = SMALL) -> Result:
    settings = [part for value in small for part in ("--set", value)]
    common = ["--data", "small", "--seeds", "1", "--bits", "16", "--epochs", "1", "--out", str(home / "out")]
    return run(home, "ablate", method, *common, *settings, *options)


@pytest.fixture(scope="module")
def ablated(home: Path) -> Result:
    return ablate(home, "--rows", "baseline,full")


def cells(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((home / "out" / "ablation-prompthash.json").read_text())
    return found


def test_rows_are_measured_as_served_and_as_released(home: Path, ablated: Result) -> None:
    assert ablated.exit_code == 0, ablated.output
    assert [(cell["row"], cell["mode"]) for cell in cells(home)] == [
        ("baseline", "served"),
        ("baseline", "oracle"),
        ("full", "served"),
        ("full", "oracle"),
        ("full", "other"),
        ("full", "fused"),
    ]


def test_the_page_names_what_it_is_not(home: Path, ablated: Result) -> None:
    page = (home / "out" / "ablation-prompthash.md").read_text()
    assert "PromptHash-style re-implementation on small; not a reproduction; parts reconstructed from forks" in page
    assert (home / "out" / "ablation-prompthash.svg").read_text().startswith("<svg")


def test_nothing_is_trained_or_measured_twice(home: Path, ablated: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cells(home)

    def refuse(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(command, "trained_entry", refuse)
    assert ablate(home, "--rows", "baseline,full").exit_code == 0
    assert cells(home) == before


def test_a_row_that_does_not_exist_is_refused(home: Path) -> None:
    result = ablate(home, "--rows", "everything")
    assert result.exit_code == 2
    assert "found 'everything'" in result.output


def test_a_method_without_an_ablation_is_refused(home: Path) -> None:
    result = run(home, "ablate", "itq", "--data", "small")
    expected = "expected a method with an ablation (prompthash, pghmh, soda, crossbit), found 'itq'"
    assert expected in str(result.exception)


def published(home: Path) -> Path:
    """The artifact of the full method as released."""
    candidates = home.glob("runs/compare/*/artifacts/prompthash-published-*")
    return next(path for path in candidates if json.loads((path / "manifest.json").read_text())["config"]["taap"])


def test_what_is_told_labels_cannot_be_served(home: Path, ablated: Result) -> None:
    with pytest.raises(ArtifactError, match=r"expected a method that encodes without labels .*--oracle measures it"):
        load_hasher(published(home), 16, "cpu")


@pytest.mark.parametrize("prompts", ["own", "other", "none"])
def test_evaluate_hands_over_whose_labels_it_is_told_to(home: Path, ablated: Result, prompts: str) -> None:
    target = home / "artifacts" / "released"
    if not target.exists():
        shutil.copytree(published(home), target)
    options = ["--oracle", "--prompts", prompts, "--bits", "16", "--captions", "title", "--no-report", "--json"]
    result = run(home, "evaluate", "released", "--data", "small", *options)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert set(shown) == {"oracle"}
    assert set(shown["oracle"]) == {"image_to_image", "image_to_text", "text_to_image", "text_to_text"}


def some_cells() -> list[Cell]:
    def cell(row: str, mode: Mode, seed: int, level: float) -> Cell:
        figures = (Figure(16, "image_to_text", level, level / 2), Figure(16, "text_to_image", level + 0.1, level / 2))
        return Cell(f"{row}-{mode}-{seed}", row, mode, seed, 3, 1.0, figures)

    return [cell(row, mode, seed, 0.5 + 0.1 * seed) for row in ("baseline", "full") for mode in Mode for seed in (0, 1)]


def test_the_table_holds_mean_and_deviation_side_by_side() -> None:
    headings, rows = ablation_table(some_cells(), "whole")
    assert headings == ["direction", "row", "oracle 16", "served 16"]
    assert rows[0] == ["I2T", "baseline", "0.550 ± 0.071", "0.550 ± 0.071"]
    assert [row[:2] for row in rows] == [
        ["I2T", "baseline"],
        ["I2T", "full"],
        ["T2I", "baseline"],
        ["T2I", "full"],
    ]


def test_modes_are_of_the_full_method_and_both_directions() -> None:
    headings, rows = modes_table(some_cells())
    assert headings == ["given", "direction", "16 bits, whole", "16 bits, unseen"]
    assert [row[0].partition(":")[0] for row in rows] == [
        "as published",
        "control",
        "the same build without labels",
        "as served",
    ]
    assert rows[0][1:] == ["mean of I2T and T2I", "0.600 ± 0.071", "0.275 ± 0.035"]


def test_a_mode_that_was_not_measured_has_no_row() -> None:
    _, rows = modes_table([cell for cell in some_cells() if cell.mode is not Mode.FUSED])
    assert [row[0].partition(":")[0] for row in rows] == ["as published", "control", "as served"]


def test_a_method_that_fuses_is_measured_by_what_query_and_database_saw(home: Path) -> None:
    small = [*SMALL, "config.bits=[16,32]", "config.auxiliary_bits=32"]
    result = ablate(home, "--rows", "full", method="pghmh", small=small)
    assert result.exit_code == 0, result.output
    found = json.loads((home / "out" / "ablation-pghmh.json").read_text())
    directions = {cell["mode"]: {one["direction"] for one in cell["figures"]} for cell in found}
    assert directions == {
        "served": {"pair_to_pair", "image_to_pair", "text_to_pair", "image_to_text", "text_to_image"},
        "oracle": {"pair_to_pair"},
        "other": {"pair_to_pair"},
        "fused": {"pair_to_pair"},
    }


def test_a_method_without_a_release_is_ablated_as_served_alone(home: Path) -> None:
    result = ablate(home, "--rows", "no Gap,full", "--epochs", "2", method="soda", small=SMALL)
    assert result.exit_code == 0, result.output
    found = json.loads((home / "out" / "ablation-soda.json").read_text())
    assert [(cell["row"], cell["mode"]) for cell in found] == [("no Gap", "served"), ("full", "served")]
    page = (home / "out" / "ablation-soda.md").read_text()
    assert "SODA-style re-implementation on small; not a reproduction" in page
    assert "| direction | row | served 16 |" in page
    assert "oracle" not in page
    assert "What the full method was given" not in page


@pytest.mark.parametrize("row", ABLATIONS["soda"].rows)
def test_every_row_of_an_ablation_is_a_recipe(row: str) -> None:
    [(mode, recipe)] = ablation_of("soda").recipes(row, ["seed=1"])
    assert mode is Mode.SERVED
    full = load_recipe("soda", ["seed=1"])
    assert (recipe == full) is (row == "full")


def test_figures_of_two_masks_are_never_averaged() -> None:
    figures = [Figure(16, name, level, level) for name, level in (("pair_to_pair", 0.9), ("image_to_pair", 0.7))]
    alone = [Figure(16, name, level, level) for name, level in (("image_to_text", 0.6), ("text_to_image", 0.4))]
    cell = Cell("full-served-0", "full", Mode.SERVED, 0, 3, 1.0, (*figures, *alone))
    _, rows = modes_table([cell])
    assert [row[1:3] for row in rows] == [["P2P", "0.900"], ["I2P", "0.700"], ["mean of I2T and T2I", "0.500"]]


def test_a_new_cell_replaces_that_of_its_row_mode_and_seed() -> None:
    cells = some_cells()
    again = replace(cells[3], train_s=9.0, entry="another recipe")
    assert merged(cells, again, ["baseline", "full"]) == [*cells[:3], again, *cells[4:]]
    assert merged(cells[:3] + cells[4:], cells[3], ["baseline", "full"]) == cells


def test_a_file_that_holds_no_cells_is_not_overwritten(home: Path) -> None:
    (home / "other").mkdir()
    (home / "other" / "ablation-prompthash.json").write_text("{}")
    result = ablate(home, "--out", str(home / "other"))
    assert "is not an ablation's file: expected a list, found dict" in str(result.exception)
    assert (home / "other" / "ablation-prompthash.json").read_text() == "{}"


def test_seeds_and_epochs_are_told() -> None:
    assert "over 2 seeds, 3 epochs" in ablation_markdown("m", "A caption", some_cells())


def test_rows_of_fewer_seeds_than_others_are_told_of() -> None:
    assert "over up to 2 seeds, 3 epochs" in ablation_markdown("m", "A caption", some_cells()[1:])


def test_a_single_build_is_drawn_as_closely_as_its_rows_differ() -> None:
    rows = {"a": [0.61, 0.62], "full": [0.64]}
    alone = rows_of_dots({"whole": {"served": rows}}, x="mAP")
    beside = rows_of_dots({"whole": {"served": rows, "oracle": {"a": [0.9], "full": [0.95]}}}, x="mAP")
    assert ">0.0<" not in alone
    assert ">1.0<" not in alone
    assert ">0.0<" in beside
    assert ">1.0<" in beside
