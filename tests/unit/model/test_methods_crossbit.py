"""``crossbit``: what each part adds, what guesses do to the input and to the target, and the contract of lone codes."""

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
from model.methods.crossbit import Config, Network, Objective
from model.methods.protocol import Features
from model.training.ablation import ablation_of
from model.training.recipe import load_recipe
from model.training.run import new_network, train

SMALL = (*tiny_losses.SMALL, "config.auxiliary_bits=24", "config.hidden=32", "config.landmarks=64")
BARE = ("config.odds=false", "config.guessed=0")


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


@pytest.mark.parametrize("overrides", [(), BARE])
def test_rows_that_were_prepared_are_read_as_they_are_without(backbone: Backbone, overrides: tuple[str, ...]) -> None:
    network = objective(backbone, *overrides)._borrowed[0]
    prepared = network.prepared(rows(20, 1))
    assert (prepared.guesses is None) == bool(overrides)
    for given, known in ((prepared, rows(20, 1)), (prepared.part(slice(3, 9)), rows(20, 1).part(slice(3, 9)))):
        found, expected = network.vectors(given), network.vectors(known)
        assert all(torch.allclose(found[side], expected[side], atol=1e-6) for side in expected)


@pytest.mark.parametrize("overrides", [(), BARE])
def test_its_terms_are_named(backbone: Backbone, overrides: tuple[str, ...]) -> None:
    found = terms(objective(backbone, *overrides))
    assert set(found) == {"contrast", "quantisation"}
    assert all(term.isfinite() and term > 0 for term in found.values())


def test_rounding_of_weight_zero_costs_nothing(backbone: Backbone) -> None:
    assert terms(objective(backbone, "config.quantisation=0"))["quantisation"].item() == 0


def test_without_labels_pairs_alone_teach(backbone: Backbone) -> None:
    made = objective(backbone, of=without_labels(rows(48, 0)))
    assert set(terms(made)) == {"contrast", "quantisation"}
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


def test_what_was_guessed_moves_a_code_where_it_enters(backbone: Backbone) -> None:
    network, features = objective(backbone)._borrowed[0], rows(3, 5).images
    sure, doubtful = torch.eye(4)[:3], torch.full((3, 4), 0.25)
    assert not torch.equal(network.join(network.image, features, sure), network.join(network.image, features, doubtful))
    bare = objective(backbone, *BARE)._borrowed[0]
    assert torch.equal(bare.join(bare.image, features, sure), bare.join(bare.image, features, doubtful))


@pytest.mark.parametrize("guessed", [0.0, 0.3, 1.0])
def test_the_target_is_label_overlap_and_what_guesses_let_expect(backbone: Backbone, guessed: float) -> None:
    made, picked = objective(backbone, f"config.guessed={guessed}"), torch.tensor([3, 7, 8])
    image, text = made.image_guesses[0, picked], made.text_guesses[0, picked]
    found = made._alike(picked, image, text)
    for i, row in enumerate(picked):
        for j, column in enumerate(picked):
            misses = torch.stack([1 - p * q for p, q in zip(image[i], text[j], strict=True)]).prod()
            overlap = made.alike.overlap(row[None], column[None])[0, 0]
            assert found[i, j].item() == pytest.approx(
                ((1 - guessed) * overlap + guessed * (1 - misses)).item(), abs=1e-5
            )


def test_training_rows_enter_with_guesses_that_their_own_label_did_not_make(backbone: Backbone) -> None:
    """With one label changed, the row's own guess stays but for its part in all sigmoids; what is served moves."""
    features = rows(48, 0)
    assert features.labels is not None
    changed = features.labels.clone()
    changed[5] = 1 - changed[5]
    one, other = (objective(backbone, of=dataclasses.replace(features, labels=x)) for x in (features.labels, changed))
    for name in ("image_guesses", "text_guesses"):
        left_out, served = (getattr(one, name) - getattr(other, name)).abs()[:, 5].amax(1)
        assert left_out < 0.1
        assert served > 3 * left_out


@pytest.mark.parametrize(("share", "kind"), [(0.0, 0), (1.0, 1)])
def test_rows_enter_with_guesses_of_the_kind_that_was_asked_for(backbone: Backbone, share: float, kind: int) -> None:
    made, picked = objective(backbone, f"config.served_guesses={share}"), torch.tensor([3, 7])
    image, text = made._guesses(picked, torch.Generator().manual_seed(0))
    assert image is not None
    assert text is not None
    assert torch.equal(image, made.image_guesses[kind, picked])
    assert torch.equal(text, made.text_guesses[kind, picked])
    network, train_rows = made._borrowed
    served = network.read_images(train_rows.images[picked])
    assert torch.allclose(network.join(network.image, train_rows.images[picked], image), served) == (kind == 1)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("config.bits=[12]", "multiples of 8"),
        ("config.auxiliary_bits=16", "auxiliary_bits"),
        ("config.dropout=1.0", "dropout"),
        ("config.input_dropout=-0.1", "input_dropout"),
        ("config.served_guesses=1.5", "served_guesses"),
        ("config.temperature=0.0", "temperature"),
        ("config.landmarks=0", "landmarks"),
        ("config.guessed=1.5", "guessed"),
        ("config.odds=false", "expected odds"),
        ("config.oods=1.0", "oods"),
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
