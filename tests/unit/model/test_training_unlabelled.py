"""Artifacts from data without labels, on the 200-item fixture with the real backbone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model.artifact import load_hasher
from model.errors import ArchiveError
from model.evaluation.codes import encode_codes
from model.images import decode_image
from model.items import ItemArchive, pairs
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, feature_cache: Path) -> Folders:
    home = tmp_path_factory.mktemp("unlabelled")
    return Folders(home / "runs", home / "artifacts", feature_cache)


@pytest.fixture(scope="module")
def unlabelled(archive: ItemArchive) -> ItemArchive:
    bare = ItemArchive.open(archive.path)
    bare.info = dataclasses.replace(archive.info, class_names=())
    bare.items = tuple(dataclasses.replace(item, labels=()) for item in archive.items)
    return bare


@pytest.fixture(scope="module")
def itq_folder(unlabelled: ItemArchive, folders: Folders) -> Path:
    manifest = train_artifact(load_recipe("itq", ["config.bits=[16, 64]"]), unlabelled, "itq", folders, device="cpu")
    return folders.artifacts / manifest.name


def test_itq_finds_the_picture_of_a_title_more_often_than_chance(itq_folder: Path, unlabelled: ItemArchive) -> None:
    hasher = load_hasher(itq_folder, 64, "cpu")
    items = unlabelled.select(("query",))
    images = hasher.encode_images([decode_image(unlabelled.read_image(item)) for item in items]).codes
    texts = hasher.encode_texts([item.texts["title"][0] for item in items]).codes
    distances = np.bitwise_count(texts[:, None] ^ images[None]).sum(2, dtype=np.int64)
    ranks = (distances < distances.diagonal()[:, None]).sum(1)
    assert np.median(ranks) < len(items) / 4  # chance: half of them


def test_its_card_says_that_no_label_was_read(itq_folder: Path) -> None:
    card = (itq_folder / "card.md").read_text()
    assert "| supervision | none: neither labels nor which image belongs to which text |" in card
    assert "retrieval\nwith these codes was not measured" in card


def test_itq_needs_no_split(unlabelled: ItemArchive, folders: Folders) -> None:
    small = ItemArchive.open(unlabelled.path)
    small.info = dataclasses.replace(unlabelled.info, split_seed=None)
    small.items = tuple(dataclasses.replace(item, split="") for item in unlabelled.select(("train",))[:20])
    manifest = train_artifact(load_recipe("itq"), small, "small", folders, device="cpu")
    assert (manifest.data["train"], manifest.data["validation"]) == (20, 0)
    assert manifest.training["validation_map"] is None
    assert "none: no validation split" in (folders.artifacts / "small" / "card.md").read_text()
    assert load_hasher(folders.artifacts / "small", 128, "cpu").encode_texts(["a flag"]).codes.shape == (1, 16)


def test_the_baseline_learns_from_pairs_alone(unlabelled: ItemArchive, folders: Folders) -> None:
    overrides = ["config.bits=[64]", "config.auxiliary_bits=0", "config.width=64", "config.hidden=64"]
    recipe = load_recipe("baseline", [*overrides, "optimiser.epochs=3", "optimiser.batch=50"])
    manifest = train_artifact(recipe, unlabelled, "pairs", folders, device="cpu")
    validation = len(pairs(unlabelled.select(("validation",)), "title"))
    assert manifest.training["supervision"] == "image-text pairs alone, no labels"
    assert manifest.training["validation_map"] > 2 / validation
    assert load_hasher(folders.artifacts / "pairs", 64, "cpu").bits == 64


def test_without_labels_there_is_nothing_to_evaluate(itq_folder: Path, unlabelled: ItemArchive) -> None:
    with pytest.raises(ArchiveError, match=r"has no labels, .* searching needs none"):
        encode_codes(load_hasher(itq_folder, 64, "cpu"), unlabelled)
