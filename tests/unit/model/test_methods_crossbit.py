"""``crossbit``: what each part adds, what mixing does to items and to their overlap, and the contract of lone codes."""

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import tiny_clip
import tiny_losses
import torch
from tiny_losses import NAMES, TEXTS, check_alone, rows, run
from torch import Tensor

from encoders.protocol import Backbone
from encoders.registry import load_backbone
from model.artifact import load_hasher, verify_artifact
from model.errors import ModalityError, RecipeError
from model.hasher import Hasher
from model.images import decode_image
from model.items import ItemArchive
from model.methods.crossbit import Config, Mix, Network, Objective
from model.methods.protocol import Features
from model.training.ablation import ablation_of
from model.training.recipe import load_recipe
from model.training.run import new_network, train

SMALL = (*tiny_losses.SMALL, "config.auxiliary_bits=24", "config.hidden=32", "config.bank_rows=20")
BARE = ("config.prompt=false", "config.odds=false")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(tiny_clip.BACKBONE, "cpu")


def without_labels(features: Features) -> Features:
    return dataclasses.replace(features, labels=None)


def objective(backbone: Backbone, *overrides: str, of: Features | None = None) -> Objective:
    recipe = load_recipe("crossbit", [*SMALL, *overrides])
    network = new_network(recipe, backbone, NAMES if of is None or of.labels is not None else ()).eval()
    made = Objective(recipe.config, cast("Network", network), rows(48, 0) if of is None else of)
    made.begin()
    return made


def terms(made: Objective, seed: int = 0) -> dict[str, Tensor]:
    return made.losses(torch.arange(16), torch.Generator().manual_seed(seed))


def test_a_tiny_training_beats_chance_by_far(tmp_path: Path, backbone: Backbone) -> None:
    trained, _ = run(tmp_path, load_recipe("crossbit", [*SMALL, "optimiser.epochs=12"]), backbone)
    labels = rows(20, 1).labels
    assert labels is not None
    assert trained.best_score is not None
    assert trained.best_score > (labels @ labels.T > 0).float().mean().item() + 0.3


def test_a_run_that_was_cut_ends_with_the_same_weights(tmp_path: Path, backbone: Backbone) -> None:
    recipe = load_recipe("crossbit", SMALL)
    whole, _ = run(tmp_path / "whole", recipe, backbone)

    def cut(epochs: float) -> None:
        if epochs > 2.4:
            raise KeyboardInterrupt

    arguments = (rows(48, 0), rows(20, 1))
    device = torch.device("cpu")
    with pytest.raises(KeyboardInterrupt):
        train(
            recipe,
            tmp_path / "cut",
            new_network(recipe, backbone, NAMES),
            *arguments,
            identity={},
            device=device,
            advance=cut,
        )
    again, reports = run(tmp_path / "cut", recipe, backbone)
    assert [report.epoch for report in reports] == [3, 4]
    expected, found = whole.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("override", "left"),
    [
        ("config.inter=0", {"contrast", "info_nce", "quantisation", "inter", "intra"}),
        ("config.mixup=0", {"contrast", "info_nce", "quantisation", "inter", "intra"}),
        ("config.bits=[16]", {"contrast", "info_nce", "quantisation", "inter", "intra"}),
    ],
)
def test_its_terms_are_named(backbone: Backbone, override: str, left: set[str]) -> None:
    found = terms(objective(backbone, override))
    assert set(found) == left
    assert all(term.isfinite() for term in found.values())


@pytest.mark.parametrize("part", ["contrast", "info_nce", "quantisation", "inter", "intra"])
def test_a_part_of_weight_zero_costs_nothing(backbone: Backbone, part: str) -> None:
    assert terms(objective(backbone, f"config.{part}=0"))[part].item() == 0


def test_without_labels_pairs_alone_teach(backbone: Backbone) -> None:
    made = objective(backbone, of=without_labels(rows(48, 0)))
    assert set(terms(made)) == {"contrast", "info_nce", "quantisation"}
    assert not [name for name in made.state_dict() if "guesses" in name]


def test_every_length_learns_from_one_step(backbone: Backbone) -> None:
    made = objective(backbone)
    torch.stack(list(terms(made).values())).sum().backward()
    network = made._borrowed[0]
    assert len(network.heads.heads) == 3
    for head in network.heads.heads.values():
        assert head.weight.grad is not None
        assert head.weight.grad.abs().sum() > 0
    assert network.image.guesses is not None
    assert all(not one.requires_grad for one in network.image.guesses.parameters())


@pytest.mark.parametrize(
    ("overrides", "columns"),
    [((), 32 + 32 + 4), (("config.prompt=false",), 32 + 4), (("config.odds=false",), 32 + 32), (BARE, 32)],
)
def test_what_enters_is_the_features_and_what_was_guessed(
    backbone: Backbone, overrides: tuple[str, ...], columns: int
) -> None:
    overrides = ("config.prompt=true", "config.odds=true", *overrides)
    network = objective(backbone, *overrides)._borrowed[0]
    assert network.image.enter(torch.randn(3, 32), None, network.prompts).shape == (3, columns)


