"""The trainer on tiny features: it learns, it selects on validation, and a killed run ends like one that was not."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch

from model.errors import RecipeError
from model.methods.protocol import Features
from model.training.checkpoint import TrainingState
from model.training.optimiser import learning_rate
from model.training.recipe import Recipe, load_recipe
from model.training.run import EpochReport, Trained, new_network, train

if TYPE_CHECKING:
    from encoders.protocol import Backbone

TOWERS = cast("Backbone", SimpleNamespace(image_dim=12, text_dim=12))  # all that ``baseline`` asks of them
CLASSES = ("a", "b", "c")
SMALL = [
    "config.bits=[8, 16]",
    "config.auxiliary_bits=24",
    "config.width=16",
    "config.hidden=16",
    "config.bank_rows=20",
    "optimiser.batch=16",
    "optimiser.epochs=4",
    "selection.bits=16",
]


def rows(count: int, seed: int, *, labels: bool = True) -> Features:
    """Three classes; image and text features are noisy class vectors."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % 3
    centres = torch.randn(3, 12, generator=torch.Generator().manual_seed(99))
    images, texts = (centres[classes] + 0.3 * torch.randn(count, 12, generator=generator) for _ in range(2))
    return Features(images, texts, torch.nn.functional.one_hot(classes, 3).float() if labels else None)


def run(
    folder: Path, recipe: Recipe, *, labels: bool = True, identity: str = "tiny"
) -> tuple[Trained, list[EpochReport]]:
    reports: list[EpochReport] = []
    trained = train(
        recipe,
        folder,
        new_network(recipe, TOWERS, CLASSES),
        rows(48, 0, labels=labels),
        rows(18, 1, labels=labels),
        identity={"data": identity},
        device=torch.device("cpu"),
        report=reports.append,
    )
    return trained, reports


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.network.state_dict()


def equal(one: Trained, other: Trained) -> bool:
    pairs = zip(weights(one).values(), weights(other).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_it_learns_three_classes(tmp_path: Path) -> None:
    trained, _ = run(tmp_path, load_recipe("baseline", [*SMALL, "optimiser.epochs=20"]))
    assert trained.best_score > 0.9


def test_without_labels_it_learns_the_pairs(tmp_path: Path) -> None:
    trained, reports = run(tmp_path, load_recipe("baseline", [*SMALL, "optimiser.epochs=20"]), labels=False)
    assert set(reports[0].losses) == {"quantisation", "info_nce"}
    assert reports[-1].losses["info_nce"] < reports[0].losses["info_nce"]
    assert trained.best_score > 2 / 18  # own pair among 18: random codes rank it in the middle


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = load_recipe("baseline", SMALL)
    assert equal(run(tmp_path / "a", recipe)[0], run(tmp_path / "b", recipe)[0])


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one = run(tmp_path / "a", load_recipe("baseline", SMALL))[0]
    other = run(tmp_path / "b", load_recipe("baseline", [*SMALL, "seed=1"]))[0]
    assert not equal(one, other)


@pytest.mark.parametrize(("asked", "threads"), [(None, 1), ("", 1), ("2", 2)])
def test_it_trains_in_as_many_threads_as_asked(
    tmp_path: Path, asked: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CROSSBIT_TRAIN_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("CROSSBIT_TRAIN_THREADS", asked)
    found: set[int] = set()
    train(
        recipe := load_recipe("baseline", SMALL),
        tmp_path,
        new_network(recipe, TOWERS, CLASSES),
        rows(48, 0),
        rows(18, 1),
        identity={},
        device=torch.device("cpu"),
        report=lambda _: found.add(torch.get_num_threads()),
    )
    assert found == {threads}
    assert torch.get_num_threads() == 1  # what codes are made with


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_run_ends_like_one_that_was_not(
    tmp_path: Path, killed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("baseline", SMALL)
    expected, _ = run(tmp_path / "whole", recipe)
    save = TrainingState.save

    class Killed(BaseException):
        """As final as a signal: nothing in the loop handles it."""

    def save_then_die(self: TrainingState, path: Path) -> None:
        save(self, path)
        if self.progress.epoch == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save", save_then_die)
        with pytest.raises(Killed):
            run(tmp_path / "cut", recipe)
    resumed, reports = run(tmp_path / "cut", recipe)
    assert [report.epoch for report in reports] == list(range(killed_after + 1, 5))
    assert equal(resumed, expected)
    assert resumed.best_epoch == expected.best_epoch


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    recipe = load_recipe("baseline", SMALL)
    first, _ = run(tmp_path, recipe)
    again, reports = run(tmp_path, recipe)
    assert reports == []
    assert equal(first, again)


def test_a_run_of_another_recipe_is_not_overwritten(tmp_path: Path) -> None:
    run(tmp_path, load_recipe("baseline", SMALL))
    with pytest.raises(RecipeError, match=r"recipe\.toml is of another run"):
        run(tmp_path, load_recipe("baseline", [*SMALL, "seed=1"]))


def test_a_run_of_another_data_set_is_not_overwritten(tmp_path: Path) -> None:
    recipe = load_recipe("baseline", SMALL)
    run(tmp_path, recipe)
    with pytest.raises(RecipeError, match=r"data\.json is of another run"):
        run(tmp_path, recipe, identity="other")


def test_every_epoch_is_logged(tmp_path: Path) -> None:
    run(tmp_path, load_recipe("baseline", SMALL))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert set(lines[0]["losses"]) == {"info_nce", "inter", "intra", "quantisation"}


def test_the_best_epoch_is_kept_not_the_last(tmp_path: Path) -> None:
    trained, reports = run(tmp_path, load_recipe("baseline", [*SMALL, "optimiser.epochs=8"]))
    scores = [report.validation_map or 0 for report in reports]
    assert trained.best_score == max(scores)
    assert trained.best_epoch == 1 + scores.index(max(scores))


def test_unlabelled_rows_take_no_part_in_the_likelihood(tmp_path: Path) -> None:
    recipe = load_recipe("baseline", SMALL)
    module_rows = rows(48, 0)
    assert module_rows.labels is not None
    unlabelled = dataclasses.replace(module_rows, labels=module_rows.labels * (torch.arange(48) >= 24).float()[:, None])
    network = new_network(recipe, TOWERS, CLASSES)
    trained = train(recipe, tmp_path, network, unlabelled, rows(18, 1), identity={}, device=torch.device("cpu"))
    assert trained.best_score > 0


def test_the_rate_warms_up_and_decays_to_zero() -> None:
    optimiser = load_recipe("baseline").optimiser
    rates = [learning_rate(optimiser, step, 100) for step in range(100)]
    assert rates[4] == max(rates) == optimiser.rate
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.01 * optimiser.rate
