"""ITQ on small features: an orthonormal projection whose signs keep neighbours together, and no label in sight."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.errors import RecipeError
from model.methods.itq import Config, Network, fit
from model.methods.protocol import Features
from model.training.closed_form import solve
from model.training.methods import closed_form
from model.training.recipe import load_recipe
from model.training.validation import validate

DIM = 16
CONFIG = Config(bits=(8, 16))


def rows(count: int, seed: int) -> Features:
    """Four classes in a joint space; images have further columns, and the modalities have a gap between them."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % 4
    centres = torch.randn(4, DIM, generator=torch.Generator().manual_seed(99))
    images, texts = (centres[classes] + 0.4 * torch.randn(count, DIM, generator=generator) for _ in range(2))
    extra = 100 * torch.randn(count, 5, generator=generator)
    labels = torch.nn.functional.one_hot(classes, 4).float()
    return Features(torch.cat([images + 3, extra], dim=1), texts - 3, labels)


def quantisation_error(network: Network, features: Features, bits: int) -> float:
    """Mean squared distance of the logits to their signs."""
    logits = torch.cat([network.image_logits(features.images, bits), network.text_logits(features.texts, bits)])
    return float((logits - logits.sign()).square().mean())


def projections(network: Network) -> list[Tensor]:
    return [network.projection(bits) for bits in CONFIG.bits]


def test_the_projection_has_orthonormal_columns() -> None:
    for projection in projections(fit(CONFIG, rows(60, 0), seed=0)):
        assert torch.allclose(projection.T @ projection, torch.eye(projection.shape[1]), atol=1e-5)


def test_its_columns_span_the_leading_principal_axes() -> None:
    train = rows(60, 0)
    images, texts = train.images[:, :DIM], train.texts
    pooled = torch.cat([images - images.mean(0), texts - texts.mean(0)])
    axes = torch.linalg.svd(pooled, full_matrices=False).Vh[:8].T
    projection = fit(CONFIG, train, seed=0).projection(8)
    assert torch.allclose(axes @ axes.T, projection @ projection.T, atol=1e-4)


def test_rotating_brings_logits_closer_to_their_signs() -> None:
    train = rows(60, 0)
    errors = [
        quantisation_error(fit(dataclasses.replace(CONFIG, iterations=count), train, seed=0), train, 16)
        for count in (0, 1, 10, 50)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_codes_retrieve_across_the_gap_between_the_modalities() -> None:
    train, validation = rows(80, 0), rows(40, 1)
    assert validate(fit(CONFIG, train, seed=0), validation, train, 16).mean > 0.9


def test_further_image_columns_are_ignored() -> None:
    train = rows(60, 0)
    moved = dataclasses.replace(train, images=torch.cat([train.images[:, :DIM], -train.images[:, DIM:]], dim=1))
    expected, found = fit(CONFIG, train, seed=0), fit(CONFIG, moved, seed=0)
    assert torch.equal(expected.image_logits(train.images, 8), found.image_logits(moved.images, 8))


def test_the_seed_decides_the_rotation() -> None:
    train = rows(60, 0)
    one, same, other = (fit(CONFIG, train, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(projections(one), projections(same), strict=True))
    assert not torch.equal(one.projection(8), other.projection(8))


def test_no_label_reaches_it(tmp_path: Path) -> None:
    seen: list[Tensor | None] = []

    def recording(config: Config, train: Features, seed: int) -> Network:
        seen.append(train.labels)
        return fit(config, train, seed)

    recipe = load_recipe("itq", ["config.bits=[8]"])
    solved = solve(recording, recipe, tmp_path, rows(40, 0), rows(20, 1), identity={})
    assert seen == [None]
    assert solved.best_epoch is None
    assert solved.best_score is not None


def test_without_validation_rows_there_is_no_score(tmp_path: Path) -> None:
    train = rows(40, 0)
    solved = solve(fit, load_recipe("itq", ["config.bits=[8]"]), tmp_path, train, train.part(slice(0)), identity={})
    assert solved.best_score is None


def test_another_recipe_does_not_take_over_a_run(tmp_path: Path) -> None:
    train = rows(40, 0)
    solve(fit, load_recipe("itq", ["config.bits=[8]"]), tmp_path, train, train, identity={})
    with pytest.raises(RecipeError, match=r"recipe\.toml is of another run"):
        solve(fit, load_recipe("itq", ["config.bits=[16]"]), tmp_path, train, train, identity={})


def test_codes_longer_than_the_joint_space_are_refused() -> None:
    with pytest.raises(RecipeError, match="expected at most 16, the width of the backbone's joint space, found 24"):
        fit(Config(bits=(24,)), rows(40, 0), seed=0)


def test_one_item_is_too_few() -> None:
    with pytest.raises(RecipeError, match="at least 2 training items, found 1"):
        fit(CONFIG, rows(1, 0), seed=0)


def test_fewer_items_than_bits_still_give_a_projection() -> None:
    network = fit(CONFIG, rows(3, 0), seed=0)
    assert all(projection.isfinite().all() for projection in projections(network))


@pytest.mark.parametrize(
    "override", [f"config.{one}" for one in ("bits=[12]", "bits=[]", "bits=[8, 8]", "iterations=-1")]
)
def test_a_config_that_makes_no_sense_is_refused(override: str) -> None:
    with pytest.raises(RecipeError, match="expected"):
        load_recipe("itq", [override])


@pytest.mark.parametrize("override", ["optimiser.epochs=3", "selection.bits=16"])
def test_a_closed_form_has_no_table_about_epochs(override: str) -> None:
    with pytest.raises(RecipeError, match="itq is solved in closed form and has no such table"):
        load_recipe("itq", [override])


def test_its_resolved_recipe_is_read_back(tmp_path: Path) -> None:
    recipe = load_recipe("itq", ["config.bits=[16, 24]", "seed=3"])
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert load_recipe(str(path)) == recipe
    assert "optimiser" not in recipe.to_toml()


def test_it_is_solved_in_closed_form_and_baseline_is_not() -> None:
    assert closed_form("itq") is not None
    assert closed_form("baseline") is None