def test_training_rows_enter_with_guesses_that_their_own_label_did_not_make(backbone: Backbone) -> None:
    """With one label changed, the row's own out-of-fold guess stays; what a served input gets moves."""
    features = rows(48, 0)
    assert features.labels is not None
    changed = features.labels.clone()
    changed[5] = 1 - changed[5]
    one, other = (objective(backbone, of=dataclasses.replace(features, labels=x)) for x in (features.labels, changed))
    assert torch.equal(one.image_guesses[0, 5], other.image_guesses[0, 5])
    assert torch.equal(one.text_guesses[0, 5], other.text_guesses[0, 5])
    assert not torch.equal(one.image_guesses[1, 5], other.image_guesses[1, 5])


@pytest.mark.parametrize("kind", [0, 1])
def test_a_row_enters_with_the_guess_that_was_drawn_for_it(backbone: Backbone, kind: int) -> None:
    made, picked = objective(backbone), torch.tensor([3, 7])
    network, train_rows = made._borrowed
    entered = made._enter(picked, torch.full((2, 2), kind, dtype=torch.bool))
    guesses = made.image_guesses[kind, picked]
    assert torch.equal(entered[0], network.image.enter(train_rows.images[picked], guesses, network.prompts))
    served = network.image.enter(train_rows.images[picked], None, network.prompts)
    assert torch.allclose(entered[0], served) == (kind == 1)


def test_mixing_keeps_at_least_half_and_is_the_identity_without_shape() -> None:
    generator, items = torch.Generator().manual_seed(3), torch.randn(40, 5)
    mix = Mix.draw(40, 1.0, generator)
    assert 0.5 <= mix.own.min() < 0.7
    assert 0.9 < mix.own.max() <= 1
    assert sorted(mix.other.tolist()) == list(range(40))
    still = Mix.draw(40, 0.0, generator)
    assert torch.equal(still(items), items)
    overlap = torch.rand(40, 40)
    assert torch.equal(still.overlap(overlap), overlap)


def test_one_draw_is_the_same_from_the_same_generator() -> None:
    one, other = (Mix.draw(9, 0.3, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one.own, other.own)
    assert torch.equal(one.other, other.other)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("config.bits=[12]", "multiples of 8"),
        ("config.auxiliary_bits=16", "auxiliary_bits"),
        ("config.dropout=1.0", "dropout"),
        ("config.mixup=-1.0", "mixup"),
        ("config.served_guesses=1.5", "served_guesses"),
        ("config.temperature=0.0", "temperature"),
        ("config.bank_rows=0", "bank_rows"),
        ("config.mixxup=1.0", "mixxup"),
    ],
)
def test_a_contradiction_is_named(override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe("crossbit", [*SMALL, override])


def test_the_shipped_recipe_serves_the_lengths_of_all_others() -> None:
    recipe = load_recipe("crossbit")
    assert isinstance(recipe.config, Config)
    assert recipe.config.bits == (16, 32, 64, 128)


@pytest.mark.parametrize("row", ablation_of("crossbit").rows)
def test_each_row_of_the_ablation_is_a_recipe_of_its_own(row: str) -> None:
    [(_, recipe)] = ablation_of("crossbit").recipes(row, [])
    assert (recipe.config == load_recipe("crossbit").config) == (row == "full")


# served: the contract of lone codes


@pytest.fixture(scope="module", params=["whole", "without guesses"])
def hasher(request: pytest.FixtureRequest, archive: ItemArchive, tmp_path_factory: pytest.TempPathFactory) -> Hasher:
    folders = tiny_clip.folders_in(tmp_path_factory.mktemp("home"))
    parts = BARE if request.param == "without guesses" else ()
    overrides = (*SMALL, *parts, "optimiser.batch=50", "optimiser.epochs=2")
    tiny_clip.train_tiny(archive, "crossbit", overrides, "tiny", folders)
    assert verify_artifact(folders.artifacts / "tiny", "cpu").lengths == (16, 64)
    return load_hasher(folders.artifacts / "tiny", 64, "cpu", folders.cache)


def test_a_code_is_that_of_its_own_input_alone_in_any_batch_and_order(hasher: Hasher, archive: ItemArchive) -> None:
    check_alone(hasher, [decode_image(archive.read_image(item)) for item in archive.items[:4]])


def test_it_makes_no_code_of_a_pair(hasher: Hasher, archive: ItemArchive) -> None:
    with pytest.raises(ModalityError):
        hasher.encode_pairs([decode_image(archive.read_image(archive.items[0]))], ["a dog"])


def test_no_argument_of_the_hasher_could_hold_a_label(hasher: Hasher) -> None:
    with pytest.raises(TypeError):
        hasher.encode_texts(TEXTS[:1], np.ones((1, 29)))  # type: ignore[call-arg]
