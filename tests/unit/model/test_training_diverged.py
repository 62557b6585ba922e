"""A loss or a gradient that is not finite stops the run, and the message says where and with which items."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch import Tensor

from model.errors import TrainingDiverged
from model.methods.protocol import Features, Network
from model.training.recipe import Recipe, load_recipe
from model.training.run import new_network, train

if TYPE_CHECKING:
    from encoders.protocol import Backbone

TOWERS = cast("Backbone", SimpleNamespace(image_dim=6, text_dim=6))  # all that ``baseline`` asks of them
ROWS, BATCH, BAD, MARK = 40, 8, 13, 7.25
SMALL = [
    "config.bits=[8]",
    "config.auxiliary_bits=0",
    "config.width=8",
    "config.hidden=8",
    "config.bank_rows=20",
    "config.standardise_images=false",
    "config.standardise_texts=false",
    f"optimiser.batch={BATCH}",
    "optimiser.epochs=3",
    "selection.bits=8",
]


def recipe(*overrides: str) -> Recipe:
    return load_recipe("baseline", [*SMALL, *overrides])


def rows(count: int, *, labels: bool = False, ids: bool = True) -> Features:
    generator = torch.Generator().manual_seed(0)
    names = tuple(f"item-{row:03}" for row in range(count)) if ids else ()
    told = torch.eye(2)[torch.arange(count) % 2] if labels else None
    return Features(*(torch.randn(count, 6, generator=generator) for _ in range(2)), told, None, names)


def message(
    folder: Path, recipe: Recipe, features: Features, alter: Callable[[Network], object] = lambda network: None
) -> str:
    network = new_network(recipe, TOWERS, ())
    alter(network)
    with pytest.raises(TrainingDiverged) as failed:
        train(recipe, folder, network, features, rows(10), identity={}, device=torch.device("cpu"))
    return str(failed.value)


def named(text: str) -> list[str]:
    return re.findall(r"item-\d+", text)


def spoil(bad: float) -> Callable[[Network], object]:
    """What goes wrong inside the network for one item: every batch without it is fine."""

    def alter(network: Network) -> None:
        network.text_input.register_forward_pre_hook(  # type: ignore[operator]  # of the baseline
            lambda _, inputs: torch.where(inputs[0][:, :1] == MARK, torch.full_like(inputs[0], bad), inputs[0])
        )

    return alter


def marked(count: int = ROWS, *, ids: bool = True, row: int = BAD) -> Features:
    features = rows(count, ids=ids)
    features.texts[row, 0] = MARK
    return features


@pytest.mark.parametrize("side", ["images", "texts"])
def test_an_item_whose_features_are_not_finite_is_named_before_the_first_step(tmp_path: Path, side: str) -> None:
    """With labels its codes would spoil the banks, and with scaling every row: no batch could be blamed."""
    features = rows(ROWS, labels=True)
    getattr(features, side)[BAD, 2] = float("nan")
    text = message(tmp_path, recipe(), features)
    assert named(text) == [f"item-{BAD:03}"]
    assert "expected finite features of every training item, found 1 without" in text


def test_a_loss_that_is_not_finite_names_its_batch(tmp_path: Path) -> None:
    text = message(tmp_path, recipe(), marked(), spoil(float("nan")))
    assert re.search(r"step [0-4] \(epoch 1\): expected a finite loss, found \w+ = nan", text)
    assert len(named(text)) == len(set(named(text))) == BATCH
    assert f"item-{BAD:03}" in named(text)
    assert "lower optimiser.rate" in text


def test_the_term_and_the_step_are_those_of_the_failure(tmp_path: Path) -> None:
    """The step counts from the first of the run: with one batch an epoch, one that fails in the second is step 1."""
    features = rows(BATCH)
    steps: list[float] = []
    network = new_network(recipe(), TOWERS, ())

    def spoil_texts(done: float) -> None:
        steps.append(done)
        features.texts[3] = float("nan")

    with pytest.raises(TrainingDiverged, match=r"step 1 \(epoch 2\): expected a finite loss, found quantisation = nan"):
        train(
            recipe(),
            tmp_path,
            network,
            features,
            rows(10),
            identity={},
            device=torch.device("cpu"),
            advance=spoil_texts,
        )
    assert steps == [1]


def test_rows_without_ids_are_named_by_number(tmp_path: Path) -> None:
    text = message(tmp_path, recipe(), marked(ids=False), spoil(float("nan")))
    assert re.search(rf"The batch: rows \[.*\b{BAD}\b.*\]", text)


@pytest.mark.parametrize("algorithm", ["adamw", "bertadam"])
def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step(tmp_path: Path, algorithm: str) -> None:
    started: dict[str, Tensor] = {}
    held: list[Network] = []

    def break_gradient(network: Network) -> None:
        started.update({name: value.clone() for name, value in network.state_dict().items()})
        next(network.parameters()).register_hook(lambda gradient: gradient * float("nan"))
        held.append(network)

    text = message(tmp_path, recipe(f"optimiser.algorithm={algorithm}"), rows(ROWS), break_gradient)
    assert re.search(r"step 0 \(epoch 1\): expected a finite loss, found a gradient of norm nan of \w+ \+ \w+", text)
    assert len(named(text)) == BATCH
    assert all(torch.equal(started[name], value) for name, value in held[0].state_dict().items())


def test_nothing_of_the_epoch_that_failed_is_kept(tmp_path: Path) -> None:
    message(tmp_path, recipe(), marked(), spoil(float("nan")))
    assert not list(tmp_path.glob("checkpoint/*"))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_finite_features_train(tmp_path: Path) -> None:
    network = new_network(recipe(), TOWERS, ())
    trained = train(recipe(), tmp_path, network, rows(ROWS), rows(10), identity={}, device=torch.device("cpu"))
    assert all(value.isfinite().all() for value in trained.network.state_dict().values())
