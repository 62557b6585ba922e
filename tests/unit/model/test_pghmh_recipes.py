"""The recipes for the published data sets: the released values, and small trainings of the same parts."""

from pathlib import Path

import pytest
import tiny_clip

from model.artifact import load_hasher
from model.hasher import Modality
from model.items import ItemArchive
from model.training.recipe import load_recipe

PUBLISHED = ("pghmh-mirflickr25k", "pghmh-nuswide", "pghmh-coco")
SMALL = (*tiny_clip.SERVED, "config.image_views=2", "optimiser.epochs=1")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name: str) -> None:
    recipe = load_recipe(name)
    config, optimiser = recipe.config, recipe.optimiser
    assert recipe.backbone == "clip:ViT-B-16-quickgelu:metaclip_fullcc"
    assert (config.tuned_blocks, config.auxiliary_bits, config.context) == (2, 128, 16)
    assert (config.align, config.anchor, config.likelihood, config.auxiliary) == (5.0, 5.0, 5.005, 20.0)
    assert (optimiser.algorithm, optimiser.epochs, optimiser.batch, optimiser.clip_norm) == ("bertadam", 100, 128, 1.0)
    rates = [optimiser.rate * share for share in (config.tuned_rate, config.fusion_rate, 1)]
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3])


def test_a_scaled_down_one_trains_and_serves(archive: ItemArchive, tmp_path: Path) -> None:
    folders = tiny_clip.folders_in(tmp_path)
    manifest = tiny_clip.train_tiny(archive, PUBLISHED[0], SMALL, "small", folders)
    assert manifest.training["validation_directions"][0] == "pair_to_pair"
    assert load_hasher(folders.artifacts / "small", 16, "cpu").modalities == set(Modality)


def test_the_shipped_ones_are_the_two_label_free_forms() -> None:
    assert load_recipe("pghmh").config.predicted_anchors
    assert not load_recipe("pghmh-lite").config.predicted_anchors
    assert not load_recipe("pghmh-lite").config.token_attention
