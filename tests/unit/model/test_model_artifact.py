"""Artifacts and their hasher, trained for two epochs on the 200-item fixture with the real backbone."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from encoders.encode import FeatureEncoder
from model.artifact import FastPath, load_hasher, load_hashers
from model.errors import ArchiveError, ArtifactError, ModalityError, RecipeError
from model.evaluation.codes import encode_codes
from model.evaluation.results import Result, as_json, as_table, evaluate_codes
from model.hasher import Hasher, Modality
from model.images import decode_image
from model.items import ItemArchive, multi_hot
from model.manifest import Manifest, read_manifest
from model.margins import count_flips
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe

BITS = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, feature_cache: Path) -> Folders:
    home = tmp_path_factory.mktemp("home")
    return Folders(home / "runs", home / "artifacts", feature_cache)


@pytest.fixture(scope="module")
def manifest(archive: ItemArchive, folders: Folders) -> Manifest:
    overrides = ["config.bits=[16, 64]", "config.width=32", "config.hidden=32", "optimiser.batch=50"]
    recipe = load_recipe("baseline", [*overrides, "optimiser.epochs=3"])
    return train_artifact(recipe, archive, "tiny", folders, device="cpu")


@pytest.fixture(scope="module")
def folder(manifest: Manifest, folders: Folders) -> Path:
    return folders.artifacts / manifest.name


@pytest.fixture(scope="module")
def hasher(folder: Path) -> Hasher:
    return load_hasher(folder, BITS, "cpu")


@pytest.fixture(scope="module")
def cached(folder: Path, folders: Folders) -> Hasher:
    """The same hasher over the features that training left on disk."""
    return load_hasher(folder, BITS, "cpu", folders.cache)


@pytest.fixture(scope="module")
def result(cached: Hasher, archive: ItemArchive) -> Result:
    return evaluate_codes(encode_codes(cached, archive))


@pytest.fixture(scope="module")
def images(archive: ItemArchive) -> list[Image.Image]:
    return [decode_image(archive.read_image(item)) for item in archive.items[:5]]


def test_it_is_a_hasher(hasher: Hasher) -> None:
    assert isinstance(hasher, Hasher)
    assert hasher.modalities == {Modality.IMAGE, Modality.TEXT}
    assert hasher.bits == BITS


def test_there_is_one_fingerprint_for_each_length(manifest: Manifest) -> None:
    assert manifest.lengths == (16, 64)
    assert len(set(manifest.fingerprints.values())) == 2


def test_hashers_of_several_lengths_are_those_of_each(folder: Path, images: list[Image.Image]) -> None:
    for one in load_hashers(folder, [16, 64], "cpu"):
        alone = load_hasher(folder, one.bits, "cpu")
        assert one.fingerprint == alone.fingerprint
        assert np.array_equal(one.encode_images(images).codes, alone.encode_images(images).codes)


def test_what_one_length_has_read_another_finds_in_the_cache(
    folder: Path, images: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[Image.Image] = []
    forward = FeatureEncoder._image_forward

    def recorded(encoder: FeatureEncoder, missing: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        passed.extend(missing)
        return forward(encoder, missing)

    monkeypatch.setattr(FeatureEncoder, "_image_forward", recorded)
    for hasher in load_hashers(folder, [16, 64], "cpu", tmp_path):
        hasher.encode_images(images)
    assert len(passed) == len(images)


def test_fast_codes_are_not_taken_for_those_of_the_artifact(folder: Path, hasher: Hasher) -> None:
    fast = load_hasher(folder, BITS, "cpu", fast=FastPath())
    assert fast.fingerprint != hasher.fingerprint
    texts = ["red apple", "flag", "a dog", "two trees"]
    assert count_flips(hasher.encode_texts(texts), fast.encode_texts(texts).codes).per_million < 100_000


def test_codes_are_the_same_alone_and_in_a_batch_in_any_order(hasher: Hasher, images: list[Image.Image]) -> None:
    texts = ["red apple", "flag", "a dog"]
    for encode, inputs in ((hasher.encode_images, images), (hasher.encode_texts, texts)):
        together = encode(inputs)
        alone = [encode([value]) for value in reversed(inputs)][::-1]
        assert np.array_equal(together.codes, np.concatenate([one.codes for one in alone]))
        assert np.array_equal(together.margins, np.concatenate([one.margins for one in alone]))


def test_codes_are_the_same_with_and_without_the_cache(
    cached: Hasher, hasher: Hasher, images: list[Image.Image]
) -> None:
    assert np.array_equal(cached.encode_images(images).codes, hasher.encode_images(images).codes)
    assert np.array_equal(cached.encode_texts(["flag"]).codes, hasher.encode_texts(["flag"]).codes)


def test_margins_and_bits_come_from_the_same_logits(hasher: Hasher, images: list[Image.Image]) -> None:
    batch = hasher.encode_images(images)
    assert batch.codes.shape == (5, BITS // 8)
    assert batch.margins.shape == (5, BITS)
    assert (batch.margins >= 0).all()


def test_truncated_tokens_are_told(hasher: Hasher) -> None:
    assert hasher.encode_texts(["short", "word " * 3000]).truncated_tokens.tolist() == [0, 3000 - 8 * 254]


def test_no_inputs_give_an_empty_batch(hasher: Hasher) -> None:
    assert hasher.encode_images([]).codes.shape == (0, BITS // 8)
    assert hasher.encode_texts([]).margins.shape == (0, BITS)


def test_pairs_are_refused(hasher: Hasher, images: list[Image.Image]) -> None:
    with pytest.raises(ModalityError, match="fuses image and text"):
        hasher.encode_pairs(images[:1], ["x"])


def test_a_length_that_was_not_trained_is_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"codes of \(16, 64\) bits, found a request for 32"):
        load_hasher(folder, 32, "cpu")


def test_an_unknown_artifact_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact named 'nonesuch'; known: tiny"):
        read_manifest(folder.parent / "nonesuch")


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target / "tiny")
    return target / "tiny"


def test_exchanged_weights_are_found_by_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    altered = copy(folder, tmp_path)
    weights = load_file(altered / "weights.safetensors")
    weights["heads.heads.16.bias"][0] += 1
    save_file(weights, altered / "weights.safetensors")
    with pytest.raises(ArtifactError, match="expected fingerprint"):
        load_hasher(altered, BITS, "cpu")


def test_truncated_weights_are_named(folder: Path, tmp_path: Path) -> None:
    altered = copy(folder, tmp_path)
    (altered / "weights.safetensors").write_bytes((altered / "weights.safetensors").read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"weights\.safetensors does not fit"):
        load_hasher(altered, BITS, "cpu")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}'])
def test_a_damaged_manifest_is_named(folder: Path, tmp_path: Path, text: str) -> None:
    altered = copy(folder, tmp_path)
    (altered / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_manifest(altered)


def test_a_newer_manifest_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    altered = copy(folder, tmp_path)
    raw = json.loads((altered / "manifest.json").read_text())
    (altered / "manifest.json").write_text(json.dumps({**raw, "format": 99}))
    with pytest.raises(ArtifactError, match="format 99, this version reads 1; upgrade"):
        read_manifest(altered)


def test_the_card_names_fingerprints_and_licences(folder: Path, manifest: Manifest) -> None:
    card = (folder / "card.md").read_text()
    assert manifest.fingerprints["16"] in card
    assert "Apache-2.0" in card


def test_training_again_gives_the_same_fingerprints(archive: ItemArchive, folders: Folders, manifest: Manifest) -> None:
    recipe = load_recipe(str(folders.runs / "tiny" / "recipe.toml"))
    assert train_artifact(recipe, archive, "tiny", folders, device="cpu").fingerprints == manifest.fingerprints


def test_unknown_captions_are_refused(archive: ItemArchive, folders: Folders) -> None:
    with pytest.raises(RecipeError, match="expected one of title, full, found 'tags'"):
        train_artifact(load_recipe("baseline", ["captions=tags"]), archive, "x", folders, device="cpu")


def test_evaluation_gives_both_directions_and_databases(result: Result) -> None:
    for side, size in ((result.whole, 150), (result.unseen, 50)):
        assert set(side) == {"image_to_image", "image_to_text", "text_to_image", "text_to_text"}
        assert {figures.database for figures in side.values()} == {size}
        assert all(figures.queries + figures.left_out == 30 for figures in side.values())
        assert all(0 < figures.chance < figures.map_all.expected <= 1 for figures in side.values())


def test_chance_is_the_share_of_relevant_items(result: Result, archive: ItemArchive) -> None:
    queries, database = archive.select(("query",)), archive.database()
    names = archive.info.class_names
    relevant = multi_hot(queries, names) @ multi_hot(database, names).T > 0
    figures = result.whole["image_to_text"]
    assert figures.chance == pytest.approx(relevant[relevant.any(1)].mean())


def test_labels_do_not_reach_the_codes(cached: Hasher, archive: ItemArchive) -> None:
    """The leak guard: with labels permuted among the items, relevance changes and the codes do not."""
    seen: list[bytes] = []

    class Recorder:
        bits, fingerprint, modalities, device = cached.bits, cached.fingerprint, cached.modalities, cached.device
        encode_pairs = cached.encode_pairs

        def encode_images(self, images: list[Image.Image]) -> object:
            batch = cached.encode_images(images)
            seen.append(batch.codes.tobytes())
            return batch

        def encode_texts(self, texts: list[str]) -> object:
            batch = cached.encode_texts(texts)
            seen.append(batch.codes.tobytes())
            return batch

    labels = [item.labels for item in archive.items]
    moved = [dataclasses.replace(item, labels=labels[index - 7]) for index, item in enumerate(archive.items)]
    permuted = ItemArchive.open(archive.path)
    permuted.items = tuple(moved)
    scores = [evaluate_codes(encode_codes(Recorder(), one, workers=1)).mean for one in (archive, permuted)]  # type: ignore[arg-type]  # records bytes
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]
    assert scores[0] != scores[1]


def test_evaluation_without_a_query_split_is_refused(hasher: Hasher, archive: ItemArchive) -> None:
    bare = ItemArchive.open(archive.path)
    bare.items = archive.select(("train",))
    with pytest.raises(ArchiveError, match="expected a query split"):
        encode_codes(hasher, bare)


def test_figures_are_shown_as_json_and_as_a_table(result: Result) -> None:
    shown = as_json([result])["lone"]["image_to_text"]["16"]
    assert shown["map_all"]["expected"] == result.whole["image_to_text"].map_all.expected
    assert shown["unseen"]["map_all"]["expected"] == result.unseen["image_to_text"].map_all.expected
    headings, rows = as_table([result])
    assert {len(row) for row in rows} == {len(headings)}
    directions = ["image_to_image", "image_to_text", "text_to_image", "text_to_text"]
    assert [row[3] for row in rows] == [*directions, "mean of both cross-modal"]


@pytest.mark.parametrize("name", ["../x", "", "Demo", "a/b", "-x", "x" * 65])
def test_a_name_that_could_leave_its_folder_is_refused(archive: ItemArchive, folders: Folders, name: str) -> None:
    with pytest.raises(RecipeError, match="expected a name of 1 to 64 characters"):
        train_artifact(load_recipe("baseline"), archive, name, folders, device="cpu")
